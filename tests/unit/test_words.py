"""Sensitive words: what is found, what is masked, and what is wrong with a list."""

from __future__ import annotations

import time
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.topology import TopologyError, load
from nodes import words
from nodes.words import MAX_WORD, Checker, fold
from packs.structs import MsgReq, PushInfo

LIST = ["bad", "坏人", "赌博网站", "Straße", "é", "가", "he", "she", "hers"]
FOUND = {
    "bad": "***",
    "a Bad thing": "a *** thing",
    "bAdBAD": "******",
    "inbadge": "in***ge",
    "ＢＡＤ": "***",
    "ｂａｄ！": "***！",
    "b\u200bad": "****",
    "b\u00adad": "*\u00ad**",
    "你是坏人吗": "你是**吗",
    "赌博网站和坏人": "****和**",
    "STRASSE": "*******",
    "straße": "******",
    "straſſe, ß\u200b": "*******, ß\u200b",
    "cafe\u0301": "caf**",
    "café": "caf*",
    "CAFÉ": "CAF*",
    "\u1100\u1161": "**",
    "ushers": "u*****",
    "𝐛𝐚𝐝": "***",
    "ß bad \u200b": "ß *** \u200b",
    "😀bad😀坏人": "😀***😀**",
    "x\u0301\u0327" + "\u0301" * 50 + "bad": "x\u0301\u0327" + "\u0301" * 50 + "***",
}
CLEAN = ["", "b ad", "ba", "坏", "人坏", "cafe", "각", "\u1100\u1161\u11a8", "x" * 1000, "好人", "b\nad", "\u0301"]


@pytest.mark.parametrize("text", FOUND)
def test_words_are_refused_or_masked_where_they_stand(text: str) -> None:
    assert Checker(LIST, mask=False).check(text) is None
    assert Checker(LIST, mask=True).check(text) == FOUND[text]


@pytest.mark.parametrize("text", CLEAN)
def test_what_has_no_word_stays_as_it_is(text: str) -> None:
    assert Checker(LIST, mask=False).check(text) == text
    assert Checker(LIST, mask=True).check(text) == text


def test_without_words_nothing_is_found() -> None:
    assert Checker([], mask=False).check("bad") == "bad"


def test_what_a_notification_shows_is_checked_too() -> None:
    shown = PushInfo(title="a BAD title", summary="坏人", url="https://bad")
    assert not Checker(LIST, mask=False).screen(MsgReq(to="bob", content="good", push_info=shown))
    message = MsgReq(to="bob", content="bad", push_info=shown)
    assert Checker(LIST, mask=True).screen(message)
    assert message == MsgReq(
        to="bob", content="***", push_info=PushInfo(title="a *** title", summary="**", url="https://bad")
    )


TRICKY = "aAbBß坏人ＡｂＢé\u0301\u0327\u200b\u1100\u1161\u11a8가ﬁİςΣ"
letters = st.text(st.one_of(st.sampled_from(TRICKY), st.characters(exclude_categories=["Cs"])))


@given(st.lists(letters.filter(lambda w: fold(w).strip()), min_size=1, max_size=5), letters)
def test_a_word_is_found_exactly_where_the_folded_text_has_it(listed: list[str], text: str) -> None:
    folded = fold(text)
    found = any(fold(word) in folded for word in listed)
    assert (Checker(listed, mask=False).check(text) is None) == found
    masked = Checker(listed, mask=True).check(text)
    assert masked is not None and len(masked) == len(text)
    assert (masked == text) <= (not found or "*" in text)
    assert all(now in (before, "*") for before, now in zip(text, masked, strict=True))


# What nobody sees, and marks that combine with the end of a word, may be masked with it.
shown = st.text(st.characters(categories=["L", "N", "P", "S"])).filter(lambda text: all(fold(c) for c in text))


@given(shown, shown, letters.filter(lambda w: w.strip() and fold(w).strip()))
def test_a_masked_text_keeps_what_is_around_the_word(before: str, after: str, word: str) -> None:
    text = f"{before} {word} {after}"
    masked = Checker([f" {word} "], mask=True).check(text)
    assert masked is not None
    if fold(f" {word} ") not in fold(before) + " " + fold(after):
        assert masked.startswith(before) and masked.endswith(after)


@given(letters)
def test_texts_that_unicode_calls_the_same_fold_alike(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert fold(normalize(form, text)) == fold(text)


@pytest.mark.parametrize("text", ["a" + "\u0301\u0327" * 16_000, "e\u0301" * 20_000, "坏" * 21_000, "\u200b" * 30_000])
def test_no_text_takes_long(text: str) -> None:
    many = Checker(LIST, mask=True)
    started = time.process_time()
    many.check(text)
    many.check(text + "bad")
    assert time.process_time() - started < 0.5


# ---- the table [words]


def problems_of(directory: Path, table: str) -> list[str]:
    path = directory / "t.toml"
    path.write_text('[process.a]\nnodes = ["chat"]\n[words]\n' + table)
    try:
        load(path, directory / "data", {})
    except TopologyError as error:
        return [str(problem).removeprefix(str(directory) + "/") for problem in error.problems]
    return []


def test_lists_and_files_together(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes("\ufeffone\r\n\n  two words \n坏人".encode())
    assert problems_of(tmp_path, 'single = ["three"]\nsingle_file = "bad.txt"\nsingle_action = "mask"') == []
    topology = load(tmp_path / "t.toml", tmp_path / "data", {})
    masked = words.checker(topology, words.SINGLE).check("ONE, two words, two, three, 坏人")
    assert masked == "***, *********, two, *****, **"
    assert words.checker(topology, words.GROUP).check("one") == "one"


@pytest.mark.parametrize(
    "table, text",
    [
        ('single_action = "maks"', 'single_action: must be "refuse" or "mask", not "maks"'),
        ('group = ["a", " "]', "group: word 2 is empty"),
        (f'group = ["{"x" * (MAX_WORD + 1)}"]', f"group: word 1 is longer than {MAX_WORD} characters"),
        ('group = ["\u200b"]', "group: word 1 is empty"),
        ('single_file = "none.txt"', "single_file: cannot read {}/none.txt: No such file or directory"),
        ('single_file = "latin.txt"', "single_file: {}/latin.txt:2: not UTF-8 text"),
        ('group_file = "long.txt"', f"group_file: {{}}/long.txt:3: the word is longer than {MAX_WORD} characters"),
        ('group_file = "."', "group_file: cannot read {}: Is a directory"),
    ],
)
def test_mistakes(tmp_path: Path, table: str, text: str) -> None:
    (tmp_path / "latin.txt").write_bytes(b"good\nb\xe4d\n")
    (tmp_path / "long.txt").write_text(f"a\n\n{'x' * (MAX_WORD + 1)}\n")
    assert problems_of(tmp_path, table) == [f"t.toml:4: [words] {text.format(tmp_path)}"]


def test_a_file_that_goes_bad_before_the_start(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_text("one\n")
    assert problems_of(tmp_path, 'single_file = "bad.txt"') == []
    topology = load(tmp_path / "t.toml", tmp_path / "data", {})
    path.unlink()
    with pytest.raises(words.ConfigError, match=r"\[words\] single_file: cannot read"):
        words.checker(topology, words.SINGLE)
