"""Many clients under load, and a checker that compares what each of them saw with what is stored.

Every client keeps what it sent, what was acknowledged under which number, and what it received. `problems` knows
nothing of clients or servers: it gets these records and the history, and names every broken promise.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import gevent

from client.client import Client, Sent
from client.inbox import Message
from tests.waiting import wait_until

WINDOW = 8
PAUSE = 0.02
"""Seconds between two messages of one client."""


@dataclass
class Seen:
    """What one client saw of its session."""

    sent: list[str] = field(default_factory=list)
    acked: dict[str, int] = field(default_factory=dict)
    received: list[tuple[int, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


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


class Load:
    """Pairs of clients that write to each other without pause."""

    def __init__(self, addresses: Iterable[str], pairs: int, name: str = "load") -> None:
        self.addresses = list(addresses)
        self.users = [(f"{name}-a{n}", f"{name}-b{n}") for n in range(pairs)]
        self.seen: dict[str, Seen] = {}
        self.clients: dict[str, Client] = {}
        self._running = True
        self._senders: list[gevent.Greenlet] = []

    def start(self) -> None:
        for pair in self.users:
            for user in pair:
                self._connect(user)
        for a, b in self.users:
            self._senders += [gevent.spawn(self._send, a, b), gevent.spawn(self._send, b, a)]

    def _connect(self, user: str) -> None:
        seen = self.seen[user] = Seen()

        def received(message: Message) -> None:
            seen.received.append((message.seq_id, message.content))

        self.clients[user] = Client(self.addresses, user, on_message=received, window=WINDOW).connect(timeout=20)

    def _send(self, user: str, peer: str) -> None:
        client, seen = self.clients[user], self.seen[user]
        while self._running:
            gevent.sleep(PAUSE)
            if client.unacknowledged >= WINDOW:
                continue
            text = f"{user}:{len(seen.sent)}"
            seen.sent.append(text)

            def done(sent: Sent | None, error: Exception | None, text: str = text) -> None:
                if sent is not None:
                    seen.acked[text] = sent.seq_id
                else:
                    seen.refused.append(text)

            client.send(peer, text, wait=False, done=done)

    @property
    def acked(self) -> int:
        return sum(len(s.acked) for s in self.seen.values())

    @property
    def in_flight(self) -> int:
        return sum(c.unacknowledged for c in self.clients.values())

    def finish(self, seconds: float = 30.0) -> list[str]:
        """Stop sending, wait until everything has arrived, and check; the problems."""
        self._running = False
        gevent.joinall(self._senders)
        wait_until(lambda: not self.in_flight, "all messages acknowledged", seconds)
        histories = {a: self._history(a, b) for a, b in self.users}

        def arrived() -> bool:
            return all(
                len(self.seen[user].received) >= sum(not text.startswith(f"{user}:") for _, text in histories[a])
                for a, b in self.users
                for user in (a, b)
            )

        try:
            wait_until(arrived, "all messages received", seconds)
        except AssertionError:
            pass  # the checker says what is missing
        found = []
        for a, b in self.users:
            found += problems(histories[a], {a: self.seen[a], b: self.seen[b]})
        return found

    def _history(self, user: str, peer: str) -> list[tuple[int, str]]:
        found: list[Message] = []
        before = 0
        while True:
            page = self.clients[user].history(peer, before=before, count=200)
            found += page
            if not page or page[-1].prev_seq_id == 0:
                return [(m.seq_id, m.content) for m in reversed(found)]
            before = page[-1].seq_id - 1

    def close(self) -> None:
        self._running = False
        gevent.joinall([gevent.spawn(c.close) for c in self.clients.values()])
