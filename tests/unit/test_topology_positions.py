"""Where tables and keys stand: never a wrong line."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.toml_positions import Positions

TRICKY = '''\
# [process.comment]
top = 1
[mesh]  # head
name = "a # no comment"  # a comment with " in it
log_level = 'x]'
[host."quoted name".sub]
address = """
[process.fake]
count = 3 \\"""
"" """
[ process . edge ]
nodes = [  # several lines
  "broker",  # ]
  [ "x" ],
  { a = "]", b = [1] },
]
count = 2
hosts.first = 1
"quoted\\"key" = { count = 1, nodes = "{" }
[[list]]
value = \'\'\'
[no.table]
x = 1\'\'\'
[[list]]
value = 2
[after]
last = true'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("mesh",), 3),
        (("mesh", "name"), 4),
        (("mesh", "log_level"), 5),
        (("host", "quoted name", "sub"), 6),
        (("host", "quoted name", "sub", "address"), 7),
        (("process", "edge"), 11),
        (("process", "edge", "nodes"), 12),
        (("process", "edge", "count"), 17),
        (("process", "edge", "hosts", "first"), 18),
        (("process", "edge", 'quoted"key'), 19),
        (("process", "edge", 'quoted"key', "count"), 19),
        (("list",), 20),
        (("after",), 26),
        (("after", "last"), 27),
        (("process", "fake"), 11),
        (("no", "table"), None),
        (("absent",), None),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_of_a_tricky_file(path: tuple[str, ...], line: int | None, newline: str) -> None:
    text = TRICKY.replace("\n", newline)
    tomllib.loads(text)
    assert Positions(text).line(path) == line


VALUES = st.sampled_from(
    [
        "1", "true", '"x"', "'x'", '"\\"]"', "[]", "[1,\n 2]", '["]",\n# ] "\n"["]', "{ a = 1, b = [2] }", "1979-05-27",
        '"""\n[fake]\nx = 1\n"""', "'''\n[fake]\n'''", '"""a""" # """', '"""a\\""""', '"""""a"""""', "'''''a'''''",
    ]
)  # fmt: skip
BLANKS = st.sampled_from(["", "\n", '# comment = [ "\n', "  # '''\n\n", "\t\n"])


@given(st.lists(st.tuples(st.booleans(), VALUES, BLANKS), max_size=12))
def test_lines_of_any_file(statements: list[tuple[bool, str, str]]) -> None:
    text, table, expected = "", "", {}
    for i, (opens_table, value, blank) in enumerate(statements):
        text += blank
        if opens_table:
            table = f"table{i}"
            expected[(table,)] = text.count("\n") + 1
            text += f"[{table}] # head\n"
        path = (table, f"key{i}") if table else (f"key{i}",)
        expected[path] = text.count("\n") + 1
        text += f"  key{i} = {value}\n"
    tomllib.loads(text)
    positions = Positions(text)
    assert {path: positions.line(path) for path in expected} == expected
    assert positions.line(("fake",)) is None
