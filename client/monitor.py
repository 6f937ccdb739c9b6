"""Listening to sessions of others, for users who have the right to."""

from __future__ import annotations

import threading
from typing import Any

from client.errors import Refused
from client.requests import OUTCOME_UNKNOWN, Ask, Request
from client.sessions import HotSession, hot_session, session_of
from packs import structs as s
from packs import table as t


class Monitor:
    """Of one user. What is said and changed in a session that he listens to comes among his messages and events. The
    history of others stays closed to him: what is said while he has no connection he does not hear."""

    def __init__(self, user: str, request: Request, ask: Ask) -> None:
        self._user = user
        self._request = request
        self._ask = ask
        self._lock = threading.Lock()
        self._sessions: dict[str, None] = {}

    def start(self, where: str) -> None:
        """Listen to a session, from now on and across reconnects. Raises `Refused` (23) for who may not."""
        session = session_of(self._user, where)
        self._request(t.SESSION_MONITOR_START, s.SessionMonitor(session_id=session))
        with self._lock:
            self._sessions[session] = None

    def stop(self, where: str) -> None:
        """Listen no more."""
        session = session_of(self._user, where)
        with self._lock:
            self._sessions.pop(session, None)
        self._request(t.SESSION_MONITOR_STOP, s.SessionMonitor(session_id=session))

    def sessions(self) -> list[HotSession]:
        """What one listens to, ascending by activity, each with its newest message."""
        response: s.HotSessionResp = self._request(t.SESSION_MONITOR_SYNC)
        return [hot_session(item) for item in response.sessions]

    def again(self) -> None:
        """On a new connection: the server has forgotten what is listened to. On the reader's thread."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            self._start_again(session)

    def _start_again(self, session: str) -> None:
        def done(response: Any, error: Exception | None) -> None:
            if isinstance(error, Refused) and error.code in OUTCOME_UNKNOWN:
                self._start_again(session)

        self._ask(t.SESSION_MONITOR_START, s.SessionMonitor(session_id=session), done)
