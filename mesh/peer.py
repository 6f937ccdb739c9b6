"""The link to one peer process: its DEALER, HELLO and heartbeat, and what is sent to it in this loop turn.

Liveness belongs to the link, never to the call. A link is up from the peer's answer to HELLO until its transport
breaks, it refuses a send, or it has been silent for `lost_after` seconds; after half of that time new calls go
elsewhere. While it is down, HELLO is tried at each beat; nothing else is sent.
"""

from __future__ import annotations

import contextlib
from typing import Any

from mesh.balance import Instance
from mesh.calls import Calls
from mesh.contract import Method
from mesh.errors import WireError
from mesh.link import IDENTITY_PREFIX, Refused, Sockets
from mesh.log import Log
from mesh.loop import Tick, now
from mesh.wire import CAST, ERROR, HELLO, PING_ITEM, PONG, REQUEST, RESULT, encode, join, split

FLUSH_FIRST, FLUSH_MOST = 32, 128
"""Calls of one turn that leave together before its end, so that the peer works while we go on: a quarter of those that
have left in this turn already, between these two. Without it both sides take turns: 64 or 1000 callers make 1.3 to 1.6
times the calls per second for 0.2 µs more each."""

Hello = tuple[int, str, str, int, str, dict[str, int]]
"""A HELLO item: kind, process, start, version, state, fingerprints of the methods it serves."""


class Peer:
    """A peer process, as the target of the instances that live there."""

    local = False

    def __init__(
        self, process: str, endpoint: str, server_key: bytes | None, sockets: Sockets, hello: bytes,
        me: tuple[str, str], calls: Calls, log: Log, lost_after: float,
    ) -> None:  # fmt: skip
        self.process = process
        self.endpoint = endpoint
        self.start = ""  # the peer's start id; another one means another process
        self.up = False
        self.instances: list[Instance] = []
        self.expected: dict[str, int] = {}  # fingerprints of the methods that are called here
        self._hello = next(join([hello]))[1]
        self._number = 0  # of the last message since HELLO
        self._calls = calls
        self._log = log
        self._lost_after = lost_after
        self._heard = 0.0
        self._out: list[bytes] = []
        self._flush_at, self._flushed = FLUSH_FIRST, 0  # when calls leave early in this turn, and how many did
        self._ids: list[int] = []  # call ids beside _out; 0 for what is no call
        self._tick = Tick(self._flush)
        identity = IDENTITY_PREFIX + f"{me[0]}#{me[1]}".encode()
        self._dealer = sockets.dealer(identity, self._receive, self._transport)
        self._dealer.connect(endpoint, server_key)

    # ---- sending (the interface of a target, like mesh.dispatch.Dispatcher)

    def request(self, call: Any, again: bool) -> None:
        method = call.method
        left_ms = int((call.deadline - now()) * 1000)
        name = f"{call.service.name}.{method.name}"
        run = 0 if call.lane is None else call.lane.run
        self._out.append(encode((REQUEST, call.id, name, left_ms, 1 if again else 0, run, method.encode(call.args))))
        self._ids.append(call.id)
        self._tick.arm()
        if len(self._out) >= self._flush_at:
            self._flushed += len(self._out)
            self._flush_at = min(max(FLUSH_FIRST, self._flushed // 4), FLUSH_MOST)
            self._send()

    def cast(self, service: str, method: Method, args: tuple[Any, ...]) -> None:
        self._out.append(encode((CAST, f"{service}.{method.name}", method.encode(args))))
        self._ids.append(0)
        self._tick.arm()

    def _flush(self) -> None:
        self._flush_at, self._flushed = FLUSH_FIRST, 0
        if self._send():
            self._dealer.check()
        else:
            self._down("refused")

    def _send(self) -> bool:
        """Send what waits. False when the peer refused: then the rest still waits."""
        sent = 0
        try:
            for count, message in join(self._out, self._number + 1) if self._out else ():
                self._dealer.send(message)
                self._number += 1
                sent += count
        except Refused:
            return False
        finally:
            del self._out[:sent], self._ids[:sent]
        return True

    def _say_hello(self) -> None:
        self._number = 0
        with contextlib.suppress(Refused):
            self._dealer.send(self._hello)
            self._dealer.check()

    def _ping(self) -> None:
        self._out.append(PING_ITEM)
        self._ids.append(0)
        self._tick.arm()

    # ---- liveness

    def beat(self) -> None:
        """Once per heartbeat."""
        time = now()
        if not self.up:
            self._say_hello()
            return
        silent = time - self._heard
        if silent > self._lost_after:
            self._down("silent")
            return
        hushed = silent > self._lost_after / 2
        for instance in self.instances:
            if instance.up == hushed:
                instance.up = not hushed
                self._calls.available(instance)
        self._ping()

    def _transport(self, connected: bool) -> None:
        if connected:
            self._say_hello()
        elif self.up:
            self._down("disconnected")

    def _down(self, reason: str) -> None:
        was_up, self.up = self.up, False
        unsent, self._out, self._ids = self._ids, [], []
        for instance in self.instances:
            instance.up = False
        if was_up:
            self._calls.stats.counts[f"links.lost.{reason}"] += 1
            ended = any(instance.state == "draining" for instance in self.instances)  # as it had said
            tell = self._log.info if ended else self._log.warning
            tell("link lost", peer=self.process, reason=reason)
        self._calls.refused([call_id for call_id in unsent if call_id], self.instances)
        self._calls.lost(self.instances)

    # ---- receiving

    def _receive(self, message: bytes) -> None:
        self._heard = now()
        try:
            resolve = self._calls.resolve
            for item in split(message):
                if item[0] == RESULT:
                    resolve(item[1], item[2], encoded=True)
                else:
                    self._handle(item)
        except WireError as error:
            self._calls.stats.counts["drops.link.undecodable"] += 1
            self._log.limited("wire" + self.process, 60, "bad message", peer=self.process, error=error)

    def _handle(self, item: Any) -> None:
        kind = item[0]
        if kind == ERROR:
            self._calls.reject(*item[1:])
        elif kind == PONG:
            self._set_state(item[1])
        elif kind == HELLO:
            self._greeted(item)

    def _greeted(self, item: Hello) -> None:
        _, process, start, version, state, methods = item
        if process != self.process:
            self._log.limited("name", 60, "another process answers", expected=self.process, got=process)
            return
        if self.up and start != self.start:
            self._down("restarted")
        wrong = [name for name, print_ in self.expected.items() if methods.get(name) != print_]
        if wrong:
            self._log.limited(
                "contract" + process, 60, "peer has other contracts; not calling it", peer=process, version=version,
                methods=",".join(sorted(wrong)[:5]),
            )  # fmt: skip
            return
        new, known = start != self.start, self.start != ""
        self.start = start
        if not self.up:
            self.up = True
            self._log.info("link up", peer=process, restarted=new and known)
            for instance in self.instances:
                instance.up = True
                if new:
                    instance.reset()
        self._set_state(state, force=True)

    def _set_state(self, state: str, force: bool = False) -> None:
        if not self.up:
            return
        for instance in self.instances:
            if force or instance.state != state:
                instance.state = state
                self._calls.available(instance)

    def expect(self, service: str, methods: dict[str, Method]) -> None:
        """Methods that will be called there: their fingerprints must match before anything is sent."""
        self.expected.update({f"{service}.{name}": m.fingerprint for name, m in methods.items()})

    def close(self) -> None:
        self._dealer.close()
