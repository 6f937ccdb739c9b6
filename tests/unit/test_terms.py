"""The tokenizer of messages and searches."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.terms import Parts, Query, parts_of, terms_of_text
from store.archive.search import SCOPE_LENGTH

LONGEST = 84 - SCOPE_LENGTH - 3
"""What MySQL takes for one token, less scope and time."""
LETTERS = st.sampled_from(string.ascii_letters + "0123456789ßéÉİяΣς中文字天气한국어กานमस्ते𠀀𞤀𐌰 \t,.'_-😀\u0301\u200b")
texts = st.text(LETTERS, max_size=60) | st.text(max_size=60)


@pytest.mark.parametrize(
    ("text", "words", "runs"),
    [
        ("Hello, World 42", ["hello", "world", "42"], []),
        ("don't snake_case a.b", ["don", "t", "snake", "case", "a", "b"], []),
        ("今天天气很好", [], ["今天天气很好"]),
        ("weather天气forecast", ["weather", "forecast"], ["天气"]),
        ("ＦＵＬＬ Straße ﬁ", ["full", "strasse", "fi"], []),
        ("e\u0301te\u0301 नमस्ते", ["été", "नमस्ते"], []),
        ("ﾃｽﾄ 안녕하세요 สวัสดี", [], ["テスト", "안녕하세요", "สวัสดี"]),
        ("ba\u200bd ba\u00add", ["bad", "bad"], []),
        ("😀 !? \0", [], []),
    ],
)
def test_parts(text: str, words: list[str], runs: list[str]) -> None:
    assert parts_of(text) == Parts(words, runs)


def test_terms() -> None:
    assert terms_of_text("The 中文字 é") == {"the", "x4e2d6587", "x65875b57", "x5b57", "x00e9"}
    assert Query("中文").terms == ("x4e2d6587",)
    assert Query("中").terms == ("x4e2d*",)
    assert Query("the The THE").terms == ("the",)


@given(texts)
def test_each_term_is_one_token_for_every_engine(text: str) -> None:
    for term in terms_of_text(text):
        assert re.fullmatch("[a-z0-9]+", term) and len(term) <= LONGEST


@given(texts, st.data())
def test_a_text_is_found_by_each_of_its_parts_and_by_pieces_of_its_runs(text: str, data: st.DataObject) -> None:
    words, runs = parts_of(text)
    pieces = [*words]
    for run in runs:
        first = data.draw(st.integers(0, len(run) - 1))
        pieces.append(run[first : data.draw(st.integers(first + 1, len(run)))])
    terms = terms_of_text(text)
    for piece in pieces:
        if parts_of(piece) not in (Parts([piece], []), Parts([], [piece])):
            continue  # a part of a character that only the whole makes a letter
        query = Query(piece)
        assert query.matches(text)
        for term in query.terms:
            assert term in terms or (term.endswith("*") and any(t.startswith(term[:-1]) for t in terms)), term


def test_runs_are_found_as_they_stand() -> None:
    assert Query("天气很").matches("今天天气很好")
    assert not Query("气天").matches("今天天气很好"), "though all its pairs might be there"
    assert not Query("中文中").matches("文中文")
    assert not Query("x" * 70).matches("x" * 71)


@pytest.mark.parametrize("text", ["", " ", "😀", "...", " ".join(string.ascii_letters[:17])])
def test_what_cannot_be_looked_for(text: str) -> None:
    with pytest.raises(ValueError):
        Query(text)


def test_a_long_text_costs_no_more_than_its_start() -> None:
    assert len(terms_of_text(" ".join(map(str, range(100_000))))) < 3000
    assert terms_of_text("a" * 1_000_000) == {"a" * 64}
