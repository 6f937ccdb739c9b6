"""Webhooks: what other nodes call on the hooks node."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mesh.contract import call, contract
from nodes.contracts import ANSWER_SECONDS


class Draft(NamedTuple):
    """A message that is about to be stored. `digest` tells it from any other; `kind` as in the HTTP API."""

    digest: str
    id: str
    session: str
    sender: str
    to: str
    kind: str
    content: str
    content_type: int
    mentions: tuple[str, ...]


class Verdict(NamedTuple):
    """What another system says of a message. `content` in place of its own, "" for none."""

    allowed: bool
    reason: str
    content: str


class EndpointInfo(NamedTuple):
    """An endpoint. `waiting`: events under way; `trouble`: why the newest try failed."""

    name: str
    url: str
    events: tuple[str, ...]
    waiting: int
    trouble: str


class Tested(NamedTuple):
    """What became of a test event. `trouble` "" when it was taken; `took` in ms."""

    id: str
    trouble: str
    took: float


@contract
class Hooks(Protocol):
    """Other systems, which are told and asked."""

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def before_send(self, draft: Draft) -> Verdict:
        """Ask whether a message may be stored; the same answer every time. Raises `AppError` 7 when nobody can say."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def endpoints(self) -> tuple[EndpointInfo, ...]:
        """All endpoints, as this process sees them."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def secret_of(self, name: str) -> str:
        """The secret that requests to an endpoint are signed with. Raises `AppError`."""
        ...

    @call(timeout=60.0)
    def test(self, name: str) -> Tested:
        """Send an endpoint an event that means nothing. Raises `AppError`."""
        ...
