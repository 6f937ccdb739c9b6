"""Where Redis is: URLs, slots, and the table of a Cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.address import Address, ClusterAddress, SentinelAddress, TlsFiles, parse_url
from store.cluster import table
from store.keys import Keys
from store.slots import SLOTS, key_slot


def test_each_kind_of_address_is_read(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    assert parse_url("redis://db") == Address("", "db", 6379, "", "", 0)
    assert parse_url("redis://[::1]:7/3") == Address("", "::1", 7, "", "", 3)
    assert parse_url("unix:///run/r?db=2") == Address("/run/r", "", 0, "", "", 2)
    assert parse_url(f"rediss://u:p%40@db:1?ca={ca}") == Address("", "db", 1, "u", "p@", 0, TlsFiles(str(ca), "", ""))
    cluster = parse_url("redis+cluster://:p@a,b:7001")
    assert cluster == ClusterAddress((Address("", "a", 6379, "", "p", 0), Address("", "b", 7001, "", "p", 0)))
    watched = parse_url("redis+sentinel://u:p@s1,s2:1/main/4?sentinel_password=q")
    assert isinstance(watched, SentinelAddress)
    assert (watched.name, watched.master) == ("main", Address("", "", 0, "u", "p", 4))
    assert [(s.host, s.port, s.password) for s in watched.sentinels] == [("s1", 26379, "q"), ("s2", 1, "q")]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis+clutser://a", "did you mean"),
        ("redis+cluster://a/1", "no databases"),
        ("redis+sentinel://a", "name of the master"),
        ("redis://a,b", "takes one host"),
        ("redis://a:0", "from 1 to 65535"),
        ("redis://a/x", "must be a number"),
        ("redis://a?ca=/x", "unknown option"),
        ("rediss://a?ca=x", "whole path"),
        ("rediss://a?ca=/not/there", "no readable file"),
        ("redis+cluster://a,,b", "a host is missing"),
    ],
)
def test_what_is_wrong_is_said(url: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_url(url)


def test_no_address_shows_its_password() -> None:
    for url in ("redis://u:secret@a", "redis+cluster://u:secret@a,b", "redis+sentinel://u:secret@a/m?sentinel_password=secret"):
        assert "secret" not in f"{parse_url(url)!r} {parse_url(url)}"


def test_slots_are_those_of_redis() -> None:
    assert [key_slot(k) for k in ("123456789", "foo", "{user1000}.following", "{user1000}.followers")] == [
        12739, 12182, 3443, 3443,
    ]  # fmt: skip
    assert key_slot("foo{}{bar}") == key_slot("foo{}{bar}") != key_slot("bar")
    keys = Keys(64)
    assert key_slot(keys.history("SC_a_b")) == key_slot(keys.session_tag("SC_a_b")) == key_slot(keys.meta("SC_a_b"))


def test_the_table_of_a_cluster() -> None:
    found = table([[0, 9, [b"h1", 1, b"id"]], [10, SLOTS - 2, [b"", 2, b"id"], [b"replica", 3, b"id"]]], "asked")
    assert (found[9], found[10], found[SLOTS - 2], found[SLOTS - 1]) == (("h1", 1), ("asked", 2), ("asked", 2), None)
