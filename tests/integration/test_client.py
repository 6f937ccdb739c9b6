"""The SDK against a real system: what an app developer relies on."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

import client as package
from client.client import Client
from client.errors import ConnectionLost, LoginRefused, Refused
from client.events import Message
from client.store import FileStore
from packs.codec import JSON
from tests.clients import take
from tests.system import ROOT, System, running, topology_text
from tests.waiting import wait_until

User = Callable[[], str]


def connect(system: System, name: str, **options: Any) -> Client:
    host, port = system.address()
    return Client(f"{host}:{port}", name, **options).connect(timeout=10)


def test_the_example_of_the_package_runs(system: System, user: User) -> None:
    code = re.findall(r"^    (.*)$", package.__doc__ or "", re.MULTILINE)
    text = "\n".join(code).replace("127.0.0.1:7100", "{}:{}".format(*system.address()))
    exec(text.replace('"alice"', repr(user())).replace('"bob"', repr(user())), {})


def test_two_clients_of_two_codecs_talk(system: System, user: User) -> None:
    alice, bob = user(), user()
    with connect(system, alice) as a, connect(system, bob, codec=JSON) as b:
        sent = a.send(bob, "你好")
        assert sent is not None
        (got,) = take(b, 1)
        assert (got.sender, got.content, got.seq_id, got.via) == (alice, "你好", sent.seq_id, "live")
        b.send(alice, "hi")
        assert [m.content for m in take(a, 1)] == ["hi"]
        assert [m.content for m in a.history(bob)] == ["hi", "你好"]
        (hot,) = b.hot_sessions()
        assert (hot.session_id, hot.unread) == (sent.session_id, 0)  # b's own message moved his read position


def test_what_came_while_away_is_delivered_once_and_in_order(system: System, user: User, tmp_path: Path) -> None:
    alice, bob = user(), user()
    store = FileStore(tmp_path / "bob")
    with connect(system, alice) as a:
        with connect(system, bob, store=store) as b:
            a.send(bob, "0")
            take(b, 1)
        for n in range(1, 251):
            a.send(bob, str(n), wait=n == 250)
        wait_until(lambda: a.unacknowledged == 0, "all acks")
        with connect(system, bob, store=store) as b:
            assert [m.content for m in take(b, 250)] == [str(n) for n in range(1, 251)]
            a.send(bob, "live")
            assert [m.content for m in take(b, 1)] == ["live"]
    store.close()


def test_what_was_not_taken_comes_again_at_the_next_start(system: System, user: User, tmp_path: Path) -> None:
    alice, bob = user(), user()
    store = FileStore(tmp_path / "bob")
    with connect(system, alice) as a:
        with connect(system, bob, store=store) as b:
            for n in range(3):
                a.send(bob, str(n))
            assert [m.content for m in take(b, 1)] == ["0"]
            b.send(alice, "mine")  # its ack comes after the others
        with connect(system, bob, store=store) as b:
            assert [m.content for m in take(b, 3)] == ["1", "2", "mine"]  # as from another device of his
        with connect(system, bob, store=store) as b:
            assert list(b.messages(timeout=0.5)) == []
    store.close()


def test_an_unacknowledged_message_is_sent_by_the_next_start(system: System, user: User, tmp_path: Path) -> None:
    alice, bob = user(), user()
    store = FileStore(tmp_path / "alice")
    offline = Client("127.0.0.1:1", alice, store=store)
    offline.send(bob, "written on the train", wait=False)
    store.close()
    store = FileStore(tmp_path / "alice")
    with connect(system, alice, store=store) as a, connect(system, bob) as b:
        assert [m.content for m in take(b, 1)] == ["written on the train"]
        wait_until(lambda: a.unacknowledged == 0, "the ack")
    assert store.load()[2] == []
    store.close()


def test_closing_tells_whoever_waits(system: System, user: User) -> None:
    a = connect(system, user())
    outcomes: list[Any] = []
    brokers = [system.pid(name) for name, spec in system.status().items() if "broker" in spec["nodes"]]
    for pid in brokers:
        system.signal(pid, signal.SIGSTOP)
    try:
        a.send(user(), "x", wait=False, done=lambda sent, error: outcomes.append(error))
        a.close()
    finally:
        for pid in brokers:
            system.signal(pid, signal.SIGCONT)
    assert [type(o) for o in outcomes] == [ConnectionLost]
    with pytest.raises(ConnectionLost):
        a.send(user(), "too late")


def test_a_callback_that_fails_harms_nobody_else(system: System, user: User) -> None:
    alice, bob = user(), user()
    got: list[str] = []

    def received(message: Message) -> None:
        got.append(message.content)
        raise RuntimeError("a bug of the program")

    with connect(system, alice) as a, connect(system, bob, on_message=received):
        for n in range(3):
            a.send(bob, str(n), done=None)
        wait_until(lambda: got == ["0", "1", "2"], "all of them")


def test_a_message_longer_than_a_frame_is_refused_here(system: System, user: User) -> None:
    with connect(system, user(), codec=JSON) as a:
        with pytest.raises(Refused) as caught:
            a.send(user(), "\x01" * 120_000)  # JSON writes each as six bytes
        assert caught.value.code == 41
        assert a.connected


def test_plain_threads_and_tls(user: User, tmp_path: Path) -> None:
    """In a program of its own that is not patched: the SDK with real threads, over TLS, in both directions at once."""
    form = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    openssl = ["openssl", *form.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key", "-out", "cert"]
    subprocess.run(openssl, cwd=tmp_path, check=True, capture_output=True)
    tables = {
        "node.broker": {
            "tls_listen": "127.0.0.1:0", "tls_certificate": str(tmp_path / "cert"), "tls_key": str(tmp_path / "key"),
        }
    }  # fmt: skip
    with running(topology_text(tables=tables)) as system:
        host, port = system.address("tls")
        program = [sys.executable, "-W", "error", "-c", PLAIN, f"{host}:{port}", str(tmp_path / "cert")]
        done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "all there\n", "")


PLAIN = """
import ssl, sys, threading
from client.client import Client
assert "gevent" not in sys.modules
address, certificate = sys.argv[1:]
def talk(me, peer):
    tls = ssl.create_default_context(cafile=certificate)
    with Client(address, me, tls=tls) as client:
        ready.wait()
        senders = [threading.Thread(target=send, args=(client, peer, k)) for k in range(4)]
        for each in senders: each.start()
        got = []
        for message in client.messages(timeout=20):
            got.append(message.content[:5])
            if len(got) == 400: break
        for each in senders: each.join()
        results.append(sorted(got) == sorted(f"{k}:{n:03}" for k in range(4) for n in range(100)))
        done.wait()
