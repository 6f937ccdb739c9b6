"""Which pack types the nodes of this version serve."""

from __future__ import annotations

from importlib import import_module

import pytest

from packs.table import TABLE


def serves(pack_type: int) -> bool:
    """Whether a node has a handler for it."""
    row = TABLE.get(pack_type)
    if row is None or row.owner is None:
        return False
    if row.owner == "broker":
        return row.request is not None
    try:
        module = import_module(f"nodes.{row.owner}")
    except ImportError:
        return False
    node = getattr(module, f"{row.owner.title()}Node", None)
    functions = [function for base in getattr(node, "__mro__", ()) for function in vars(base).values()]
    handlers = [getattr(function, "__handles__", None) for function in functions]
    return any(found is not None and found[0] == pack_type for found in handlers)


def needs(*pack_types: int) -> pytest.MarkDecorator:
    """Skip a test where one of these is not served."""
    absent = [pack_type for pack_type in pack_types if not serves(pack_type)]
    return pytest.mark.skipif(bool(absent), reason=f"no node serves {absent}")
