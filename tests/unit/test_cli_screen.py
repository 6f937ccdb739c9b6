"""Typing in the terminal chat."""

from __future__ import annotations

import pytest

from cli.editor import Editor, cut, rows, split_keys, width
from cli.screen import Screen


def typed(text: str) -> Editor:
    editor = Editor()
    for key in split_keys(text)[0]:
        editor.key(key)
    return editor


@pytest.mark.parametrize(
    ("keys", "text", "cursor"),
    [
        ("hello", "hello", 5),
        ("你好\x7f吗", "你吗", 2),
        ("abc\x1b[D\x1b[DX", "aXbc", 2),
        ("abc\x01X\x05Y", "XabcY", 5),
        ("one two \x17", "one ", 4),
        ("one\x17", "", 0),
        ("abc\x15", "", 0),
        ("abc\x1b[D\x1b[3~", "ab", 2),
        ("a\x00\x1b[99~\x1b[1;5Db", "ab", 2),
        ("abc\x1bOHX", "Xabc", 1),
        ("draft\x1b[A\x1b[B!", "draft!", 6),
        ("past\rdraft\x1b[A\x1b[B!", "draft!", 6),
        ("first\rsecond\r\x1b[A\x1b[A", "first", 5),
        ("first\r\x1b[A\x1b[B", "", 0),
    ],
)
def test_editing(keys: str, text: str, cursor: int) -> None:
    editor = typed(keys)
    assert (editor.text, editor.cursor) == (text, cursor)


def test_enter_gives_the_line() -> None:
    editor = Editor()
    assert [line for key in "hi\r\r" if (line := editor.key(key)) is not None] == ["hi", ""]


def test_wide_characters_take_two_columns() -> None:
    assert (width("abc"), width("你好"), width("e\u0301"), width("☁\ufe0f")) == (3, 4, 1, 1)
    assert (cut("你好", 3), cut("abc", 3), cut("abc", 0)) == ("你", "abc", "")


def test_a_sequence_that_comes_in_pieces_is_put_together() -> None:
    assert split_keys("a\x1b[") == (["a"], "\x1b[")
    assert split_keys("\x1b[" + "Db") == (["left", "b"], "")


def test_what_others_write_cannot_command_the_terminal() -> None:
    assert Screen.harmless("a\x1b[2Jb\r\nc") == "a [2Jb  c"


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("/re\t", "/re"),
        ("/rev\t", "/revoke "),
        ("/rem\t", "/rem"),
        ("/to al\t", "/to alice "),
        ("/to 小\t", "/to 小明 "),
        ("/to b\t", "/to bob"),
        ("/to a\x1b[D\t", "/to a"),
        ("/to al!\x1b[D\tX", "/to alice X!"),
    ],
)
def test_tab_puts_in_what_is_certain(keys: str, text: str) -> None:
    known = ["/revoke", "/read", "alice", "bob1", "bob2", "小明"]

    def complete(before: str) -> list[str]:
        word = before.rpartition(" ")[2]
        return [name for name in known if word and name.startswith(word)]

    editor = Editor(complete)
    for key in split_keys(keys)[0]:
        editor.key(key)
    assert editor.text == text


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [("", 10, 1), ("a" * 10, 10, 1), ("a" * 11, 10, 2), ("好" * 5, 9, 2), ("\x1b[2m12:00\x1b[0m hi", 8, 1)],
)
def test_rows_of_a_text(text: str, columns: int, expected: int) -> None:
    assert rows(text, columns) == expected
