"""A Redis client for the hub: commands of all greenlets and handlers leave in one write per loop turn, and their
replies are matched in order by one hiredis reader (12 times less CPU than redis-py per command; `docs/performance.md`).

A lost connection leaves what was under way unknown. Every command sent here must therefore be harmless when run twice.
Then a new connection either gets all of it again, in order and before anything newer, or, when the oldest is past its
deadline, none of it: all fails with `StoreUnavailable`. So nothing overtakes a command whose fate is unknown.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from _socket import socket as RawSocket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import gevent
import hiredis

from mesh.loop import Done, Every, Tick, now, post, wait_for
from store.errors import StoreRefused, StoreUnavailable
from store.scripts import Script

READ, WRITE = 1, 2
DEADLINE = 4.0
"""Seconds that a command may wait for its reply, less than a client waits for an answer."""
SWEEP = 0.1
RECONNECT_SECONDS = 0.05
CONNECT_SECONDS = 2.0
RECV_BYTES = 262_144
MAX_WAITING = 50_000
"""Commands that may wait for replies on one connection; more are refused."""

_pack: Any = hiredis.pack_command

Call = tuple[Script, Sequence[str], Sequence[Any]]
"""A script, its keys, its arguments."""


class Address(NamedTuple):
    """Where a Redis listens and as whom to log in."""

    path: str  # unix socket, or ""
    host: str
    port: int
    username: str
    password: str
    db: int

    def __repr__(self) -> str:  # no password in logs
        return f"unix://{self.path}" if self.path else f"redis://{self.host}:{self.port}/{self.db}"


def parse_url(url: str) -> Address:
    """`redis://[user:password@]host[:port][/db]` or `unix:///path?db=N`. Raises `ValueError`."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        db = int(dict(p.split("=", 1) for p in parts.query.split("&") if "=" in p).get("db", 0))
        return Address(parts.path, "", 0, unquote(parts.username or ""), unquote(parts.password or ""), db)
    if parts.scheme != "redis" or not parts.hostname:
        raise ValueError("expected redis://host[:port][/db] or unix:///path")
    db = int(parts.path.strip("/") or 0)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Address("", parts.hostname, parts.port or 6379, user, password, db)


class _Command:
    __slots__ = ("deadline", "done", "packed")

    def __init__(self, packed: bytes, done: Done, deadline: float) -> None:
        self.packed = packed
        self.done = done
        self.deadline = deadline


class Redis:
    """One connection. `scripts` are loaded before anything is sent on it."""

    def __init__(self, address: Address, scripts: Sequence[Script] = ()) -> None:
        self.address = address
        self.connected = False
        self.reconnects = 0
        self._scripts = scripts
        self._sock: Any = None
        self._reader = hiredis.Reader()
        self._buffer = bytearray(RECV_BYTES)  # for all reads: allocating it each time would cost more than the read
        self._unsent: list[_Command] = []  # of this turn, or since the connection was lost
        self._waiting: deque[_Command] = deque()  # sent, oldest first
        self._rest: deque[memoryview] = deque()  # what the kernel has not taken yet
        self._tick = Tick(self._flush)
        self._read_watcher: Any = None
        self._write_watcher: Any = None
        self._closed = False
        self._sweeper = Every(SWEEP, self._sweep)
        self._greenlet = gevent.spawn(self._connect)

    # ---- commands

    def command(self, done: Done, *args: Any) -> None:
        """Send a command that may safely run twice; `done(reply, error)` comes on the hub."""
        if len(self._waiting) + len(self._unsent) >= MAX_WAITING:
            post(done, None, StoreUnavailable(f"{MAX_WAITING} commands wait for Redis"))
            return
        self._unsent.append(_Command(_pack(args), done, now() + DEADLINE))
        self._tick.arm()

    def evaluate(self, done: Done, script: Script, keys: Sequence[str], args: Sequence[Any]) -> None:
        """Run a loaded script; it must be harmless when run twice."""
        self.command(done, "EVALSHA", script.sha, len(keys), *keys, *args)

    def command_all(self, done: Callable[[list[Any] | None, Exception | None], None], commands: Sequence[Any]) -> None:
        """Send commands; `done` gets all replies in order, or the first error, once all have come."""
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

    def evaluate_all(self, done: Callable[[list[Any] | None, Exception | None], None], calls: Sequence[Call]) -> None:
        """Run loaded scripts; as `command_all`."""
        commands = [("EVALSHA", script.sha, len(keys), *keys, *args) for script, keys, args in calls]
        self.command_all(done, commands)

    def ask(self, *args: Any) -> Any:
        """Send a command and wait for its reply, in a greenlet. Raises `StoreError`."""
        return wait_for(lambda done: self.command(done, *args))

    def ask_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands and wait for their replies, in a greenlet. Raises `StoreError` when one failed."""
        return wait_for(lambda done: self.command_all(done, commands))  # type: ignore[no-any-return]

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a loaded script and wait for its reply, in a greenlet. Raises `StoreError`."""
        return wait_for(lambda done: self.evaluate(done, script, keys, args))

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run loaded scripts and wait for their replies, in a greenlet. Raises `StoreError` when one failed."""
        return wait_for(lambda done: self.evaluate_all(done, calls))  # type: ignore[no-any-return]

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
        while not self._closed:
            try:
                sock = self._open()
            except (OSError, hiredis.HiredisError, StoreRefused):
                gevent.sleep(RECONNECT_SECONDS)
                continue
            self._adopt(sock)
            return

    def _open(self) -> RawSocket:
        """A connection that is logged in and has the scripts."""
        address = self.address
        family = socket.AF_UNIX if address.path else socket.AF_INET
        target: Any = address.path or (address.host, address.port)
        with contextlib.ExitStack() as stack:
            if address.path:
                opened = socket.socket(family, socket.SOCK_STREAM)
                stack.callback(opened.close)
                opened.settimeout(CONNECT_SECONDS)
                opened.connect(target)
            else:
                opened = socket.create_connection(target, CONNECT_SECONDS)
                stack.callback(opened.close)
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hello: list[bytes] = [_pack(("PING",))]
            if address.password:
                names = (address.username,) if address.username else ()
                hello.insert(0, _pack(("AUTH", *names, address.password)))
            if address.db:
                hello.append(_pack(("SELECT", address.db)))
            hello.extend(_pack(("SCRIPT", "LOAD", s.text)) for s in self._scripts)
            opened.sendall(b"".join(hello))
            reader, replies = hiredis.Reader(), 0
            while replies < len(hello):
                data = opened.recv(RECV_BYTES)
                if not data:
                    raise ConnectionResetError("closed during the greeting")
                reader.feed(data)
                while (reply := reader.gets()) is not False:
                    if isinstance(reply, hiredis.ReplyError):
                        raise StoreRefused(str(reply))  # loading, wrong password ...
                    replies += 1
            stack.pop_all()
            raw = RawSocket(fileno=opened.detach())
            raw.setblocking(False)
            return raw

    def _adopt(self, sock: RawSocket) -> None:
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
            self._fail_all("no connection")

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


def wait_until_ready(redis: Redis, seconds: float) -> None:
    """Block this greenlet until Redis answers. Raises `StoreUnavailable` after `seconds`."""
    limit = now() + seconds
    while True:
        try:
            redis.ask("PING")
            return
        except StoreUnavailable:
            if now() >= limit:
                raise


