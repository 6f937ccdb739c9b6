"""The thread that reads, from one connection to the next, until the client is closed or refused."""

from __future__ import annotations

import random
import threading
import time

from client.connection import Connection, How
from client.engine import Engine
from client.errors import ClientError, ConnectionLost, LoginRefused, Refused
from client.events import Connected, Disconnected, Ended
from client.requests import OUTCOME_UNKNOWN, Waiter

RECONNECT_SECONDS, RECONNECT_SECONDS_MAX = 0.1, 10.0
"""Pause before a new connection, doubled each time, with full jitter."""
STABLE_SECONDS = 5.0
"""A connection that lasted this long was a good one: the next pause is a short one again."""
TICK_SECONDS, BUSY_TICK_SECONDS = 0.5, 0.05
"""How often the reader looks at the clock, when nothing is under way and when something is."""
FIRST_SYNC_SECONDS = 2.0
"""How long the first messages wait for the first sync. Sending moves the read position, so what is unread has to be
known before."""
CLOSE_SECONDS = 0.9
"""How long `close` waits. Only a look-up of a name may take longer; its thread then ends by itself."""


class Reader:
    """One life of a client, from `connect` to `close`. `first_login` is completed when what was unread is known."""

    def __init__(self, engine: Engine, addresses: list[str], how: How, name: str) -> None:
        """`addresses` may change while it runs."""
        self.first_login = Waiter()
        self._first: Waiter | None = self.first_login  # until it is completed
        self.refusal: LoginRefused | None = None  # the last one, as long as it was for now
        self._engine = engine
        self._addresses = addresses
        self._how = how
        self._closing = threading.Event()
        engine.closing = engine.requests.over = self._closing
        self._over = threading.Lock()  # taken once, by whoever ends it
        self._random = random.Random()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        engine.requests.reader = self._thread
        engine.mailbox.open()
        self._thread.start()

    def close(self) -> None:
        """Log out and end, within a second."""
        self._closing.set()
        with self._engine.lock:
            if self._engine.connection is not None:
                self._engine.connection.log_out()
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_SECONDS)
            self._end(ConnectionLost("the client is closed"), None)

    def _run(self) -> None:
        error: ClientError = ConnectionLost("the client is closed")
        last: Ended | None = None
        try:
            self._stay_connected()
        except (ConnectionLost, LoginRefused) as reason:
            error, last = reason, Ended(str(reason), kicked=False)
        except Refused as reason:
            error, last = reason, Ended(str(reason), kicked=True)
        except Exception as bug:
            error = ClientError(f"the client failed: {bug!r}")
            last = Ended(str(error), kicked=False)
            raise
        finally:
            self._end(error, last)

    def _end(self, error: ClientError, last: Ended | None) -> None:
        """No more tries. Once."""
        if not self._over.acquire(blocking=False):
            return
        self._closing.set()
        first, self._first = self._first, None
        if first is not None:
            first(None, error)
        self._engine.fail_all(error)
        if last is not None:
            self._engine.tell(last)
        self._engine.mailbox.close()

    def _stay_connected(self) -> None:
        """Until closed. Raises `LoginRefused`, `Refused` when kicked out, `ConnectionLost` if there never was one."""
        attempt = 0
        while not self._closing.is_set():
            began, pause = time.monotonic(), 0.0
            try:
                connection = Connection(self._addresses[attempt % len(self._addresses)], self._how, self._closing)
                if self._closing.is_set():
                    connection.close()  # nobody waits for this thread any more: another may be there already
                    return
                self._serve(connection)
            except LoginRefused as error:
                if error.code not in OUTCOME_UNKNOWN:
                    raise
                self.refusal, pause = error, error.retry_after / 1000
            except (OSError, ConnectionLost) as error:
                if self._first is not None and attempt + 1 >= len(self._addresses):
                    raise ConnectionLost(f"no imesh on {', '.join(self._addresses)}: {error}") from None
            attempt = 0 if time.monotonic() - began > STABLE_SECONDS and self._first is None else attempt + 1
            limit = min(RECONNECT_SECONDS * 2 ** min(attempt, 10), RECONNECT_SECONDS_MAX)
            self._closing.wait(max(pause, self._random.uniform(RECONNECT_SECONDS / 4, limit)))

    def _serve(self, connection: Connection) -> None:
        """Use a connection until it breaks or the client is closed. Raises `Refused` when kicked out."""
        engine = self._engine
        try:
            began = time.monotonic()
            engine.attach(connection, began)
            engine.tell(Connected(connection.address))
            self._tick(connection)
            while not (self._closing.is_set() and connection.log_out()):
                if engine.sync.tried or time.monotonic() - began > FIRST_SYNC_SECONDS:
                    self._ready()
                for pack in connection.receive(self._seconds(connection)):
                    engine.handle(pack)
                self._tick(connection)
        except (OSError, ConnectionLost) as error:
            if not self._closing.is_set():
                engine.tell(Disconnected(str(error)))
        finally:
            engine.detach()
            connection.close()  # nobody sends any more
            engine.requests.fail_all(ConnectionLost("the connection broke before the answer"))

    def _ready(self) -> None:
        """Let messages out, and `connect` return."""
        first, self._first = self._first, None
        if first is not None:
            first(None, None)
        self._engine.ready()

    def _seconds(self, connection: Connection) -> float:
        """How long to wait for packs before looking at the clock."""
        busy = self._engine.busy or self._closing.is_set()
        return BUSY_TICK_SECONDS if busy else min(TICK_SECONDS, connection.heartbeat / 4)

    def _tick(self, connection: Connection) -> None:
        now = time.monotonic()
        connection.keep_alive(now)
        self._engine.tick(now)
