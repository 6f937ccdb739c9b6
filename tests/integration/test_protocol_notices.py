"""Business notices: from RPC to all devices of a user, stored like messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON
from packs.flags import COUNTER, DUP, HIGH_PRIORITY
from tests import people
from tests.raw import Raw, code, decode
from tests.system import System, running, topology_text
from tests.web import Web

pytestmark = pytest.mark.usefixtures("unharmed")
NO_PUSH = ["", "", ""]


class Receipt(NamedTuple):
    code: int
    seq_id: int
    timestamp: int
    repeated: bool


def notify(
    system: System, app: str, to: str, content: str = "news", pack_id: str = "n1", flags: int = COUNTER,
    push: list[str] = NO_PUSH,
) -> Receipt:  # fmt: skip
    return Receipt(*system.call("chat.notify", app, to, content, 1, flags, push, pack_id))


def refused(system: System, *arguments: Any) -> str:
    """How a notice is refused; the arguments are those of the contract."""
    done = system.run("call", "chat.notify", *(json.dumps(a) for a in arguments))
    assert done.returncode == 1
    return done.stderr.strip()


def hot(raw: Raw) -> dict[str, s.HotSessionItem]:
    return {i.session_id: i for i in raw.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0)).sessions}


def test_all_devices_get_it_once_and_nobody_else(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    desktop, phone, other = system.client(alice), system.client(alice, device_type=1), system.client(bob)
    web = system.connect(codec=JSON)
    web.login(alice, device_type=6)
    receipt = notify(system, "shop", alice, "Your parcel", push=["Shop", "A parcel", "https://x"])
    assert (receipt.code, receipt.repeated) == (0, False)
    for raw in (desktop, phone, web):
        pack = raw.pack()
        got = decode(pack)
        assert (pack.type, pack.flags, pack.pack_id) == (t.MSG_BIZ_NOTIFY, COUNTER, "n1")
        assert (got.session_id, got.sender, got.to) == (f"BM_shop_{alice}", "shop", alice)
        assert (got.content, got.content_type) == ("Your parcel", 1)
        assert (got.seq_id, got.timestamp, got.prev_seq_id) == (receipt.seq_id, receipt.timestamp, 0)
        assert got.push_info == s.PushInfo(title="Shop", summary="A parcel", url="https://x")
    for raw in (desktop, phone, web, other):
        assert raw.silent(0.1)


def test_it_is_a_session_of_the_user_alone(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    session = f"BM_my~shop_{alice}"
    first = notify(system, "my_shop", alice, "one", "n1")
    second = notify(system, "my_shop", alice, "two", "n2", flags=0)
    assert second.seq_id > first.seq_id
    raw = system.client(alice)
    assert [m.content for m in raw.history(session)] == ["two", "one"]
    item = hot(raw)[session]
    assert (item.unread_count, item.read_seq_id) == (1, 0)  # as the flag says
    assert decode(item.last_msgs[0]).prev_seq_id == first.seq_id
    for name in (bob, "my_shop"):  # a user who is called like the app is not the app
        other = system.client(name)
        assert code(other.ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=session, seq_id=0))) == 28
        assert session not in hot(other)


def test_a_repeat_is_stored_once_and_says_so(system: System, user: Callable[[], str]) -> None:
    alice = user()
    raw = system.client(alice)
    first = notify(system, "shop", alice)
    again = notify(system, "shop", alice)
    assert again == first._replace(repeated=True)
    assert [bool(raw.pack().flags & DUP) for _ in range(2)] == [False, True]
    assert len(raw.history(f"BM_shop_{alice}")) == 1
    assert notify(system, "bank", alice).repeated is False  # each app has packIds of its own
    assert "2" in refused(system, "shop", alice, "other content", 1, COUNTER, NO_PUSH, "n1")


def test_flags_are_those_of_a_message(system: System, user: Callable[[], str]) -> None:
    alice = user()
    raw = system.client(alice)
    notify(system, "shop", alice, flags=0xFFFF)
    assert raw.pack().flags == COUNTER | HIGH_PRIORITY


@pytest.mark.parametrize(
    "change, expected",
    [
        ({0: "my shop"}, "AppError: 2 bad appId"),
        ({0: ""}, "AppError: 2 bad appId"),
        ({1: "a b"}, "AppError: 2 bad user id"),
        ({6: ""}, "AppError: 2 bad packId"),
        ({6: "a b"}, "AppError: 2 bad packId"),
        ({2: ""}, "AppError: 40"),
        ({2: "x" * 70_000}, "AppError: 41"),
    ],
)
def test_what_is_refused(system: System, user: Callable[[], str], change: dict[int, str], expected: str) -> None:
    arguments: list[Any] = ["shop", user(), "news", 1, COUNTER, NO_PUSH, "n1"]
    for n, value in change.items():
        arguments[n] = value
    assert refused(system, *arguments).startswith(expected)


def test_many_at_once(system: System, user: Callable[[], str]) -> None:
    users = [user() for _ in range(200)]
    raws = [system.client(name) for name in users[:3]]
    before = notify(system, "shop", users[1], "sale", "s1")
    arguments = ("shop", [*users, "b a d"], "sale", 1, COUNTER, NO_PUSH, "s1")
    receipts = [Receipt(*r) for r in system.call("chat.notify_many", *arguments)]
    assert [r.code for r in receipts] == [0] * 200 + [2]
    assert [n for n, r in enumerate(receipts) if r.repeated] == [1]
    assert receipts[1].seq_id == before.seq_id
    for raw, name, receipt in zip(raws, users, receipts, strict=False):
        got = raw.push(t.MSG_BIZ_NOTIFY)
        assert (got.to, got.seq_id, got.session_id) == (name, receipt.seq_id, f"BM_shop_{name}")
    again = [Receipt(*r) for r in system.call("chat.notify_many", *arguments)]
    assert [r.repeated for r in again[:-1]] == [True] * 200


def test_too_many_or_nobody(system: System) -> None:
    for users in ([], ["same", "same"], [f"u{n}" for n in range(1001)]):
        done = system.run("call", "chat.notify_many", "shop", json.dumps(users), "x", "1", "0", '["","",""]', "p")
        assert done.returncode == 1 and "2 1 to 1000 different users" in done.stderr


def test_a_client_may_not_send_one(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    assert code(raw.ask_any(t.MSG_BIZ_NOTIFY, {"to": user(), "content": "x"})) == 1


def test_who_has_blocked_an_app_hears_no_more_of_it(system: System, user: Callable[[], str]) -> None:
    alice = user()
    raw = system.client(alice)
    first = notify(system, "shop", alice)
    assert people.block(raw, "shop") == 0
    assert refused(system, "shop", alice, "more", 1, COUNTER, NO_PUSH, "n2").startswith("AppError: 51")
    assert notify(system, "shop", alice) == first._replace(repeated=True)  # what was stored is stored
    many = system.call("chat.notify_many", "shop", [alice, user()], "sale", 1, 0, NO_PUSH, "n3")
    assert [Receipt(*r).code for r in many] == [51, 0]
    reply = Web(system.http(), system.first_key).post("/v1/messages", {"app": "shop", "to": alice, "content": "x"})
    assert (reply.status, reply.error) == (403, "blocked")
    assert notify(system, "bank", alice).code == 0
    assert people.unblock(raw, "shop") == 0
    assert notify(system, "shop", alice, "again", "n4").code == 0
    assert [m.content for m in raw.history(f"BM_shop_{alice}")] == ["again", "news"]


def test_an_app_changes_its_notices_and_nobody_else_does(system: System, user: Callable[[], str]) -> None:
    alice = user()
    raw, phone = system.client(alice), system.client(alice, device_type=1)
    session = f"BM_shop_{alice}"
    seqs = [notify(system, "shop", alice, f"{n}", f"n{n}").seq_id for n in range(3)]
    for name in (alice, "shop"):  # a user who is called like the app is not the app
        asked = s.MsgControl(command=1, session_id=session, pack_id="n0", seq_id=seqs[0])
        assert code(system.client(name, device_type=6).ask(t.MSG_CTRL, asked)) == 33
    web = Web(system.http(), system.first_key)
    at = f"/v1/sessions/{session}/messages"
    for device in (raw, phone):
        assert [device.push(t.MSG_BIZ_NOTIFY).seq_id for _ in seqs] == seqs
    assert web.post(f"{at}/{seqs[0]}/revoke", {"operator": "shop"}).status == 200
    for device in (raw, phone):
        pushed = device.push(t.MSG_CTRL)
        assert (pushed.command, pushed.seq_id, pushed.pack_id, pushed.operator_id) == (1, seqs[0], "n0", "shop")
    assert web.ask("PUT", f"{at}/{seqs[1]}/content", {"operator": "shop", "content": "new"}).status == 200
    assert web.ask("DELETE", f"{at}/{seqs[2]}?operator=shop").status == 200
    assert web.post(f"{at}/{seqs[1]}/revoke", {"operator": alice}).status == 403
    assert web.post(f"{at}/{seqs[2]}/revoke", {"operator": "shop"}).status == 404
    assert [m.content for m in raw.history(session)] == ["new", ""]
    kept = raw.ask_any(t.HIGH_PRIOR_MSG_SYNC, {"seqId": 0})
    assert [pack.type for pack in kept.msgs] == [t.MSG_CTRL] * 3


@pytest.fixture(scope="module")
def accounts() -> Iterator[System]:
    tables: dict[str, dict[str, Any]] = {
        "auth": {"mode": "password"}, "words": {"single": ["scam"]}, "node.chat": {"require_friend": True},
    }  # fmt: skip
    with running(topology_text(tables=tables)) as found:
        found.call("user.add_account", "alice", "secret", False)
        yield found


def test_only_accounts_and_only_good_words(accounts: System) -> None:
    assert refused(accounts, "shop", "nobody", "x", 1, 0, NO_PUSH, "p").startswith("AppError: 2 no such user")
    assert refused(accounts, "shop", "alice", "SCAM", 1, 0, NO_PUSH, "p").startswith("AppError: 10")
    assert notify(accounts, "shop", "alice").code == 0
    receipts = accounts.call("chat.notify_many", "shop", ["alice", "nobody"], "x", 1, 0, NO_PUSH, "p2")
    assert [r[0] for r in receipts] == [0, 2]
    assert people.block(accounts.client("alice", password="secret"), "shop") == 0  # which has no account
    assert refused(accounts, "shop", "alice", "y", 1, 0, NO_PUSH, "p3").startswith("AppError: 51")
