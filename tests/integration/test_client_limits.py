"""What the SDK does at its limits: servers that are not there or do not read, programs that do not."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import gevent
import pytest

from client.client import Client
from client.errors import ClientError, ConnectionLost, OutboxFull
from client.events import Message, Missed
from client.store import FileStore
from packs.codec import JSON, MSGPACK, Codec
from tests.system import System
from tests.waiting import wait_until

User = Callable[[], str]
CLOSED_SECONDS = 1.3
"""The promise is a second; the rest is the test's own machine."""


def client(system: System, name: str, **options: object) -> Client:
    host, port = system.address()
    return Client(f"{host}:{port}", name, **options)  # type: ignore[arg-type]


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An address where connecting neither succeeds nor fails: its queue of new connections is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield "{}:{}".format(*listener.getsockname())


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where connecting succeeds and LOGIN is never answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield "{}:{}".format(*listener.getsockname())


@pytest.mark.parametrize("where", ["black_hole", "silent"])
def test_closing_takes_no_longer_than_a_second(where: str, request: pytest.FixtureRequest) -> None:
    address: str = request.getfixturevalue(where)
    c = Client(address, "alice")
    outcomes: list[BaseException] = []

    def connect() -> None:
        try:
            c.connect()
        except ClientError as error:
            outcomes.append(error)

    connecting = gevent.spawn(connect)
    gevent.sleep(0.3)  # it is under way: nothing tells, which is what this is about
    assert not outcomes
    began = time.monotonic()
    c.close()
    assert time.monotonic() - began < CLOSED_SECONDS
    connecting.join(CLOSED_SECONDS)
    assert [type(o) for o in outcomes] == [ConnectionLost]


def test_connect_obeys_its_timeout(black_hole: str) -> None:
    began = time.monotonic()
    with pytest.raises(ClientError):
        Client(black_hole, "alice").connect(timeout=0.5)
    assert time.monotonic() - began < 0.5 + CLOSED_SECONDS


def test_a_full_outbox_refuses_and_takes_again_when_there_is_room(system: System, user: User) -> None:
    alice, bob = user(), user()
    a = client(system, alice, outbox=3)
    for n in range(3):
        a.send(bob, str(n), wait=False)
    with pytest.raises(OutboxFull):
        a.send(bob, "too many", wait=False)
    with a.connect():
        wait_until(lambda: a.unacknowledged == 0, "the acks")
        a.send(bob, "3")
        assert [m.content for m in a.history(bob)] == ["3", "2", "1", "0"]


def test_a_program_that_takes_nothing_gets_everything_later(system: System, user: User) -> None:
    alice, bob = user(), user()
    count = 300
    with client(system, alice) as a, client(system, bob, mailbox=20) as b:
        for n in range(count):
            a.send(bob, str(n), wait=n % 50 == 49)
        wait_until(lambda: a.unacknowledged == 0, "the acks")
        got = []
        for message in b.messages(timeout=10):
            got.append(message.content)
            if len(got) == count:
                break
        assert got == [str(n) for n in range(count)]
        a.send(bob, "live again")
        assert next(b.messages(10)).content == "live again"


def test_waiting_in_a_callback_is_refused_with_a_reason(system: System, user: User) -> None:
    alice, bob = user(), user()
    outcomes: list[str] = []

    def received(message: Message) -> None:
        try:
            b.history(alice)
        except RuntimeError as error:
            outcomes.append(str(error))

    b = client(system, bob, on_message=received)
    with client(system, alice) as a, b:
        a.send(bob, "x")
        wait_until(lambda: outcomes, "the callback")
    assert "a callback may not wait for an answer" in outcomes[0]


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda c: c.name)
def test_large_messages_may_travel_compressed(system: System, user: User, codec: Codec) -> None:
    alice, bob = user(), user()
    with client(system, alice, compress=1000, codec=codec) as a, client(system, bob) as b:
        text = "你好 hello " * 3000
        a.send(bob, text)
        a.send(bob, "short")
        assert [next(b.messages(10)).content for _ in range(2)] == [text, "short"]


def test_a_gap_too_long_is_cut_and_said(
    system: System, user: User, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.sync.CATCH_UP", 200)
    alice, bob = user(), user()
    store = FileStore(f"{tmp_path}/bob")
    with client(system, alice) as a:
        with client(system, bob, store=store):
            a.send(bob, "0")
        for n in range(1, 450):
            a.send(bob, str(n), wait=n == 449)
        with client(system, bob, store=store) as b:
            got = []
            for event in b.events(timeout=10):
                if isinstance(event, Missed | Message):
                    got.append(event)
                if isinstance(event, Message) and event.content == "449":
                    break
            assert isinstance(got[0], Missed) and isinstance(got[1], Message)
            assert got[0].before == got[1].seq_id
            assert [m.content for m in got[1:] if isinstance(m, Message)] == [str(n) for n in range(250, 450)]
            assert [m.content for m in b.history(alice, before=got[0].before - 1, count=1)] == ["249"]
    store.close()
