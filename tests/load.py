"""Many clients under load, and a checker that compares what each of them saw with what is stored.

Every client keeps what it sent, what was acknowledged under which number, and what it received. In each pair one is the
SDK's client, and one speaks the protocol itself. `problems` and `chain_problems` know nothing of clients or servers:
they get these records and the history, and name every broken promise.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import gevent

from client.client import Client
from client.events import Message, Sent
from packs import table as t
from packs.ids import single_session
from packs.structs import HistoryMsgPullReq
from tests.load_wire import WireClient
from tests.raw import Raw, decode
from tests.waiting import wait_until

WINDOW = 8
PAUSE = 0.1
"""Seconds between two messages of one client."""
NEW_DEVICE = 4
"""deviceType of the reader that checks the history: another one than the clients have."""


class Entry(NamedTuple):
    """A stored message; `prev` is the number of the one before it."""

    seq: int
    prev: int
    pack_id: str
    text: str


@dataclass
class Seen:
    """What one client saw of its session."""

    sent: list[str] = field(default_factory=list)
    acked: dict[str, int] = field(default_factory=dict)
    received: list[tuple[int, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def note(self, text: str, seq: int | None) -> None:
        """What became of a text: its number, or None when it was refused for good."""
        if seq is None:
            self.refused.append(text)
        else:
            self.acked[text] = seq


def problems(history: list[tuple[int, str]], seen: dict[str, Seen]) -> list[str]:
    """What is wrong with a session. `history`: (number, text) ascending; texts begin with their sender and a colon."""
    found = []
    numbers = {text: seq for seq, text in history}
    for text, count in Counter(text for _, text in history).items():
        if count > 1:
            found.append(f"doubled: {text}")
    contents: dict[int, set[str]] = defaultdict(set)
    for seq, text in [*history, *(r for s in seen.values() for r in s.received)]:
        contents[seq].add(text)
    found += [f"number {seq} denotes {len(texts)} messages" for seq, texts in contents.items() if len(texts) > 1]
    everything = {text for s in seen.values() for text in s.sent}
    found += [f"phantom: {text}" for text in numbers if text not in everything]
    for user, s in seen.items():
        for text, seq in s.acked.items():
            if numbers.get(text) != seq:
                found.append(f"lost or renumbered: {text} was acknowledged as {seq}, history has {numbers.get(text)}")
        found += [f"refused and stored all the same: {text}" for text in s.refused if text in numbers]
        if [text for _, text in history if text.startswith(f"{user}:")] != [t for t in s.sent if t in numbers]:
            found.append(f"order of {user}'s messages")
        expected = [(seq, text) for seq, text in history if not text.startswith(f"{user}:")]
        if s.received != expected:
            missing = [t for t in expected if t not in set(s.received)]
            found.append(f"{user} received {len(s.received)} of {len(expected)}; missing {missing[:3]}")
    return found


def chain_problems(history: list[Entry]) -> list[str]:
    """What is wrong with the numbers and packIds of a session; `history` ascending, nothing was ever deleted."""
    found = [f"packId {p} is there {n} times" for p, n in Counter(e.pack_id for e in history).items() if n > 1]
    if history and history[0].prev:
        found.append(f"before the first one, {history[0].text}, there should be {history[0].prev}")
    for before, entry in pairwise(history):
        if not before.seq == entry.prev < entry.seq:
            found.append(f"{entry.text}: {entry.seq} follows {before.seq} and says {entry.prev}")
    return found


class Load:
    """Pairs of clients that write to each other without pause.

    `sdk=False`: none is the SDK's. Its clients come back from an outage spread over 10 s, as they should; a test
    that is not about them need not wait for that.
    """

    def __init__(self, addresses: Iterable[str], pairs: int, name: str = "load", *, sdk: bool = True) -> None:
        self.addresses = list(addresses)
        self._sdk = sdk
        self.users = [(f"{name}-a{n}", f"{name}-b{n}") for n in range(pairs)]
        self.seen: dict[str, Seen] = {}
        self.clients: dict[str, Client] = {}
        self.wires: dict[str, WireClient] = {}
        self._running = True
        self._senders: list[gevent.Greenlet] = []

    def start(self) -> None:
        for a, b in self.users:
            if self._sdk:
                self._connect(a)
            else:
                self._connect_wire(a, b)
            self._connect_wire(b, a)
        wait_until(lambda: all(w.online for w in self.wires.values()), "all clients to be logged in", 20)
        for a, b in self.users:
            first = gevent.spawn(self._send_sdk, a, b) if self._sdk else gevent.spawn(self._send_wire, a)
            self._senders += [first, gevent.spawn(self._send_wire, b)]

    def _connect(self, user: str) -> None:
        seen = self.seen[user] = Seen()

        def received(message: Message) -> None:
            seen.received.append((message.seq_id, message.content))

        self.clients[user] = Client(self.addresses, user, on_message=received, window=WINDOW).connect(timeout=20)

    def _connect_wire(self, user: str, peer: str) -> None:
        seen = self.seen[user] = Seen()
        self.wires[user] = WireClient(self.addresses, user, peer, lambda seq, text: seen.received.append((seq, text)))

    def _send(self, user: str, client: Client | WireClient, send: Callable[[str], object]) -> None:
        seen = self.seen[user]
        while self._running:
            gevent.sleep(PAUSE)
            if client.unacknowledged < WINDOW:
                seen.sent.append(f"{user}:{len(seen.sent)}")
                send(seen.sent[-1])

    def _send_sdk(self, user: str, peer: str) -> None:
        client, seen = self.clients[user], self.seen[user]

        def send(text: str) -> None:
            def done(sent: Sent | None, error: Exception | None) -> None:
                seen.note(text, sent.seq_id if sent is not None else None)

            client.send(peer, text, wait=False, done=done)

        self._send(user, client, send)

    def _send_wire(self, user: str) -> None:
        client, seen = self.wires[user], self.seen[user]
        self._send(user, client, lambda text: client.send(text, partial(seen.note, text)))

    @property
    def acked(self) -> int:
        return sum(len(s.acked) for s in self.seen.values())

    @property
    def in_flight(self) -> int:
        return sum(c.unacknowledged for c in self.clients.values()) + sum(w.unacknowledged for w in self.wires.values())

    def finish(self, seconds: float = 30.0) -> list[str]:
        """Stop sending, wait until everything has arrived, and check; the problems."""
        self._running = False
        gevent.joinall(self._senders)
        wait_until(lambda: not self.in_flight, "all messages acknowledged", seconds)
        histories = {a: self._history(a, b) for a, b in self.users}

        def arrived() -> bool:
            return all(
                len(self.seen[user].received) >= sum(not entry.text.startswith(f"{user}:") for entry in histories[a])
                for a, b in self.users
                for user in (a, b)
            )

        try:
            wait_until(arrived, "all messages received", seconds)
        except AssertionError:
            pass  # the checker says what is missing
        found = [violation for client in self.wires.values() for violation in client.wire.violations]
        for a, b in self.users:
            found += chain_problems(histories[a])
            found += problems([(e.seq, e.text) for e in histories[a]], {a: self.seen[a], b: self.seen[b]})
        return found

    def _history(self, user: str, peer: str) -> list[Entry]:
        """The whole session as a device sees it that has nothing yet."""
        host, port = self.addresses[0].rsplit(":", 1)
        reader = Raw((host, int(port)))
        assert reader.login(user, device_type=NEW_DEVICE, device_id="new").error_code.code == 0
        found: list[Entry] = []
        below = 0
        more = True
        while more:
            request = HistoryMsgPullReq(session_id=single_session(user, peer), seq_id=below, count=200)
            response = reader.ask(t.HISTORY_MSG_PULL, request)
            assert response.error_code.code == 0, response
            page = [(decode(pack), pack.pack_id) for pack in response.msgs]
            found += [Entry(m.seq_id, m.prev_seq_id, pack_id, m.content) for m, pack_id in page]
            below = found[-1].prev if found else 0
            more = bool(page and below)
        reader.close()
        return found[::-1]

    def close(self) -> None:
        self._running = False
        for wire in self.wires.values():
            wire.close()
        gevent.joinall([gevent.spawn(c.close) for c in self.clients.values()])
