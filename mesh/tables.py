"""From a table of the topology to a msgspec Struct: unknown keys, wrong types and wrong values, all of them at once.

A Struct may define `problems(self) -> Iterable[tuple[key, text]]` for what its types do not say. Values come from the
file, or from the environment where it overrides them; each problem names the place that its value came from.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from mesh.problems import ENVIRONMENT, Problem, suggest
from mesh.toml_positions import Positions

S = TypeVar("S", bound=msgspec.Struct)

PREFIX = "IMESH_"
"""Begins every environment variable that overrides a key: IMESH_<TABLE>_<KEY>."""


class Report:
    """Collects problems of one file."""

    def __init__(self, source: str, positions: Positions) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._positions = positions
        self._overrides: dict[tuple[str, ...], str] = {}

    def line(self, *path: str) -> int | None:
        """The line of a table or key, else of what encloses it."""
        return self._positions.line(path)

    def overridden(self, path: tuple[str, ...], variable: str) -> None:
        """From now on, problems of this key are those of an environment variable."""
        self._overrides[path] = variable

    def add(self, table: str, key: str, text: str) -> None:
        """A problem of `key` in `table`, or of the table itself when `key` is empty."""
        path = (*table.split("."), key) if key else tuple(table.split("."))
        if path in self._overrides:
            self.environment(f"{self._overrides[path]}: {text}")
        else:
            self.problems.append(Problem(self._positions.line(path), table, text, self._source))

    def top(self, key: str, text: str) -> None:
        """A problem of what stands outside of all tables."""
        self.problems.append(Problem(self._positions.line((key,)), "", text, self._source))

    def environment(self, text: str) -> None:
        """A problem of an environment variable."""
        self.problems.append(Problem(None, "", text, ENVIRONMENT))


def read_table(report: Report, table: str, values: Any, struct: type[S]) -> S | None:
    """`values` as `struct`; None when something is wrong with them, which `report` then tells."""
    if not isinstance(values, dict):
        report.add(table, "", "must be a table")
        return None
    before = len(report.problems)
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for key in values:
        if key not in fields:
            report.add(table, key, f'unknown key "{key}"' + suggest(key, fields))
    found: dict[str, Any] = {}
    whole = True
    for key, field in fields.items():
        if key in values:
            try:
                found[field.name] = msgspec.convert(values[key], field.type)
            except msgspec.ValidationError as error:
                report.add(table, key, f"{key}: {_plain(str(error))}")
                whole = whole and not field.required
        elif field.required:
            report.add(table, "", f'"{key}" is missing')
            whole = False
    if not whole:
        return None
    try:
        settings = struct(**found)
    except ValueError as error:  # from a __post_init__
        report.add(table, "", str(error))
        return None
    for key, text in getattr(settings, "problems", list)():
        report.add(table, key, f"{key}: {text}" if key else text)
    return settings if len(report.problems) == before else None


def _plain(text: str) -> str:
    """msgspec's text without its path and quotes: expected int, got str."""
    text = re.sub(r" - at `[^`]*`", "", text).replace("`", "")
    return text[:1].lower() + text[1:]


def override(
    report: Report, tables: Mapping[str, dict[str, Any]], structs: Mapping[str, type[msgspec.Struct]],
    environ: Mapping[str, str], reserved: frozenset[str],
) -> None:  # fmt: skip
    """Put the values of IMESH_<TABLE>_<KEY> variables into `tables`. `structs` names the tables that can have some."""
    by_prefix = {f"{PREFIX}{name.upper().replace('.', '_').replace('-', '_')}_": name for name in structs}
    for variable in sorted(v for v in environ if v.startswith(PREFIX) and v not in reserved):
        prefixes = [prefix for prefix in by_prefix if variable.startswith(prefix)]
        if not prefixes:
            shapes = [prefix + "…" for prefix in by_prefix]
            report.environment(f"{variable}: unknown variable" + suggest(variable, shapes, quote="{}"))
            continue
        prefix = max(prefixes, key=len)
        name = by_prefix[prefix]
        fields = {field.encode_name: field for field in msgspec.structs.fields(structs[name])}
        key = variable.removeprefix(prefix).lower()
        if key not in fields:
            known = [prefix + field.upper() for field in fields]
            report.environment(f"{variable}: unknown variable" + suggest(variable, known, quote="{}"))
            continue
        tables[name][key] = _environment_value(environ[variable], fields[key].type)
        report.overridden((*name.split("."), key), variable)


def _environment_value(text: str, kind: Any) -> Any:
    """A TOML value when `text` is one, else the text itself. A key of type str takes bare text as it is."""
    if "\n" in text or (kind is str and not text.startswith(('"', "'"))):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