def send(client, peer, k):
    for n in range(100):
        client.send(peer, f"{k}:{n:03}" + "x" * 5000)
ready, done, results = threading.Barrier(2), threading.Barrier(2), []
pair = [threading.Thread(target=talk, args=names) for names in (("tom", "tim"), ("tim", "tom"))]
for each in pair: each.start()
for each in pair: each.join()
assert results == [True, True], results
assert threading.active_count() == 1
print("all there")
"""


def test_who_only_listens_is_kept_alive_and_a_silent_server_is_noticed(user: User) -> None:
    alice, bob = user(), user()
    events: list[str] = []
    with (
        running(topology_text(tables={"node.broker": {"heartbeat": 0.5}})) as system,
        connect(system, alice) as a,
        connect(system, bob, on_event=lambda e: events.append(type(e).__name__)) as b,
    ):
        for n in range(20):
            a.send(bob, str(n))
            gevent.sleep(0.1)  # the server closes what is silent for a second
        assert [m.content for m in take(b, 20)] == [str(n) for n in range(20)]
        assert events == ["Connected"]
        pid = system.pid("main-1")
        system.signal(pid, signal.SIGSTOP)
        wait_until(lambda: "Disconnected" in events, "the silence to be noticed", 5)
        system.signal(pid, signal.SIGCONT)
        wait_until(lambda: events[-1] == "Connected", "the connection to be back", 20)


def test_messages_come_while_history_is_away(user: User) -> None:
    alice, bob = user(), user()
    with running(topology_text("split")) as system, connect(system, alice) as a:
        a.send(bob, "before")
        pid = system.pid("history-1")
        system.signal(pid, signal.SIGSTOP)
        with connect(system, bob) as b:
            a.send(bob, "meanwhile")
            system.signal(pid, signal.SIGCONT)
            assert [m.content for m in take(b, 2, 20)] == ["before", "meanwhile"]


def test_a_refused_message_says_why_and_later_ones_go_on(system: System, user: User) -> None:
    alice, bob = user(), user()
    with connect(system, alice) as a:
        with pytest.raises(Refused) as caught:
            a.send(bob, "x" * 70_000)
        assert caught.value.code == 41
        with pytest.raises(Refused) as caught:
            a.send(bob, "")
        assert caught.value.code == 40
        assert a.send(bob, "fine") is not None


def test_nobody_there_and_bad_identity_are_clear_errors(system: System) -> None:
    with pytest.raises(ConnectionLost, match=r"no imesh on 127\.0\.0\.1:1"):
        Client("127.0.0.1:1", "alice").connect(timeout=5)
    host, port = system.address()
    with pytest.raises(LoginRefused) as caught:
        Client(f"{host}:{port}", "not an id").connect(timeout=5)
    assert caught.value.code == 20


def test_a_kicked_client_stops_and_says_so(system: System, user: User) -> None:
    alice = user()
    events: list[str] = []
    first = connect(system, alice, on_event=lambda e: events.append(type(e).__name__))
    with connect(system, alice, device_id="another"):
        wait_until(lambda: "Ended" in events, "the first to be kicked")
        assert list(first.messages()) == []
    first.close()


def test_sends_and_messages_survive_the_death_of_every_process(user: User) -> None:
    with running(topology_text("split")) as system:
        alice, bob = user(), user()
        a, b = connect(system, alice), connect(system, bob)
        outcomes: list[Any] = []
        count = 0
        for process in ("chat-1", "broker-1", "history-1", "redis", "user-1"):
            for _ in range(20):
                a.send(bob, str(count), wait=False, done=lambda sent, error: outcomes.append(error or sent))
                count += 1
            system.kill(process)
            system.wait_serving()
            # A broker on port 0 comes back on another port: tell the clients, as a load balancer would.
            host, port = system.address()
            for each in (a, b):
                each._addresses[:] = [f"{host}:{port}"]
        wait_until(lambda: len(outcomes) == count, "all outcomes", 30)
        assert not [o for o in outcomes if isinstance(o, Exception)]
        assert [m.content for m in take(b, count, 30)] == [str(n) for n in range(count)]
        a.close()
        b.close()


def test_a_stopped_chat_node_makes_sends_late_and_nothing_else(user: User) -> None:
    with running(topology_text("split")) as system:
        alice, bob = user(), user()
        with connect(system, alice) as a, connect(system, bob) as b:
            pid = system.pid("chat-1")
            system.signal(pid, signal.SIGSTOP)
            outcomes: list[Any] = []
            for n in range(5):
                a.send(bob, str(n), wait=False, done=lambda sent, error: outcomes.append(error or sent))
            gevent.sleep(6.0)  # longer than the server takes to say that the outcome is unknown
            assert outcomes == []
            system.signal(pid, signal.SIGCONT)
            wait_until(lambda: len(outcomes) == 5, "the acks", 20)
            assert [m.content for m in take(b, 5)] == [str(n) for n in range(5)]
