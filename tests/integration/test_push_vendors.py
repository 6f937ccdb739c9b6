"""One table of behaviour for all vendors, against simulators on real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import gevent
import msgspec
import pytest

from push.model import Notification, Outcome, Push
from push.secret import read_secret
from push.vendor import App, HttpVendor, Vendor
from push.vendors import all_vendors
from push.vendors.apns import Apns
from tests.simulators import SIMULATORS, Simulator, apns
from tests.simulators.server import Everything
from tests.waiting import wait_until

SECONDS = 0.6
"""Timeout of a call in these tests."""
TELLS = ("xiaomi", "vivo", "oppo")
"""Vendors that know a repeat."""
NO_CREDENTIAL = ("xiaomi", "meizu")
"""Vendors whose secret never expires."""


class World:
    """A vendor's client and its simulator."""

    def __init__(self, kind: type[Simulator], directory: Path) -> None:
        self.simulator = kind(directory)
        self.simulator.start()
        self._clients: list[Vendor] = []
        self.client = self.make()

    def make(self, **settings: Any) -> Vendor:
        """A client; the same settings but for these."""
        kind = all_vendors()[self.simulator.name]
        if kind is Apns:
            kind = Hasty
        table = {"timeout": SECONDS, **self.simulator.settings(), **settings}
        found = kind(App("main", apns.TOPIC), msgspec.convert(table, kind.Settings), read_secret)
        self._clients.append(found)
        return found

    def push(self, number: int, text: str = "hello", **more: Any) -> Push:
        expires = more.pop("expires", time.time() + 3600)
        note = Notification(f"id{number}", "Ann", text, collapse="s1", badge=3, expires=expires, **more)
        return Push(self.simulator.token(number), note)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.simulator.stop()


class Hasty(Apns):
    """May renew its token at once, which Apple forbids."""

    token_least = 0.0


@pytest.fixture(params=SIMULATORS, ids=lambda kind: kind.__name__.lower())
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    found = World(request.param, tmp_path)
    yield found
    found.close()


def outcomes(client: Vendor, *pushes: Push) -> list[Outcome]:
    return [v.outcome for v in client.send(pushes)]


def test_ok_and_the_same_for_long_strange_texts(world: World) -> None:
    client, phone = world.client, world.simulator
    assert outcomes(client, world.push(1)) == [Outcome.ACCEPTED]
    (shown,) = phone.accepted
    assert (shown.title, shown.body) == ("Ann", "hello")
    assert shown.badge == (3 if client.wants_badge else None)
    extra = msgspec.json.encode({"a": "x" * 300, "from": "y", "google.z": 1, "n": {"deep": [1]}}).decode()
    note = Notification("id2", "👋" * 3000, '\n 😀 \\" 好' * 3000, url="app://chat/1", extra=extra, collapse="x" * 200)
    strange = Push(phone.token(2), note._replace(badge=100_000, expires=time.time() + 1e9, alert=False))
    assert outcomes(client, strange) == [Outcome.ACCEPTED]
    huge = note._replace(id="id4", url="app://" + "u" * 3900, extra=f'{{"a": "{"x" * 3900}"}}')
    assert outcomes(client, Push(phone.token(4), huge)) == [Outcome.ACCEPTED]
    empty = Push(phone.token(3), Notification("id3", "", " ", collapse="s1", expires=time.time() - 5))
    assert outcomes(client, empty) == [Outcome.ACCEPTED]


def test_a_dead_token_is_the_only_one_said_to_be_dead(world: World) -> None:
    expires = time.time() + 3600
    pushes = [world.push(n, expires=expires) for n in range(min(7, world.client.batch))]
    dead = pushes[-1].token
    world.simulator.dead = {dead}
    *others, last = world.client.send(pushes)
    assert last.outcome is Outcome.DEAD
    assert all(v.outcome is Outcome.ACCEPTED for v in others)
    assert {s.token for s in world.simulator.accepted} == {p.token for p in pushes} - {dead}


def test_an_expired_credential_is_renewed_once(world: World) -> None:
    phone = world.simulator
    if phone.name in NO_CREDENTIAL:
        pytest.skip("its secret does not expire")
    assert outcomes(world.client, world.push(1)) == [Outcome.ACCEPTED]
    phone.expire()
    before = len(phone.issued)
    jobs = [gevent.spawn(outcomes, world.client, world.push(n)) for n in range(2, 12)]
    assert [g.get() for g in jobs] == [[Outcome.ACCEPTED]] * 10
    assert len(phone.issued) == before + 1, "one renewal for all"


