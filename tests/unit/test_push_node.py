"""The push node's settings, texts and entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.problems import TopologyError
from mesh.topology import load
from nodes.push_entries import ENTRY_PUSHES, Entry, Note, Target, decode, encode, pack
from nodes.push_settings import PushSettings
from nodes.push_text import Names, Wording
from packs.structs import MsgReq, PushInfo
from store.registrations import Registration

TOPOLOGY = """\
[process.all]
nodes = ["broker", "user", "push"]
[push]
{push}
[push.app.main]
package = "org.example"
[push.app.main.apns]
{apns}
"""
GOOD = 'key = "file:k"\nkey_id = "ABCDEFGHIJ"\nteam_id = "ABCDEFGHIJ"'
SINGLE, GROUP = Names("Ann", ""), Names("Ann", "Hikers")


def problems(tmp_path: Path, push: str = "", apns: str = GOOD, more: str = "") -> str:
    path = tmp_path / "topology.toml"
    path.write_text(TOPOLOGY.format(push=push, apns=apns) + more)
    with pytest.raises(TopologyError) as error:
        load(path, tmp_path, {})
    return str(error.value)


@pytest.mark.parametrize(
    ("push", "apns", "more", "expected"),
    [
        ("", GOOD + '\nkeyid = "x"', "", ':11: [push.app.main.apns] keyid: unknown key; did you mean "key_id"?'),
        ("", 'key = "file:k"\nteam_id = "ABCDEFGHIJ"', "", '[push.app.main.apns] "key_id" is missing'),
        ("", GOOD.replace("file:k", "s3cret"), "", "[push.app.main.apns] key: a secret does not stand here"),
        ("", GOOD + "\ntimeout = 0", "", "timeout: must be from 0.1 to 60"),
        ("", GOOD + '\nurl = "http://example.org"', "", "url: expected https://"),
        ("", GOOD, '[push.app.main.vivoo]\napp_id = 1\n', 'unknown vendor; did you mean "vivo"?'),
        ("", GOOD, '[push.app.two]\npackage = "org.example"\n', "is also that of [push.app.main]"),
        ('large_group_policy = "some"', GOOD, "", "large_group_policy: must be one of"),
        ("ttl = 5", GOOD, "", "ttl: must be from 60"),
        ("tll = 5", GOOD, "", 'unknown key "tll"; did you mean "ttl"?'),
    ],
)  # fmt: skip
def test_a_wrong_topology_says_where(tmp_path: Path, push: str, apns: str, more: str, expected: str) -> None:
    text = problems(tmp_path, push, apns, more)
    assert expected in text
    assert "s3cret" not in text


def test_a_text_is_made_from_templates_once() -> None:
    wording = Wording(PushSettings())
    tricky = MsgReq(to="b", content="{group} {count}", content_type=1)
    assert wording.message(tricky, SINGLE, tricky.content) == ("Ann", "{group} {count}", "")
    assert wording.message(tricky, GROUP, tricky.content) == ("Hikers", "Ann: {group} {count}", "")
    assert wording.message(tricky, GROUP, "other words").body == "Ann: other words"
    assert wording.several(tricky, GROUP, 3) == ("Hikers", "3 new messages", "")
    assert wording.message(MsgReq(to="b", content="x.png", content_type=2), SINGLE, "x.png").body == "New message"


def test_what_the_sender_wrote_comes_first_but_nothing_that_is_hidden_or_gone() -> None:
    message = MsgReq(to="b", content="c", content_type=1, push_info=PushInfo(title="T", summary="S", url="app://x"))
    assert Wording(PushSettings()).message(message, SINGLE, "c") == ("T", "S", "app://x")
    assert Wording(PushSettings()).message(message, SINGLE, "changed").body == "changed"
    hidden = Wording(PushSettings(hide_content=True))
    assert hidden.message(message, SINGLE, "c").body == "New message"
    assert hidden.message(message, GROUP, "c").body == "New message"


def note(seq: int, devices: int) -> Note:
    targets = tuple(Target(f"u{n}", "2\0d\0main\0apns", f"t{n}") for n in range(devices))
    return Note("s", seq, "", "t", "b", "", "", -1, 1e10, True, targets)


def test_entries_hold_so_many_pushes_and_lose_none() -> None:
    notes = [note(1, 450), note(2, 1), note(3, 1), note(4, ENTRY_PUSHES)]
    entries = pack(notes, 5)
    sizes = [sum(len(n.targets) for n in entry.notes) for entry in entries]
    assert sum(sizes) == 450 + 2 + ENTRY_PUSHES
    assert max(sizes) <= ENTRY_PUSHES
    assert [decode(encode(entry)) for entry in entries] == entries
    names = {entry.name for entry in entries}
    assert len(names) == len(entries)
    assert {entry.name for entry in pack(notes, 6)} == names, "the same whenever it is queued"


def test_a_push_has_one_id_for_all_its_tries_and_another_for_each_device() -> None:
    (entry,) = pack([note(1, 3)], 5)
    ids = [n.push(t, 0).notification.id for n in entry.notes for t in n.targets]
    again = Entry(4, 9, entry.notes)
    assert ids == [n.push(t, 7).notification.id for n in again.notes for t in n.targets]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("hours", "offset", "utc", "quiet"),
    [((22, 7), 0, 23, True), ((22, 7), 0, 6, True), ((22, 7), 0, 7, False), ((22, 7), 0, 21, False),
     ((9, 17), 120, 7, True), ((9, 17), 120, 6, False), ((9, 17), -600, 1, True), ((8, 8), 0, 8, False)],
)  # fmt: skip
def test_quiet_hours_are_in_the_devices_time(hours: tuple[int, int], offset: int, utc: int, quiet: bool) -> None:
    device = Registration(2, "d", "main", "apns", "t", "", 0, hours[0] * 60, hours[1] * 60, offset)
    assert device.is_quiet(1_800_000_000 // 86_400 * 86_400 + utc * 3600) is quiet
