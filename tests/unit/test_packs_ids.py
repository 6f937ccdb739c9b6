"""Ids and session names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packs.ids import (
    SessionKind,
    business_members,
    business_session,
    canonical_session,
    is_device_id,
    is_group_id,
    is_pack_id,
    is_user_id,
    session_kind,
    single_members,
    single_session,
)

USER_IDS = st.from_regex(r"[A-Za-z0-9._@+-]{1,64}", fullmatch=True)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (is_user_id, ["a", "A.b_c@d+e-9", "x" * 64], ["", "x" * 65, "a b", "a~b", "a\n", "ä", "a\x00", "١", "a:b"]),
        (is_group_id, ["GC_1", "GC_" + "z" * 60], ["GC_", "GC_" + "z" * 61, "gc_1", "GC_a_b", "GC_1\n", "GC_ä", "1"]),
        (is_device_id, ["!", "~", "x" * 64], ["", "x" * 65, " ", "a b", "\x7f", "ä"]),
        (is_pack_id, ["!", "~", "x" * 64], ["", "x" * 65, " ", "a\n", "\x7f", "ä"]),
    ],
)
def test_well_formed_ids(check: object, good: list[str], bad: list[str]) -> None:
    assert callable(check)
    assert [check(text) for text in good] == [True] * len(good)
    assert [check(text) for text in bad] == [False] * len(bad)


@given(USER_IDS, USER_IDS)
def test_a_single_session_has_one_name_and_gives_its_members_back(a: str, b: str) -> None:
    session = single_session(a, b)
    assert session == single_session(b, a)
    assert single_members(session) == tuple(sorted((a, b), key=str.encode))
    assert session_kind(session) is SessionKind.SINGLE
    other_order = f"SC_{b.replace('_', '~')}_{a.replace('_', '~')}"
    assert canonical_session(session) == canonical_session(other_order) == session
    assert business_members(session) is None


@given(USER_IDS, USER_IDS, USER_IDS, USER_IDS)
def test_no_two_pairs_share_a_session(a: str, b: str, c: str, d: str) -> None:
    assert (single_session(a, b) == single_session(c, d)) == (sorted((a, b)) == sorted((c, d)))


def test_underscores_cannot_move_the_border() -> None:
    assert single_session("a_b", "c") == "SC_a~b_c"
    assert single_session("a", "b_c") == "SC_a_b~c"


def test_notes_to_self() -> None:
    assert single_session("a", "a") == "SC_a_a"
    assert single_members("SC_a_a") == ("a", "a")


@given(USER_IDS, USER_IDS)
def test_a_business_session_keeps_app_and_user_apart(app: str, user: str) -> None:
    session = business_session(app, user)
    assert business_members(session) == (app, user)
    assert session_kind(session) is SessionKind.BUSINESS
    assert canonical_session(session) == session
    assert single_members(session) is None


def test_a_group_is_its_own_session() -> None:
    assert session_kind("GC_7") is SessionKind.GROUP
    assert canonical_session("GC_7") == "GC_7"
    assert single_members("GC_7") is business_members("GC_7") is None


@pytest.mark.parametrize(
    "text", ["", "SC", "SC_", "SC_a", "SC_a_", "SC__b", "SC_a_b_c", "SC_a_b\n", "sc_a_b", "GC_", "XX_a_b", "SC_a_ä"]
)
def test_malformed_session_ids(text: str) -> None:
    assert session_kind(text) is canonical_session(text) is single_members(text) is business_members(text) is None
