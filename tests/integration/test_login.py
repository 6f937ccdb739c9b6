"""LOGIN and its end: who gets in, who is put out, and whose messages come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON, MSGPACK, Codec
from packs.pack import Pack
from tests.raw import Raw, any_body, code, decode
from tests.system import System

pytestmark = pytest.mark.usefixtures("unharmed")
CODECS = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.name)


def refused(raw: Raw, payload: dict[str, Any] | bytes) -> int:
    """The code of a LOGIN that is answered once and followed by the end of the connection."""
    pack_id = raw.send_any(t.LOGIN, payload)
    (answer,) = raw.rest()
    assert (answer.type, answer.pack_id) == (t.LOGIN, pack_id)
    return code(decode(answer))


def kicked(raw: Raw) -> list[Pack]:
    """What came before the connection was kicked out and closed, within a second."""
    started = time.monotonic()
    *before, last = raw.rest()
    assert time.monotonic() - started < 1.0
    assert last.type == t.KICKOUT and last.flags == 0 and code(decode(last)) == 22
    return before


# ---- the answer


@CODECS
def test_what_login_tells(system: System, user: Callable[[], str], codec: Codec) -> None:
    alice = user()
    answer = system.connect(codec=codec).login(alice)
    assert (code(answer), answer.client_id) == (0, alice)
    told = json.loads(answer.extra_data)
    assert told.pop("server").startswith("imesh/")
    assert told == {"heartbeat": 25.0, "maxFrame": 640_000, "maxPayload": 65_536}


def test_what_another_configuration_tells(strict: System, user: Callable[[], str]) -> None:
    told = json.loads(strict.connect().login(user()).extra_data)
    assert (told["heartbeat"], told["maxFrame"]) == (1.5, 100_000)


# ---- refusals


@CODECS
@pytest.mark.parametrize(
    "change",
    [
        {"clientId": ""}, {"clientId": None}, {"clientId": "a b"}, {"clientId": "é"}, {"clientId": "x" * 65},
        {"clientId": "a\n"}, {"clientId": "a~b"}, {"deviceId": ""}, {"deviceId": None}, {"deviceId": "a b"},
        {"deviceId": "é"}, {"deviceId": "x" * 65}, {"deviceType": 0}, {"deviceType": None}, {"deviceType": 16},
        {"deviceType": -1}, {"deviceType": 2**31 - 1},
    ],
    ids=repr,
)  # fmt: skip
def test_a_bad_identity(system: System, user: Callable[[], str], codec: Codec, change: dict[str, Any]) -> None:
    login = {"clientId": user(), "deviceType": 5, "deviceId": "d"} | change
    given = {name: value for name, value in login.items() if value is not None}
    assert refused(system.connect(codec=codec), given) == 20


@pytest.mark.parametrize(
    "payload", [b"\xc1", b"\x90", {"clientId": 5}, {"clientId": "a", "deviceType": "5"}, {"version": []}]
)
def test_a_login_that_does_not_decode(system: System, payload: dict[str, Any] | bytes) -> None:
    assert refused(system.connect(), payload) == 42


@pytest.mark.parametrize("device_type", [*range(1, 16)])
def test_every_device_type(system: System, user: Callable[[], str], device_type: int) -> None:
    assert code(system.connect().login(user(), device_type=device_type)) == 0


@pytest.mark.parametrize("client_id", ["A", "._@+-", "x" * 64, "a_b", "1"])
@pytest.mark.parametrize("device_id", ["!", "~" * 64, "6f1c1b9e-0e3c"])
def test_every_well_formed_id(system: System, client_id: str, device_id: str) -> None:
    assert code(system.connect().login(client_id, device_id=device_id)) == 0


@pytest.mark.parametrize("pack_type", [t.PING, t.LOGOUT, t.MSG_SINGLE_CHAT, t.HOTSESSION_SYNC, t.MSG_GROUP_CHAT, 0, 99])
def test_before_login_only_login_is_accepted(system: System, pack_type: int) -> None:
    raw = system.connect()
    pack_id = raw.send_any(pack_type, {"to": "b", "content": "x", "timestamp": 0})
    raw.send_any(t.LOGIN, {"clientId": "late", "deviceType": 5, "deviceId": "d"})
    (answer,) = raw.rest()
    assert (answer.type, answer.pack_id, code(decode(answer))) == (pack_type, pack_id, 23)


@pytest.mark.parametrize("pack_type", [t.PING, t.LOGIN, t.MSG_SINGLE_CHAT])
def test_nothing_is_accepted_while_a_login_is_under_way(system: System, pack_type: int) -> None:
    raw = system.connect()
    login = {"clientId": "hasty", "deviceType": 5, "deviceId": "d"}
    bodies = any_body(MSGPACK, t.LOGIN, login, "first"), any_body(MSGPACK, pack_type, login, "second")
    raw.send_bytes(b"".join((len(body) + 4).to_bytes(4, "big") + body for body in bodies))
    (answer,) = raw.rest()
    assert (answer.pack_id, code(decode(answer))) == ("second", 23)


# ---- one connection per user and device type


def test_a_new_login_puts_the_old_one_out(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    b = system.client(bob)
    old = system.client(alice, device_id="one")
    b.text(alice, "before")
    new = system.client(alice, device_id="two")
    assert [decode(p).content for p in kicked(old)] == ["before"]
    old.close()  # which must not take away what belongs to the new one
    b.text(alice, "after")
    assert new.push(t.MSG_SINGLE_CHAT).content == "after"
    assert new.silent(0.1)


def test_device_types_live_side_by_side(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    raws = [system.client(alice, device_type=n) for n in range(1, 16)]
    system.client(bob).text(alice, "all of you")
    assert [raw.push(t.MSG_SINGLE_CHAT).content for raw in raws] == ["all of you"] * 15
    again = system.client(alice, device_type=7)
    assert kicked(raws[6]) == []
    assert all(raw.ask(t.PING) == s.CommonErrorCode() for raw in (*raws[:6], *raws[7:], again))


def test_of_many_logins_at_once_one_stays(system: System, user: Callable[[], str]) -> None:
    alice = user()
    raws = [system.connect() for _ in range(10)]
    for raw in raws:
        raw.send_any(t.LOGIN, {"clientId": alice, "deviceType": 1, "deviceId": "d"}, pack_id="login")
    for raw in raws:
        assert code(raw.answer("login")) == 0
    ended = [raw for raw in raws if not raw.silent(0.1)]
    assert len(ended) == 9
    for raw in ended:
        assert kicked(raw) == []
    system.client(user()).text(alice, "x")
    (stayed,) = (raw for raw in raws if raw not in ended)
    assert stayed.push(t.MSG_SINGLE_CHAT).content == "x"


def test_across_brokers(wide: System, user: Callable[[], str]) -> None:
    first, second = wide.addresses()
    alice, bob = user(), user()
    for _ in range(3):
        old, phone, new = Raw(first), Raw(first), Raw(second)
        b = Raw(second)
        for raw, name, device_type in ((old, alice, 5), (phone, alice, 1), (b, bob, 5), (new, alice, 5)):
            assert code(raw.login(name, device_type=device_type)) == 0
        assert kicked(old) == []
        b.text(alice, "to both")
        assert [raw.push(t.MSG_SINGLE_CHAT).content for raw in (phone, new)] == ["to both"] * 2
        new.text(bob, "back")
        assert phone.push(t.MSG_SINGLE_CHAT).content == b.push(t.MSG_SINGLE_CHAT).content == "back"
        assert new.silent(0.1)
        first, second = second, first
        for raw in (phone, new, b):
            raw.ask(t.LOGOUT)
            assert raw.rest() == []


def test_across_brokers_of_many_logins_one_stays(wide: System, user: Callable[[], str]) -> None:
    addresses = wide.addresses()
    alice = user()
    raws = [Raw(addresses[n % 2]) for n in range(10)]
    for raw in raws:
        raw.send_any(t.LOGIN, {"clientId": alice, "deviceType": 1, "deviceId": "d"}, pack_id="login")
    for raw in raws:
        assert code(raw.answer("login")) == 0
    ended = [raw for raw in raws if not raw.silent(0.2)]
    assert len(ended) == 9
    for raw in ended:
        assert kicked(raw) == []


# ---- login again on the same connection


def test_the_same_user_again(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    for device_type in (5, 5, 2):
        assert code(a.login(alice, device_type=device_type)) == 0
    b.text(alice, "once")
    assert a.push(t.MSG_SINGLE_CHAT).content == "once"
    assert a.silent(0.2)
    other = system.client(alice, device_type=5)  # the connection is a 2 now
    assert a.ask(t.PING) == other.ask(t.PING) == s.CommonErrorCode()


def test_another_user_on_the_same_connection(system: System, user: Callable[[], str]) -> None:
    alice, carol, bob = user(), user(), user()
    raw, b = system.client(alice), system.client(bob)
    assert code(raw.login(carol)) == 0
    b.text(alice, "for alice")
    b.text(carol, "for carol")
    assert raw.push(t.MSG_SINGLE_CHAT).content == "for carol"
    assert raw.silent(0.1)
    assert code(raw.ask(t.MSG_SINGLE_CHAT, s.MsgReq(sender=alice, to=bob, content="x"))) == 23
    raw.text(bob, "from carol")
    assert b.push(t.MSG_SINGLE_CHAT).sender == carol


def test_a_failed_login_ends_a_good_connection(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    assert refused(raw, {"clientId": "bad id", "deviceType": 5, "deviceId": "d"}) == 20


# ---- the end


def test_logout(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, phone, b = system.client(alice), system.client(alice, device_type=1), system.client(bob)
    pack_id = a.request(t.LOGOUT)
    a.request(t.PING)
    (answer,) = a.rest()
    assert (answer.type, answer.pack_id, code(decode(answer))) == (t.LOGOUT, pack_id, 0)
    b.text(alice, "x")
    assert phone.push(t.MSG_SINGLE_CHAT).content == "x"
    assert code(system.connect().login(alice)) == 0


def test_what_was_asked_before_logout_is_done(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    for n in range(20):
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content=str(n)))
    a.request(t.LOGOUT)
    assert a.rest()[-1].type == t.LOGOUT
    assert [b.push(t.MSG_SINGLE_CHAT).content for _ in range(20)] == [str(n) for n in range(20)]


def test_from_the_answer_on_every_message_arrives(system: System, user: Callable[[], str]) -> None:
    bob = user()
    b = system.client(bob)
    for n in range(30):
        alice = user()
        a = system.client(alice)
        b.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=alice, content=str(n)))
        assert a.push(t.MSG_SINGLE_CHAT).content == str(n)


def test_and_across_brokers(wide: System, user: Callable[[], str]) -> None:
    first, second = wide.addresses()
    b = Raw(first)
    b.login(user())
    for n in range(30):
        alice, a = user(), Raw(second)
        assert code(a.login(alice)) == 0
        b.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=alice, content=str(n)))
        assert a.push(t.MSG_SINGLE_CHAT).content == str(n)
