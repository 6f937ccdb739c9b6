"""Typing in the terminal chat."""

from __future__ import annotations

import pytest

from cli.screen import Editor, Screen, cut, split_keys, width


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
