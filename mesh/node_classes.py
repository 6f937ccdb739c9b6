"""Finds the class of a node kind: the one Node subclass defined in module `<package>.<kind>`, or `pkg.mod:Class`.

Importing a node module runs the project's code, so whatever it raises becomes the text of a `LookupError`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from types import ModuleType

from mesh.node import Node
from mesh.problems import suggest


def find(package: str, kind: str) -> type[Node]:
    """The class of `kind`. Raises `LookupError` with a text for people."""
    name = f"{package}.{kind}"
    if not _exists(package):
        raise LookupError(f'unknown node "{kind}": there is no Python package "{package}" (see [mesh] package)')
    if not _exists(name):
        raise LookupError(f'unknown node "{kind}"' + suggest(kind, _modules(package), list_all=False))
    module = _import(name)
    found = [
        thing for thing in vars(module).values()
        if _is_node(thing) and thing.__module__ == name and not inspect.isabstract(thing)
    ]  # fmt: skip
    if len(found) == 1:
        return found[0]  # type: ignore[no-any-return]
    if not found:
        raise LookupError(f'unknown node "{kind}": module {name} defines no Node class')
    names = ", ".join(cls.__name__ for cls in found)
    raise LookupError(f'node "{kind}": module {name} defines several Node classes ({names}); set class = "{name}:…"')


def named(path: str) -> type[Node]:
    """The class at `pkg.mod:Class`. Raises `LookupError` with a text for people."""
    module_name, separator, class_name = path.partition(":")
    if not separator or not class_name or not module_name:
        raise LookupError(f'class: expected "package.module:Class", got "{path}"')
    if not _exists(module_name):
        raise LookupError(f'class: no module "{module_name}"')
    module = _import(module_name)
    cls = getattr(module, class_name, None)
    if cls is None:
        raise LookupError(f'class: no "{class_name}" in module {module_name}' + suggest(class_name, _nodes(module)))
    if not _is_node(cls):
        raise LookupError(f"class: {path} is not a subclass of mesh.node.Node")
    return cls  # type: ignore[no-any-return]


def _is_node(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, Node) and thing is not Node


def _nodes(module: ModuleType) -> list[str]:
    return [name for name, thing in vars(module).items() if _is_node(thing)]


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a parent is missing or is no package
        return False


def _modules(package: str) -> list[str]:
    """Names of modules in the package, for suggestions; not all of them are nodes."""
    return [module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)]


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        text = " ".join(str(error).split())
        raise LookupError(f"module {name} cannot be imported: {type(error).__name__}: {text}") from error