def test_a_credential_that_stays_refused_is_a_mistake_of_ours(world: World) -> None:
    phone = world.simulator
    refused = {"meizu": "config", "xiaomi": "config"}.get(phone.name)
    if refused:
        phone.plan.append(refused)
        assert outcomes(world.client, world.push(1)) == [Outcome.CONFIG]
        return
    phone.expired = Everything()
    assert outcomes(world.client, world.push(1)) == [Outcome.CONFIG]
    assert len(phone.issued) <= 2, "asked for once more, and not again"


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("throttled", Outcome.THROTTLED), ("server", Outcome.SERVER), ("bad", Outcome.BAD), ("config", Outcome.CONFIG),
     ("garbage", Outcome.SERVER), ("quota", Outcome.QUOTA), ("busy", Outcome.BUSY)],
)  # fmt: skip
def test_what_a_refusal_means(world: World, fault: str, outcome: Outcome) -> None:
    if fault not in world.simulator.answers and fault != "garbage":
        pytest.skip("this vendor has none")
    world.simulator.plan.append(fault)
    (verdict,) = world.client.send([world.push(1)])
    assert verdict.outcome is outcome
    if fault == "throttled" and "retry-after" in world.simulator.answers[fault].headers:
        assert verdict.retry_after == 7
    assert outcomes(world.client, world.push(2)) == [Outcome.ACCEPTED], "the next one is not harmed"


def test_a_hanging_call_ends_at_its_deadline_and_holds_up_no_other(world: World) -> None:
    assert outcomes(world.client, world.push(0)) == [Outcome.ACCEPTED]
    world.simulator.plan.append("hang")
    hanging = gevent.spawn(outcomes, world.client, world.push(1))
    wait_until(lambda: not world.simulator.plan, "the hanging call has arrived")
    others = [gevent.spawn(outcomes, world.client, world.push(n)) for n in range(2, 30)]
    assert [g.get() for g in others] == [[Outcome.ACCEPTED]] * 28
    assert not hanging.ready()
    assert hanging.get() == [Outcome.LOST]


def test_a_cut_connection_is_lost_and_a_second_try_shows_nothing_twice(world: World) -> None:
    world.simulator.plan.append("cut")  # the vendor has taken it
    push = world.push(1)
    assert outcomes(world.client, push) == [Outcome.LOST]
    assert outcomes(world.client, push) == [Outcome.ACCEPTED]
    assert len(world.simulator.shown) == 1
    if world.client.name in TELLS:
        assert len(world.simulator.accepted) == 1
        assert world.simulator.repeats == 1
    world.simulator.plan.append("refuse")  # and this time it has not
    assert outcomes(world.client, world.push(2)) == [Outcome.LOST]
    assert outcomes(world.client, world.push(2)) == [Outcome.ACCEPTED]


def test_closed_connections_and_a_restart_of_the_vendor_lose_nothing(world: World) -> None:
    phone = world.simulator
    for number in range(20):
        if number % 5 == 1:
            phone.cut()
        if number % 5 == 2 and phone.name == "apns":
            phone.plan.append("goaway")
            assert outcomes(world.client, world.push(number)) == [Outcome.ACCEPTED], "another connection takes it"
        if number % 5 == 3:
            phone.stop()
            (verdict,) = world.client.send([world.push(number)])
            assert verdict.outcome in (Outcome.UNREACHABLE, Outcome.LOST)
            phone.start()
        wait_until(lambda n=number: outcomes(world.client, world.push(n)) == [Outcome.ACCEPTED], "sent")  # type: ignore[misc]
    assert {s.token for s in phone.accepted} == {phone.token(n) for n in range(20)}


def test_a_wrong_signature_is_refused(world: World) -> None:
    phone = world.simulator
    if phone.name in ("apns", "fcm") or phone.__class__.__name__ == "HuaweiV3":
        ec_key, rsa_key = apns.signing_keys(1)
        phone.key = ec_key if phone.name == "apns" else rsa_key  # type: ignore[attr-defined]
        wrong = world.make()
        phone.key = apns.signing_keys()[0 if phone.name == "apns" else 1]  # type: ignore[attr-defined]
    else:
        phone.secret = "wrong"  # type: ignore[attr-defined]
        wrong = world.make()
    assert outcomes(wrong, world.push(1)) == [Outcome.CONFIG]
    assert not phone.accepted


def test_an_oversize_payload_is_refused(world: World) -> None:
    """What clients never send, because they cut texts: so the request is made longer by hand."""
    push, client = world.push(1, "MARK"), world.client
    if isinstance(client, HttpVendor):
        assert outcomes(client, push) == [Outcome.ACCEPTED]
        credential = client.credential.value() if client.credential else ""
        request = client.build([push], credential)
        body = request.body.replace(b"MARK", b"M" * 5000)
        if client.name == "meizu":
            body = resigned(body)
        found = client.judge([push], client.api.post(request.path, body, request.headers))
    else:
        assert isinstance(client, Apns)
        request = client.preview(push)
        headers = {**request.headers, "authorization": f"bearer {client.credential.value()}"}  # type: ignore[union-attr]
        found = [client.judged(client.http.post(list(headers.items()), request.body.replace(b"MARK", b"M" * 5000)))]
    assert [v.outcome for v in found] == [Outcome.BAD]


def resigned(body: bytes) -> bytes:
    from push.vendors.meizu import sign_of
    from tests.simulators.meizu import SECRET

    form = {k: v for k, v in parse_qsl(body.decode()) if k != "sign"}
    return urlencode({**form, "sign": sign_of(form, SECRET)}).encode()


def test_an_untrusted_server_gets_nothing(world: World) -> None:
    stranger = world.make(ca_file="")
    assert outcomes(stranger, world.push(1)) == [Outcome.UNREACHABLE]
    assert not world.simulator.calls
