"""MSG_CTRL (17): who may revoke, override and delete what, how it looks afterwards, and who is told."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON
from packs.flags import COUNTER, DUP
from packs.flags import OVERRIDE as OVERRIDDEN
from packs.flags import REVOKE as REVOKED
from packs.ids import single_session
from tests.controls import (
    DELETE,
    OVERRIDE,
    REVOKE,
    Sent,
    control,
    controlled,
    next_of,
    priorities,
    read,
    recent,
    request,
    send,
    stored,
    unread,
)
from tests.groups import create, dismiss, hand_over, leave, quiet
from tests.raw import Raw, code, decode
from tests.system import ROOT, System, running, topology_text
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("unharmed")

COMMANDS = [REVOKE, OVERRIDE, DELETE]


@pytest.fixture(scope="session")
def narrow() -> Iterator[System]:
    """A system in which one may change one's mind for a second, and revoked messages stay readable."""
    settings = {"revoke_window_seconds": 1, "override_window_seconds": 1, "revoke_content": "keep"}
    with running(topology_text(tables={"node.msgop": settings, "node.chat": {"max_payload": 2000}})) as found:
        yield found


@pytest.fixture
def pair(system: System, user: Callable[[], str]) -> tuple[Raw, Raw, str, str]:
    """Two who talk, and their names."""
    alice, bob = user(), user()
    return system.client(alice), system.client(bob), alice, bob


def shown(raw: Raw, message: Sent) -> tuple[str, int]:
    """Content and flags of a message in the history."""
    ((pack, found),) = [(p, m) for p, m in stored(raw, message.session) if m.seq_id == message.seq]
    assert (pack.pack_id, found.prev_seq_id) == (message.pack_id, message.prev)
    return found.content, pack.flags


# ---- what each does


def test_revoke(pair: tuple[Raw, Raw, str, str]) -> None:
    a, b, alice, bob = pair
    message = send(a, bob, "secret")
    before = int(time.time() * 1000)
    assert control(a, message, REVOKE) == 0
    for raw in (a, b):
        assert shown(raw, message) == ("", COUNTER | REVOKED)
        item = recent(raw, message.session)
        assert item is not None and decode(item.last_msgs[0]).content == ""
        assert b"secret" not in b"".join(pack.payload for pack in item.last_msgs)
    assert unread(b, message.session) == 0
    told = controlled(b)
    assert (told.command, told.session_id, told.pack_id, told.seq_id) == (
        REVOKE, message.session, message.pack_id, message.seq,
    )  # fmt: skip
    assert (told.operator_id, told.content) == (alice, "")
    assert before - 1000 <= told.timestamp <= time.time() * 1000 + 1000


def test_override(pair: tuple[Raw, Raw, str, str]) -> None:
    a, b, alice, bob = pair
    message = send(a, bob, "old")
    assert control(a, message, OVERRIDE, "new") == 0
    for raw in (a, b):
        assert shown(raw, message) == ("new", COUNTER | OVERRIDDEN)
    assert unread(b, message.session) == 1
    told = controlled(b)
    assert (told.command, told.content, told.operator_id) == (OVERRIDE, "new", alice)
    assert control(a, message, OVERRIDE, "newer") == 0
    assert shown(b, message) == ("newer", COUNTER | OVERRIDDEN)


def test_delete(pair: tuple[Raw, Raw, str, str]) -> None:
    a, b, _, bob = pair
    first, gone, last = (send(a, bob, str(n)) for n in range(3))
    assert control(a, gone, DELETE) == 0
    for raw in (a, b):
        assert [m.seq_id for _, m in stored(raw, gone.session)] == [last.seq, first.seq]
    assert stored(b, gone.session)[0][1].prev_seq_id == gone.seq, "what was stored stays as it was numbered"
    assert unread(b, gone.session) == 2
    told = controlled(b)
    assert (told.command, told.seq_id, told.content) == (DELETE, gone.seq, "")
    assert control(a, last, DELETE) == 0
    item = recent(b, gone.session)
    assert item is not None and [decode(p).seq_id for p in item.last_msgs] == [first.seq]
    assert control(a, first, DELETE) == 0
    assert recent(b, gone.session) is None, "a session without any message is left out"
    assert stored(b, gone.session) == []
    again = send(a, bob, "again")
    assert again.prev == last.seq
    assert unread(b, gone.session) == 1


