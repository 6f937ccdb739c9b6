"""Users who listen to sessions of others (22-24), as a broker sees it.

    22 -> right (23) -> history.watch: does it exist (35), audit -> subscribe `s:<session>`, wait for it -> answer
    23 -> unsubscribe -> history.unwatch: audit -> answer

A subscription is presence here too: who publishes to a session that nobody listens to finds so in one look-up. What is
listened to belongs to the connection and ends with it. The requests of one connection are served one after another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mesh.contract import start
from mesh.errors import AppError
from nodes import publications
from nodes.contracts import Origin
from nodes.deliveries import deliver
from packs.codec import Codec, decode_payload, encode_error, encode_payload
from packs.codes import Code
from packs.errors import PayloadError
from packs.ids import business_members, canonical_session, is_group_id, single_members
from packs.pack import Pack
from packs.structs import CommonErrorCode, SessionMonitor
from packs.table import SESSION_MONITOR_START, SESSION_MONITOR_STOP, SESSION_MONITOR_SYNC

if TYPE_CHECKING:
    from nodes.broker import BrokerNode
    from nodes.client import Client

TYPES = frozenset((SESSION_MONITOR_START, SESSION_MONITOR_STOP, SESSION_MONITOR_SYNC))
MAX_SESSIONS = 1_000
"""Sessions that one connection listens to, at most; an answer to 24 with all of them fits a frame."""

Done = Callable[[Any, Exception | None], None]


class Listener:
    """What one connection listens to."""

    __slots__ = ("busy", "client", "over", "serving", "sessions", "waiting")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sessions: dict[str, None] = {}
        self.waiting: deque[Pack] = deque()  # requests behind the one that is being served
        self.busy = False  # one is being served
        self.serving = False
        self.over = False  # the connection is gone, or another user's


class Monitors:
    """The listeners of one broker."""

    def __init__(self, broker: BrokerNode) -> None:
        self._broker = broker
        self._fanout = broker.process.fanout
        self._listeners: dict[str, dict[Listener, None]] = {}  # session -> who listens
        self._fanout.listen(publications.SESSION, self._published)

    @property
    def sessions(self) -> int:
        """Sessions that somebody listens to."""
        return len(self._listeners)

    # ---- requests

    def request(self, client: Client, pack: Pack) -> None:
        """One of `TYPES`."""
        listener = client.listener
        if listener is None:
            self._broker.refuse(client, pack, Code.CONN_DENIED, "you have no right to monitor")
            return
        client.unanswered += 1
        listener.waiting.append(pack)
        self._serve(listener)

    def _serve(self, listener: Listener) -> None:
        if listener.serving:
            return  # below us on the stack: a request that is refused is finished at once
        listener.serving = True
        while listener.waiting and not listener.busy:
            listener.busy = True
            self._begin(listener, listener.waiting.popleft())
        listener.serving = False

    def _begin(self, listener: Listener, pack: Pack) -> None:
        client, history = listener.client, self._broker.history
        try:
            session = self._session(client, pack)
            if history is None:
                raise AppError(Code.UNAVAILABLE, "this system has no node for it")
            origin = client.origin
            assert origin is not None
        except (AppError, PayloadError) as error:
            self._finish(listener, pack, None, error)
            return
        if pack.type == SESSION_MONITOR_START:
            if len(listener.sessions) >= MAX_SESSIONS and session not in listener.sessions:
                full = AppError(Code.PARAM, f"you listen to {MAX_SESSIONS} sessions already")
                self._finish(listener, pack, None, full)
                return
            start(history.watch, lambda _, error: self._watched(listener, pack, session, error), origin, session)
        elif pack.type == SESSION_MONITOR_STOP:
            self._let_go(listener, session)
            start(history.unwatch, lambda _, error: self._finish(listener, pack, DONE, error), origin, (session,))
        else:
            done: Done = lambda payload, error: self._finish(listener, pack, payload, error)  # noqa: E731
            start(history.watched, done, origin, tuple(listener.sessions))

    def _session(self, client: Client, pack: Pack) -> str:
        """The session that a request names, "" for 24. Raises `PayloadError`."""
        payload = client.canonical(pack, self._broker.settings.max_frame)
        if pack.type == SESSION_MONITOR_SYNC:
            return ""
        session = canonical_session(decode_payload(SessionMonitor, payload).session_id)
        if session is None:
            raise PayloadError(Code.PARAM, "sessionId is malformed")
        return session

    def _watched(self, listener: Listener, pack: Pack, session: str, error: Exception | None) -> None:
        if error is not None or listener.over or session in listener.sessions:
            self._finish(listener, pack, DONE, error)
            return

        def subscribed(whole: bool) -> None:
            if listener.over:
                self._fanout.unsubscribe([topic])
            else:
                listener.sessions[session] = None
                self._listeners.setdefault(session, {})[listener] = None
            self._finish(listener, pack, DONE, None)

        topic = publications.SESSION + session
        self._fanout.subscribe([topic], subscribed, late=lambda: self._broker.hint_resync(listener.client))

    def _finish(self, listener: Listener, pack: Pack, payload: bytes | None, error: Exception | None) -> None:
        client = listener.client
        if isinstance(error, AppError | PayloadError):
            text = error.text if isinstance(error, AppError) else error.desc
            payload = encode_error(pack.type, error.code, text)
        elif error is not None:
            payload = None
        self._broker.answered(client, pack, payload, error)
        listener.busy = False
        self._serve(listener)

    # ---- the end

    def _let_go(self, listener: Listener, session: str) -> None:
        if session in listener.sessions:
            del listener.sessions[session]
            listeners = self._listeners[session]
            del listeners[listener]
            if not listeners:
                del self._listeners[session]
            self._fanout.unsubscribe([publications.SESSION + session])

    def leave(self, listener: Listener, origin: Origin) -> None:
        """The connection is over, or will be another user's."""
        listener.over = True
        sessions = tuple(listener.sessions)
        for session in sessions:
            self._let_go(listener, session)
        if sessions and self._broker.history is not None:
            start(self._broker.history.unwatch, _nobody_waits, origin, sessions)

    # ---- publications

    def _published(self, session: str, items: Sequence[Any]) -> None:
        by_codec: dict[Codec, list[Client]] = {}
        for listener in self._listeners.get(session, ()):
            client = listener.client
            if client.origin is not None and not self._takes_part(client.origin.user, session):
                by_codec.setdefault(client.codec, []).append(client)
        counts = self._broker.stats.counts
        counts["deliveries"] += deliver(by_codec, [(item[1], item[2]) for item in items])

    def _takes_part(self, user: str, session: str) -> bool:
        """Whether he gets what is said there anyway."""
        if is_group_id(session):
            return self._broker.memberships.is_in(user, session)
        members = single_members(session)
        if members is not None:
            return user in members
        business = business_members(session)
        return business is not None and business[1] == user


DONE = encode_payload(CommonErrorCode())


def _nobody_waits(_: Any, error: Exception | None) -> None:
    """The connection is gone; a node that did not hear of its end has logged the beginning."""
