"""Rate limits over raw TCP: of a user's messages and requests, of an address's connections and logins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from nodes.broker import QUARANTINE_SECONDS
from packs import structs as s
from packs import table as t
from packs.codec import JSON
from packs.flags import COUNTER, DUP
from packs.ids import single_session
from tests.groups import create
from tests.raw import Raw, code
from tests.system import LAYOUTS, System, running, topology_text
from tests.waiting import wait_until

LIMITS = {"messages_per_second": 4, "message_burst": 10, "requests_per_second": 4, "request_burst": 10}


@pytest.fixture(scope="module", params=list(LAYOUTS))
def slow(request: pytest.FixtureRequest) -> Iterator[System]:
    """Ten messages and ten other requests at once, then four a second."""
    with running(topology_text(request.param, tables={"node.broker": LIMITS})) as found, found.unharmed():
        yield found


def send(raw: Raw, to: str, n: int, flags: int = COUNTER) -> str:
    return raw.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=to, content=str(n)), f"m{n}", flags)


def test_messages_above_the_limit_are_refused_and_none_overtakes(slow: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = slow.client(alice), slow.client(bob)
    acks = [a.answer(pack_id) for pack_id in [send(a, bob, n) for n in range(20)]]
    assert [code(ack) for ack in acks] == [0] * 10 + [7] * 10
    assert all(0 < ack.error_code.retry_after <= 500 for ack in acks[10:])
    assert [b.push(t.MSG_SINGLE_CHAT).content for _ in range(10)] == [str(n) for n in range(10)]
    refused = time.monotonic()
    assert a.silent(0.3)
    # There is room again, but what comes without DUP may have been on its way when others were refused.
    late = a.answer(send(a, bob, 20))
    if time.monotonic() < refused + QUARANTINE_SECONDS:
        assert (code(late), late.error_code.desc) == (7, "a message before this one failed")
    # Sent again from the first refused one, as told: all arrive, once and in order.
    for n in range(10, 21):
        wait_until(lambda n=n: code(a.answer(send(a, bob, n, COUNTER | DUP))) == 0, "room for a message")
    assert [b.push(t.MSG_SINGLE_CHAT).content for _ in range(11)] == [str(n) for n in range(10, 21)]
    assert [m.content for m in a.history(single_session(alice, bob))] == [str(n) for n in reversed(range(21))]
    assert b.silent(0.1)


def test_the_limit_is_the_users_on_all_his_connections(slow: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    one, other = slow.client(alice), slow.connect(codec=JSON)
    other.login(alice, device_type=1)
    codes = [code(raw.answer(send(raw, bob, 2 * n + i))) for n in range(8) for i, raw in enumerate((one, other))]
    assert codes.count(0) in (10, 11)  # the token that comes back after 250 ms may have come
    one.close()
    again = slow.client(alice, device_type=2)
    assert code(again.answer(send(again, bob, 50))) == 7
    assert code(slow.client(bob).text(alice, "others are not concerned")) == 0


def test_group_messages_count_like_single_ones(slow: System, user: Callable[[], str]) -> None:
    alice = user()
    a = slow.client(alice)
    group = create(a)
    ids = [a.request(t.MSG_GROUP_CHAT, s.MsgReq(to=group, content="x"), flags=COUNTER) for _ in range(12)]
    assert [code(a.answer(i)) for i in ids][:11] == [0] * 10 + [7]
    assert code(a.answer(send(a, user(), 0))) == 7


def test_other_requests_have_a_limit_of_their_own(slow: System, user: Callable[[], str]) -> None:
    alice = user()
    a = slow.client(alice)
    ids = [a.request(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0)) for _ in range(6)]
    ids += [a.request(t.PING) for _ in range(6)]
    ids += [a.send_any(n, b"") for n in (1, 99)]  # what nobody serves counts too
    codes = [code(a.answer(i)) for i in ids]
    assert codes[:11] == [0] * 10 + [7] and codes[-1] == 7
    refused = a.ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id="SC_a_b", seq_id=0))
    assert code(refused) == 7 and 0 < refused.error_code.retry_after <= 500
    assert code(a.text(user(), "messages are not concerned")) == 0
    assert code(a.ask(t.LOGOUT)) == 0  # never refused
    assert a.rest() == []


def test_malformed_messages_above_the_limit_are_answered_with_what_is_wrong(
    slow: System, user: Callable[[], str]
) -> None:
    a = slow.client(user())
    for n in range(10):
        send(a, user(), n)
    assert code(a.ask_any(t.MSG_SINGLE_CHAT, {"content": "no to"})) == 2
    assert code(a.ask_any(t.MSG_SINGLE_CHAT, b"\xc1")) == 42


# ---- addresses


@pytest.fixture(scope="module")
def few() -> Iterator[System]:
    """Loopback counts: ten connections at once, five logins."""
    rates = {"connections_per_second": 2, "connection_burst": 10, "logins_per_second": 0.5, "login_burst": 5}
    with running(topology_text(tables={"node.broker": rates, "auth": {"limit_loopback": True}})) as found:
        yield found


def test_logins_and_connections_of_one_address(few: System, user: Callable[[], str]) -> None:
    raws = [few.connect() for _ in range(10)]
    answers = [raw.login(user()) for raw in raws]
    assert [code(answer) for answer in answers] == [0] * 5 + [7] * 5
    assert all(0 < answer.error_code.retry_after <= 2000 for answer in answers[5:])
    assert [raw.rest() for raw in raws[5:]] == [[]] * 5
    assert code(raws[0].ask(t.PING)) == 0
    assert code(raws[0].login(user())) == 7  # again on the same connection
    refused = [few.connect() for _ in range(10)]
    assert sum(raw.receive() is None for raw in refused[-5:]) >= 4


def test_loopback_is_not_limited_by_itself(user: Callable[[], str]) -> None:
    rates = {"connections_per_second": 1, "connection_burst": 1, "logins_per_second": 1, "login_burst": 1}
    with running(topology_text(tables={"node.broker": rates})) as found:
        assert [code(found.connect().login(user())) for _ in range(5)] == [0] * 5


def outside() -> str:
    """An address of this machine that is not loopback, or ""."""
    found = [a.address for addresses in psutil.net_if_addrs().values() for a in addresses if a.family == 2]
    return next((address for address in found if not address.startswith("127.")), "")


def test_failed_logins_of_one_address_whatever_the_account() -> None:
    """Ten times as many as of one account, and those of this machine are not counted."""
    address = outside()
    auth = {"mode": "password", "tries_per_minute": 1, "limit_loopback": not address}
    with running(topology_text(tables={"auth": auth, "node.broker": {"listen": "0.0.0.0:0"}})) as found:
        port = found.address()[1]
        found.call("user.add_account", "alice", "secret", False)

        def tries(host: str, names: range) -> list[int]:
            return [code(Raw((host, port)).login(f"u{n}", password="wrong")) for n in names]

        if address:
            assert tries("127.0.0.1", range(100, 115)) == [21] * 15
        assert tries(address or "127.0.0.1", range(10)) == [21] * 10
        raw = Raw((address or "127.0.0.1", port))
        answer = raw.login("alice", password="secret")  # not even with the right one
        assert code(answer) == 7 and 0 < answer.error_code.retry_after <= 6000
        assert raw.rest() == []
        if address:
            assert code(Raw(("127.0.0.1", port)).login("alice", password="secret")) == 0