def test_flags_accumulate(pair: tuple[Raw, Raw, str, str]) -> None:
    a, b, _, bob = pair
    for order in ((OVERRIDE, REVOKE), (REVOKE, OVERRIDE)):
        message = send(a, bob)
        for command in order:
            assert control(a, message, command, "new") == 0
        assert shown(b, message) == ("", COUNTER | REVOKED | OVERRIDDEN)
        assert control(a, message, DELETE) == 0
        assert message.seq not in [m.seq_id for _, m in stored(b, message.session)]


def test_only_what_counted_is_subtracted_from_unread(pair: tuple[Raw, Raw, str, str]) -> None:
    a, b, _, bob = pair
    messages = [send(a, bob, flags=COUNTER if n % 2 else 0) for n in range(8)]  # 4 count
    assert control(a, messages[0], REVOKE) == control(a, messages[2], DELETE) == 0
    assert unread(b, messages[0].session) == 4
    assert control(a, messages[1], REVOKE) == control(a, messages[1], DELETE) == 0
    assert unread(b, messages[0].session) == 3
    assert read(b, messages[0].session, messages[3].seq) == 0
    assert unread(b, messages[0].session) == 2
    assert control(a, messages[3], DELETE) == 0, "read before it went"
    assert unread(b, messages[0].session) == 2
    assert control(a, messages[7], DELETE) == 0
    assert unread(b, messages[0].session) == 1


def test_pages_of_history_are_full_whatever_was_deleted(pair: tuple[Raw, Raw, str, str]) -> None:
    a, b, _, bob = pair
    messages = [send(a, bob, str(n)) for n in range(120)]
    for n in [*range(5, 60), *range(61, 118), 0]:
        assert control(a, messages[n], DELETE) == 0
    kept = [messages[n].seq for n in (119, 118, 60, 4, 3, 2, 1)]
    pages: list[list[int]] = []
    bound = 0
    while True:
        ask = s.HistoryMsgPullReq(session_id=messages[0].session, seq_id=bound, count=3)
        pages.append([decode(p).seq_id for p in b.ask(t.HISTORY_MSG_PULL, ask).msgs])
        if not pages[-1]:
            break
        bound = pages[-1][-1] - 1
    assert pages == [kept[:3], kept[3:6], kept[6:], []]


def test_pages_of_overridden_messages_fit_a_frame(pair: tuple[Raw, Raw, str, str]) -> None:
    a, b, _, bob = pair
    messages = [send(a, bob) for _ in range(15)]
    for message in messages:
        assert control(a, message, OVERRIDE, "x" * 60_000) == 0
    found = stored(b, messages[0].session)
    assert 0 < len(found) < 15 and {m.content for _, m in found} == {"x" * 60_000}


