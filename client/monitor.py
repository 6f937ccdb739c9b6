"""Listening to sessions of others, for users who have the right to."""

from __future__ import annotations

from client.requests import Request
from client.sessions import HotSession, hot_session, session_of
from packs import structs as s
from packs import table as t


class Monitor:
    """Of one user. What is said in a session that he listens to comes among his messages."""

    def __init__(self, user: str, request: Request) -> None:
        self._user = user
        self._request = request

    def start(self, where: str) -> None:
        """Begin to listen to a session. Raises `Refused` for who may not."""
        self._request(t.SESSION_MONITOR_START, s.SessionMonitor(session_id=session_of(self._user, where)))

    def stop(self, where: str) -> None:
        """Listen no more."""
        self._request(t.SESSION_MONITOR_STOP, s.SessionMonitor(session_id=session_of(self._user, where)))

    def sessions(self) -> list[HotSession]:
        """What one listens to."""
        response: s.HotSessionResp = self._request(t.SESSION_MONITOR_SYNC)
        return [hot_session(item) for item in response.sessions]
