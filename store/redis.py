"""A Redis client for the hub: commands of all greenlets and handlers leave in one write per loop turn, and their
replies are matched in order by one hiredis reader (12 times less CPU than redis-py per command; `docs/performance.md`).

A lost connection leaves what was under way unknown. Every command sent here must therefore be harmless when run twice.
Then a new connection either gets all of it again, in order and before anything newer, or, when the oldest is past its
deadline, none of it: all fails with `StoreUnavailable`. So nothing overtakes a command whose fate is unknown.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

import gevent
import hiredis

from mesh.loop import Done, Every, Tick, now, post
from store.address import Address
from store.client import Call, Client, DoneAll, T
from store.connection import RECV_BYTES, Connection, connect, pack
from store.errors import StoreRefused, StoreUnavailable
from store.scripts import Script

READ, WRITE = 1, 2
DEADLINE = 4.0
"""Seconds that a command may wait for its reply, less than a client waits for an answer."""
SWEEP = 0.1
RECONNECT_SECONDS = 0.05
MAX_WAITING = 50_000
"""Commands that may wait for replies on one connection; more are refused."""


class _Command:
    __slots__ = ("deadline", "done", "packed")

    def __init__(self, packed: bytes, done: Done, deadline: float) -> None:
        self.packed = packed
        self.done = done
        self.deadline = deadline


class Redis(Client):
    """One connection. `scripts` are loaded before anything is sent on it. `find` looks up where to connect, in a
    greenlet, each time; it raises as `store.connection.connect` does."""

    def __init__(
        self, address: Address, scripts: Sequence[Script] = (), find: Callable[[], Address] | None = None
    ) -> None:
        self.address = address
        self._find = find
        self.connected = False
        self.reconnects = 0
        self._scripts = scripts
        self._sock: Any = None  # a Connection
        self._reader = hiredis.Reader()
        self._buffer = bytearray(RECV_BYTES)  # for all reads: allocating it each time would cost more than the read
        self._unsent: list[_Command] = []  # of this turn, or since the connection was lost
        self._waiting: deque[_Command] = deque()  # sent, oldest first
        self._rest: deque[memoryview] = deque()  # what the kernel has not taken yet
        self._tick = Tick(self._flush)
        self._read_watcher: Any = None
        self._write_watcher: Any = None
        self._closed = False
        self.trouble = "no connection"
        """Why there is none, where there is none."""
        self._sweeper = Every(SWEEP, self._sweep)
        self._greenlet = gevent.spawn(self._connect)

    # ---- commands

    def command(self, done: Done, *args: Any) -> None:
        self.send(done, pack(args), now() + DEADLINE)

    def send(self, done: Done, packed: bytes, deadline: float) -> None:
        """Send a command, `packed`, that is to be answered by `deadline` (`now()` clock)."""
        if len(self._waiting) + len(self._unsent) >= MAX_WAITING:
            post(done, None, StoreUnavailable(f"{MAX_WAITING} commands wait for Redis"))
            return
        self._unsent.append(_Command(packed, done, deadline))
        self._tick.arm()

    def evaluate(self, done: Done, script: Script, keys: Sequence[str], args: Sequence[Any]) -> None:
        self.command(done, "EVALSHA", script.sha, len(keys), *keys, *args)

    def command_all(self, done: DoneAll, commands: Sequence[Sequence[Any]]) -> None:
        replies: list[Any] = []
        failed: list[Exception] = []

        def came(reply: Any, error: Exception | None) -> None:
            replies.append(reply)
            if error is not None:
                failed.append(error)
            if len(replies) == len(commands):
                done(None if failed else replies, failed[0] if failed else None)

        if not commands:
            post(done, [], None)
        for command in commands:
            self.command(came, *command)

    def evaluate_all(self, done: DoneAll, calls: Sequence[Call]) -> None:
        self.command_all(done, [("EVALSHA", script.sha, len(keys), *keys, *args) for script, keys, args in calls])

    def parts(self, items: Sequence[T], tag_of: Callable[[T], str]) -> Collection[Sequence[T]]:
        return (items,) if items else ()

    def servers(self) -> Sequence[Redis]:
        return (self,)

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._unsent)

    def close(self) -> None:
        """Close; what waits fails."""
        self._closed = True
        self._sweeper.stop()
        self._greenlet.kill(block=False)
        self._disconnect()
        self._fail_all("the client was closed")

    # ---- the connection

    def _connect(self) -> None:
        """Try until it works; in a greenlet of its own, the only one this client has."""
        commands = (("PING",), *(("SCRIPT", "LOAD", script.text) for script in self._scripts))
        while not self._closed:
            try:
                if self._find is not None:
                    self.address = self._find()
                sock, _ = connect(self.address, commands)
            except (OSError, hiredis.HiredisError, StoreRefused) as error:
                self.trouble = f"no connection ({error})"
                gevent.sleep(RECONNECT_SECONDS)
                continue
            self._adopt(sock)
            return

    def _adopt(self, sock: Connection) -> None:
        loop = gevent.get_hub().loop
        self._sock = sock
        self._reader = hiredis.Reader()
        self._rest.clear()
        self._read_watcher = loop.io(sock.fileno(), READ)
        self._read_watcher.start(self._readable)
        self._write_watcher = loop.io(sock.fileno(), WRITE)
        self.connected = True
        self._unsent = [*self._waiting, *self._unsent]  # oldest first
        self._waiting.clear()
        if self._unsent:
            self._tick.arm()

    def _disconnect(self) -> None:
        if self._sock is None:
            return
        self.connected = False
        for watcher in (self._read_watcher, self._write_watcher):
            watcher.stop()
            watcher.close()
        self._sock.close()
        self._sock = None

    def _lost(self, why: str) -> None:
        self._disconnect()
        self.reconnects += 1
        if self._waiting and self._waiting[0].deadline <= now():
            self._fail_all(why)
        if not self._closed:
            self._greenlet = gevent.spawn(self._connect)

    def _fail_all(self, why: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        unsent, self._unsent = self._unsent, []
        error = StoreUnavailable(f"{self.address}: {why}")
        for command in (*waiting, *unsent):
            command.done(None, error)

    def _sweep(self) -> None:
        oldest = self._waiting[0] if self._waiting else self._unsent[0] if self._unsent else None
        if oldest is None or oldest.deadline > now():
            return
        if self.connected:
            self._lost("no reply in time")
        else:
            self._fail_all(self.trouble)

    # ---- moving bytes

    def _flush(self) -> None:
        if self._sock is None:
            return
        unsent, self._unsent = self._unsent, []
        self._waiting.extend(unsent)
        self._write(b"".join([c.packed for c in unsent]))

    def _write(self, data: bytes) -> None:
        self._rest.append(memoryview(data))
        if len(self._rest) == 1:
            self._writable()

    def _writable(self) -> None:
        rest = self._rest
        try:
            while rest:
                sent = self._sock.send(rest[0])
                if sent < len(rest[0]):
                    rest[0] = rest[0][sent:]
                else:
                    rest.popleft()
        except BlockingIOError:
            self._write_watcher.start(self._writable)
            return
        except OSError as error:
            self._lost(errno.errorcode.get(error.errno or 0, "write failed"))
            return
        self._write_watcher.stop()

    def _readable(self) -> None:
        try:
            size = self._sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(errno.errorcode.get(error.errno or 0, "read failed"))
            return
        if not size:
            self._lost("closed by Redis")
            return
        self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
        gets, waiting = self._reader.gets, self._waiting
        while (reply := gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                text = str(reply)
                if text.startswith(("NOSCRIPT", "LOADING", "READONLY")):
                    # The command did not run, nor may those behind it overtake it: start over on a new connection.
                    self._lost(text)
                    return
                waiting.popleft().done(None, StoreRefused(text))
            else:
                waiting.popleft().done(reply, None)