def test_kept_content_when_the_operator_wants_it(narrow: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = narrow.client(alice), narrow.client(bob)
    message = send(a, bob, "no secret")
    assert control(a, message, REVOKE) == 0
    assert shown(b, message) == ("no secret", COUNTER | REVOKED)
    assert unread(b, message.session) == 0


def test_notes_to_self(system: System, user: Callable[[], str]) -> None:
    alice = user()
    here, phone = system.client(alice), system.client(alice, device_type=1)
    message = send(here, alice)
    assert control(here, message, OVERRIDE, "new") == 0
    assert controlled(phone).content == "new"
    assert phone.silent(0.1) and here.silent(0.1)
    assert [p.type for p in priorities(phone).msgs] == [t.MSG_CTRL]


# ---- who may not


@pytest.mark.parametrize("command", COMMANDS)
def test_only_the_sender(system: System, user: Callable[[], str], command: int) -> None:
    bob = user()
    a, b = system.client(user()), system.client(bob)
    stranger = system.client(user())
    message = send(a, bob)
    assert control(b, message, command, "x") == control(stranger, message, command, "x") == 33
    assert shown(a, message) == ("text", COUNTER)
    assert unread(b, message.session) == 1
    assert next_of(b, t.MSG_SINGLE_CHAT) and b.silent(0.1)


def test_strangers_learn_nothing(pair: tuple[Raw, Raw, str, str], system: System, user: Callable[[], str]) -> None:
    a, _, alice, bob = pair
    stranger = system.client(user())
    message = send(a, bob)
    others = (message, missing(message, seq=1), missing(message, session="SC_q_r"))
    assert {control(stranger, m, REVOKE) for m in others} == {33}
    for session in (f"BM_app_{alice}", f"SC_{bob}_{bob}"):
        assert control(a, missing(message, session=session), REVOKE) == (44 if session.startswith("BM") else 33)


def missing(message: Sent, **other: Any) -> Sent:
    """A message that is not there."""
    found = Sent.__new__(Sent)
    found.__dict__.update(message.__dict__ | other)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_both_numbers_must_match(pair: tuple[Raw, Raw, str, str], command: int) -> None:
    a, _, alice, bob = pair
    one, two = send(a, bob), send(a, bob)
    wrong = [
        missing(one, pack_id=two.pack_id), missing(one, seq=two.seq), missing(one, seq=one.seq + 1),
        missing(one, seq=2**62), missing(one, seq=-1), missing(one, pack_id="other"),
        missing(one, session=single_session(alice, alice)),
    ]  # fmt: skip
    assert [control(a, message, command, "x") for message in wrong] == [44] * len(wrong)
    assert [shown(a, message) for message in (one, two)] == [("text", COUNTER)] * 2
    assert control(a, missing(one, session=f"SC_{max(alice, bob)}_{min(alice, bob)}"), command, "x") == 0


def test_malformed_requests(pair: tuple[Raw, Raw, str, str]) -> None:
    a, b, alice, bob = pair
    message = send(a, bob)
    good = {"command": 1, "sessionId": message.session, "packId": message.pack_id, "seqId": message.seq}
    for field in good:
        assert code(a.ask_any(t.MSG_CTRL, {k: v for k, v in good.items() if k != field})) == 2, field
    for field in ("sessionId", "packId"):
        assert code(a.ask_any(t.MSG_CTRL, good | {field: ""})) == 2
    assert code(a.ask_any(t.MSG_CTRL, good | {"sessionId": "nonsense"})) == 2
    assert code(a.ask_any(t.MSG_CTRL, good | {"seqId": "1"})) == 42
    for command in (0, 4, -1, 99):
        assert code(a.ask_any(t.MSG_CTRL, good | {"command": command})) == 47
    assert code(a.ask_any(t.MSG_CTRL, good | {"operatorId": bob})) == 23
    assert next_of(b, t.MSG_SINGLE_CHAT) and b.silent(0.1)
    assert code(a.ask_any(t.MSG_CTRL, good | {"operatorId": alice, "timestamp": 5, "more": 1, "content": "x"})) == 0
    told = controlled(b)
    assert told.timestamp > 10**12 and told.content == ""


def test_an_override_is_checked_as_a_send(narrow: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a = narrow.client(alice)
    message = send(a, bob)
    assert control(a, message, OVERRIDE) == 40
    assert control(a, message, OVERRIDE, "x" * 2000) == 41
    assert control(a, message, OVERRIDE, "x" * 1500) == 0
    assert shown(a, message)[0] == "x" * 1500


def test_the_window(narrow: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = narrow.client(alice), narrow.client(bob)
    messages = [send(a, bob) for _ in range(3)]
    assert control(a, messages[0], REVOKE, pack_id="in-time") == 0
    wait_until(lambda: time.time() * 1e6 > messages[2].seq + 1_200_000, "the window to close")
    assert control(a, messages[1], REVOKE) == control(a, messages[1], OVERRIDE, "x") == 33
    assert control(a, messages[0], REVOKE, pack_id="in-time") == 0, "a repeat is no new try"
    assert control(a, messages[2], DELETE) == 0, "deleting has no window"
    assert control(a, messages[2], DELETE) == 0
    assert [m.content for _, m in stored(b, messages[0].session)] == ["text", "text"]


def test_there_is_no_window_in_the_default_topology() -> None:
    settings = tomllib.loads((ROOT / "topology.toml").read_text())["node"]["msgop"]
    assert settings == {"revoke_window_seconds": 0, "override_window_seconds": 0}


# ---- repeats


def test_a_repeat_answers_0_and_is_told_as_one(pair: tuple[Raw, Raw, str, str]) -> None:
    a, b, _, bob = pair
    message = send(a, bob)
    for command, content in ((OVERRIDE, "new"), (REVOKE, ""), (DELETE, "")):
        assert control(a, message, command, content, pack_id=f"c{command}") == 0
        first = next_of(b, t.MSG_CTRL)
        for _ in range(2):
            assert control(a, message, command, content, pack_id=f"c{command}", flags=DUP) == 0
            again = next_of(b, t.MSG_CTRL)
            assert (again.payload, again.pack_id) == (first.payload, first.pack_id)
            assert (first.flags, again.flags) == (0, DUP)
    assert control(a, message, REVOKE, pack_id=f"c{REVOKE}") == 0, "also when it was deleted since"
    assert len(priorities(b).msgs) == 3


def test_what_is_so_already_answers_0(pair: tuple[Raw, Raw, str, str]) -> None:
    a, _, _, bob = pair
    message = send(a, bob)
    for command in COMMANDS:
        assert [control(a, message, command, "new") for _ in range(3)] == [0, 0, 0]


def test_a_pack_id_is_for_one_control(pair: tuple[Raw, Raw, str, str]) -> None:
    a, b, alice, bob = pair
    message, other = send(a, bob), send(a, bob)
    theirs = send(b, alice)
    assert control(a, message, OVERRIDE, "one", pack_id="p") == 0
    assert control(a, message, OVERRIDE, "two", pack_id="p") == 2
    assert control(a, other, OVERRIDE, "one", pack_id="p") == 2
    assert control(a, message, DELETE, pack_id="p") == 2
    assert control(b, theirs, REVOKE, pack_id="p") == 0
    assert control(a, other, REVOKE, pack_id=message.pack_id) == 0, "messages have packIds of their own"
    assert shown(b, message) == ("one", COUNTER | OVERRIDDEN)


def test_a_resent_message_that_was_deleted_stays_deleted(pair: tuple[Raw, Raw, str, str]) -> None:
    a, b, _, bob = pair
    ack = a.text(bob, "x", "same")
    message = Sent(ack, "same")
    assert control(a, message, DELETE) == 0
    assert code(a.text(bob, "x", "same", COUNTER | DUP)) == 46
    assert stored(b, message.session) == []


# ---- who is told


def test_everybody_but_the_connection_that_asked(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, phone = system.client(alice), system.client(alice, device_type=1)
    b, tablet = system.client(bob), system.client(bob, device_type=2)
    web = system.connect(codec=JSON)
    web.login(bob, device_type=6)
    stranger = system.client(user())
    message = send(a, bob)
    assert control(a, message, OVERRIDE, "new", pack_id="c") == 0
    for raw in (phone, b, tablet, web):
        pack = next_of(raw, t.MSG_CTRL)
        assert (pack.pack_id, pack.flags, decode(pack).content, decode(pack).operator_id) == ("c", 0, "new", alice)
        assert raw.silent(0.1)
    assert a.silent(0.1) and stranger.silent(0.1)


def test_whoever_is_away_finds_it_in_the_queue(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a = system.client(alice)
    message = send(a, bob)
    for command, content in ((OVERRIDE, "new"), (REVOKE, ""), (DELETE, "")):
        assert control(a, message, command, content) == 0
    for raw in (system.client(bob), system.client(alice, device_type=3)):
        found = [decode(p) for p in priorities(raw).msgs]
        assert [(c.command, c.content, c.seq_id, c.operator_id) for c in found] == [
            (OVERRIDE, "new", message.seq, alice), (REVOKE, "", message.seq, alice), (DELETE, "", message.seq, alice),
        ]  # fmt: skip
        assert [c.timestamp for c in found] == sorted({c.timestamp for c in found})


# ---- groups


def test_in_a_group(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol, dave = (user() for _ in range(4))
    a, b, c, d = (system.client(name) for name in (alice, bob, carol, dave))
    phone = system.client(bob, device_type=1)
    group = create(a, bob, carol)
    message = send(b, group)
    assert control(c, message, REVOKE) == control(d, message, REVOKE) == 33
    assert control(b, message, OVERRIDE, "new") == 0
    for raw in (a, c, phone):
        assert (controlled(raw).operator_id, shown(raw, message)) == (bob, ("new", COUNTER | OVERRIDDEN))
        assert quiet(raw, 0.1)
    assert control(a, message, REVOKE) == 0, "the owner may"
    for raw in (b, c, phone):
        assert (controlled(raw).operator_id, shown(raw, message)) == (alice, ("", COUNTER | OVERRIDDEN | REVOKED))
    assert [unread(raw, group) for raw in (a, c)] == [0, 0]
    assert control(a, message, DELETE) == 0
    assert [stored(raw, group) for raw in (a, b, c)] == [[], [], []]
    assert quiet(d, 0.1)
    for raw in (a, b, c):
        assert [decode(p).command for p in priorities(raw).msgs] == [OVERRIDE, REVOKE, DELETE]
    assert priorities(d).msgs == []


def test_the_owner_at_any_time_and_only_the_owner(narrow: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = narrow.client(alice), narrow.client(bob)
    group = create(a, bob)
    messages = [send(b, group) for _ in range(2)]
    wait_until(lambda: time.time() * 1e6 > messages[1].seq + 1_200_000, "the window to close")
    assert control(b, messages[0], REVOKE) == 33
    assert control(a, messages[0], REVOKE) == 0
    assert hand_over(a, group, bob) == 0
    assert control(a, messages[1], REVOKE) == 33
    assert control(b, messages[1], REVOKE) == 0


def test_who_has_left_may_nothing(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    group = create(a, bob)
    message = send(b, group)
    assert leave(b, group, bob) == 0
    assert [control(b, message, command, "x") for command in COMMANDS] == [33] * 3
    assert control(a, message, OVERRIDE, "x") == 0
    assert dismiss(a, group) == 0
    assert [control(a, message, command, "x") for command in COMMANDS] == [35] * 3
    assert control(a, missing(message, session="GC_nobodyMadeThis"), REVOKE) == 35


# ---- at once


@pytest.mark.parametrize("grouped", [False, True], ids=["single", "group"])
def test_everything_at_once_on_one_message(system: System, user: Callable[[], str], grouped: bool) -> None:
    """Of overrides from everywhere the last in the store is the last that everybody is told, then it goes."""
    alice, bob = user(), user()
    devices = [system.client(alice, device_type=n) for n in range(1, 6)]
    b = system.client(bob)
    to = create(devices[0], bob) if grouped else bob
    message, other = send(devices[0], to), send(devices[0], to)
    asked: list[tuple[Raw, str, int]] = []
    for n in range(40):
        for raw in devices:
            command = REVOKE if n == 20 else OVERRIDE
            asked.append((raw, raw.request(t.MSG_CTRL, request(message, command, f"{id(raw)} {n}")), command))
    assert {code(raw.answer(pack_id)) for raw, pack_id, _ in asked} == {0}
    told = [controlled(b) for _ in asked]
    times = [c.timestamp for c in told]
    assert times == sorted(times)
    overrides = [c.content for c in told if c.command == OVERRIDE]
    assert len(overrides) == len(set(overrides)) == 39 * len(devices)
    assert shown(b, message) == ("", COUNTER | REVOKED | OVERRIDDEN)

    # Overrides race with one deletion: what comes after it finds nothing.
    asked = []
    for n in range(20):
        for raw in devices:
            command = DELETE if n == 10 and raw is devices[0] else OVERRIDE
            asked.append((raw, raw.request(t.MSG_CTRL, request(other, command, f"{id(raw)} {n}")), command))
    codes = [(command, code(raw.answer(pack_id))) for raw, pack_id, command in asked]
    assert {c for command, c in codes if command == DELETE} == {0}
    assert {c for command, c in codes if command == OVERRIDE} <= {0, 44}
    done = sum(c == 0 for _, c in codes)
    told = [controlled(b) for _ in range(done)]
    assert told[-1].command == DELETE and [c.command for c in told].count(DELETE) == 1
    assert quiet(b, 0.1)
    assert [m.seq_id for _, m in stored(b, message.session)] == [message.seq]
    assert unread(b, message.session) == 0
    last = [decode(p) for p in priorities(b, count=200).msgs]
    assert [c.timestamp for c in last if c.seq_id == message.seq] == times[: len(last)]
