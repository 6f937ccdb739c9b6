"""Erasing users."""

from __future__ import annotations

from typing import Literal

import msgspec

from nodes.auth import AuthSettings
from nodes.contracts_erasure import Erasure, Erasures
from nodes.rest import wire
from nodes.rest.acting import Nodes, there
from webapi.exchange import ApiError
from webapi.routes import Call, route


class ErasureState(msgspec.Struct):
    """How an erasure is going. `messages_seen` of `messages_total` in the archive were looked at; `messages` of his,
    `notices` to him, `groups` that he was in and `friends` were found so far. `trouble`: why it waits to be tried
    again."""

    user_id: str
    state: Literal["waiting", "running", "done"]
    started: int
    ended: int
    messages_seen: int
    messages_total: int
    messages: int
    notices: int
    groups: int
    friends: int
    trouble: str


class ErasureRoutes:
    """Routes of erasures; None for what the topology lacks."""

    def __init__(self, nodes: Nodes, auth: AuthSettings, erasures: Erasures | None) -> None:
        self._nodes = nodes
        self._auth = auth
        self._erasures = erasures

    @route("DELETE", "/v1/users/{user}", scope="users:erase", status=202, tag="users", errors=(404, 422),
           summary="Erase a user and all his data, for ever")  # fmt: skip
    def erase(self, call: Call, user: wire.UserId) -> ErasureState:
        """He is locked out when this is answered, and the rest follows: `GET /v1/users/{user}/erasure` tells how far it
        is. It is done whatever fails meanwhile. Harmless when repeated. What is deleted and what stays:
        docs/operations.md."""
        erasures = there(self._erasures)
        if self._auth.mode == "password":
            account = self._nodes.user.account(user)
            if not account.created and not account.disabled:  # who was erased before is disabled
                raise ApiError(404, "no_such_user", "there is no such user")
        return _state(erasures.erase(user))

    @route("GET", "/v1/users/{user}/erasure", scope="users:erase", tag="users", errors=(404, 422),
           summary="How the erasure of a user is going")  # fmt: skip
    def state(self, call: Call, user: wire.UserId) -> ErasureState:
        """Or went, for 30 days."""
        found = there(self._erasures).erasure(user)
        if found is None:
            raise ApiError(404, "no_such_erasure", "nobody asked for one lately")
        return _state(found)


def _state(found: Erasure) -> ErasureState:
    return ErasureState(*found)  # type: ignore[arg-type]
