"""Writes the tables of the docs that restate the code: settings, pack types, payloads, codes, routes.

    python docs/reference.py           rewrite the generated parts (make docs)
    python docs/reference.py --check   exit 1 when a part is not what the code says (a test runs this)

A generated part stands between `<!-- NAME -->` and `<!-- /NAME -->` in a Markdown file.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from mesh.topology import Group, Host, MeshSettings  # noqa: E402
from nodes.auth import AuthSettings  # noqa: E402
from nodes.chat import ChatSettings  # noqa: E402
from nodes.group import GroupSettings  # noqa: E402
from nodes.hook_settings import BeforeSend, Endpoint, HooksSettings  # noqa: E402
from nodes.msgop import MsgopSettings  # noqa: E402
from nodes.push_settings import PushSettings  # noqa: E402
from nodes.rest.archived import Archived  # noqa: E402
from nodes.rest.classic import Classic  # noqa: E402
from nodes.rest.erasures import ErasureRoutes  # noqa: E402
from nodes.rest.events import Events  # noqa: E402
from nodes.rest.groups import Groups  # noqa: E402
from nodes.rest.messages import Messages  # noqa: E402
from nodes.rest.people import Friends, People, Users  # noqa: E402
from nodes.rest.pushing import Pushing  # noqa: E402
from nodes.rest.sessions import Sessions  # noqa: E402
from nodes.rest.settings import HttpSettings  # noqa: E402
from nodes.rest.system import System  # noqa: E402
from nodes.retention import OlapSettings  # noqa: E402
from nodes.settings import BrokerSettings  # noqa: E402
from nodes.social import UserSettings  # noqa: E402
from nodes.words import WordSettings  # noqa: E402
from packs.codes import DESCRIPTIONS, Code  # noqa: E402
from packs.table import TABLE  # noqa: E402
from store.settings import StoreSettings  # noqa: E402

SETTINGS: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "mesh": ("[mesh]", MeshSettings),
    "host": ("[host.NAME]", Host),
    "process": ("[process.GROUP]", Group),
    "broker": ("[node.broker]", BrokerSettings),
    "chat": ("[node.chat]", ChatSettings),
    "group": ("[node.group]", GroupSettings),
    "msgop": ("[node.msgop]", MsgopSettings),
    "olap": ("[node.olap]", OlapSettings),
    "user": ("[node.user]", UserSettings),
    "http": ("[node.http]", HttpSettings),
    "push": ("[push]", PushSettings),
    "hooks": ("[hooks]", HooksSettings),
    "endpoint": ("[hooks.endpoint.NAME]", Endpoint),
    "before_send": ("[hooks.before_send]", BeforeSend),
    "words": ("[words]", WordSettings),
    "auth": ("[auth]", AuthSettings),
    "store": ("[store]", StoreSettings),
}


def field_docs(struct: type) -> dict[str, str]:
    """The strings that stand under the fields of a class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(struct))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        is_field = isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        if is_field and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[before.target.id] = " ".join(str(after.value.value).split())  # type: ignore[attr-defined]
    return found


def default_of(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value: Any = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()  # type: ignore[operator]
    if isinstance(value, msgspec.Struct):
        return "as below"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def settings_table(struct: type[msgspec.Struct]) -> Iterator[str]:
    docs = field_docs(struct)
    yield "| key | default | meaning |"
    yield "| --- | --- | --- |"
    for field in msgspec.structs.fields(struct):
        yield f"| `{field.name}` | {default_of(field)} | {docs.get(field.name, '').replace('|', chr(92) + '|')} |"


def types_table() -> Iterator[str]:
    yield "| type | name | request | answer | push | node | order |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in TABLE.values():
        structs = [s.__name__ if s is not None else "" for s in (row.request, row.response, row.push)]
        yield f"| {row.number} | {row.name} | {' | '.join(structs)} | {row.owner or ''} | {row.key} |"


def payloads_table() -> Iterator[str]:
    seen: dict[type, None] = {}

    def visit(struct: Any) -> None:
        if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)) or struct in seen:
            return
        seen[struct] = None
        for hint in inspect.get_annotations(struct, eval_str=True).values():
            for part in (hint, *getattr(hint, "__args__", ())):
                visit(part)

    for row in TABLE.values():
        for struct in (row.request, row.response, row.push):
            visit(struct)
    yield "| payload | fields |"
    yield "| --- | --- |"
    for struct in sorted(seen, key=lambda s: s.__name__):
        if struct.__name__ != "Pack":
            names = ", ".join(f"`{f.encode_name}`" for f in msgspec.structs.fields(struct))
            yield f"| {struct.__name__} | {names or 'none'} |"


def codes_table() -> Iterator[str]:
    yield "| code | name | meaning |"
    yield "| --- | --- | --- |"
    for code in Code:
        yield f"| {code.value} | {code.name} | {DESCRIPTIONS[code]} |"


ROUTES = (
    Messages, Sessions, Groups, Users, ErasureRoutes, Friends, People, Archived, Pushing, Events, System, Classic,
)  # fmt: skip


def routes_table() -> Iterator[str]:
    yield "| route | scope | what |"
    yield "| --- | --- | --- |"
    for group in ROUTES:
        for function in vars(group).values():
            if declared := getattr(function, "__route__", None):
                scope = f"`{declared.scope}`" if declared.scope else "no key"
                yield f"| `{declared.method} {declared.path}` | {scope} | {declared.summary} |"


PARTS: dict[str, dict[str, Callable[[], Iterator[str]]]] = {
    "docs/topology.md": {name: (lambda s=struct: settings_table(s)) for name, (_, struct) in SETTINGS.items()},
    "docs/protocol.md": {"types": types_table, "payloads": payloads_table, "codes": codes_table},
    "docs/http.md": {"routes": routes_table},
}


def rewrite(text: str, parts: dict[str, Callable[[], Iterator[str]]]) -> str:
    for name, make in parts.items():
        pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"no part {name}")
        table = "\n".join(make())
        text = pattern.sub(lambda _, t=table, n=name: f"<!-- {n} -->\n{t}\n<!-- /{n} -->", text)
    return text


def main(arguments: list[str]) -> int:
    stale = []
    for file, parts in PARTS.items():
        path = ROOT / file
        before = path.read_text()
        after = rewrite(before, parts)
        if after != before:
            stale.append(file)
            if "--check" not in arguments:
                path.write_text(after)
    if stale and "--check" in arguments:
        print(f"stale: {', '.join(stale)}; run `make docs`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
