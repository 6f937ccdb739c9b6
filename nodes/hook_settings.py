"""The table [hooks]: what other systems are told, and asked.

[hooks.endpoint.shop]
url = "https://shop.example.com/imesh"
events = ["message.sent", "user.online"]

[hooks.before_send]
url = "https://shop.example.com/may-it-be-sent"
on_failure = "refuse"
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from mesh.topology import NAME, Topology
from webapi.outgoing import problem_of_url

ALLOW, REFUSE = "allow", "refuse"
EVERY = "*"
TYPES = (
    "message.sent", "message.changed", "message.read", "user.online", "user.offline", "group.changed", "push.failed",
)  # fmt: skip
"""Events."""
TEST, BEFORE_SEND = "webhook.test", "message.before_send"
MAX_ASK_SECONDS = 3.0


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is told of events."""

    url: str
    """https://…; http:// where `private` is set."""
    events: tuple[str, ...] = (EVERY,)
    """Types of events; "*" for all."""
    timeout: float = 10.0
    """Seconds for one try."""
    private: bool = False
    """True: the URL may lead to addresses that are not public."""
    ca_file: str = ""
    """PEM with the authorities to trust; "" for the system's."""


class BeforeSend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is asked before a message is stored."""

    url: str = ""
    """As of an endpoint; "" = nobody."""
    timeout: float = 1.0
    """Seconds, at most 3: the message waits, and those of its session behind it."""
    on_failure: str = ALLOW
    """When no good answer comes: "allow" the message, or "refuse" it (code 7: the client tries again)."""
    private: bool = False
    """As of an endpoint."""
    ca_file: str = ""
    """As of an endpoint."""


class HooksSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Webhooks. They need a node "hooks"."""

    endpoint: dict[str, Endpoint] = {}
    """Who is told, by a name of ours: [hooks.endpoint.NAME]."""
    before_send: BeforeSend = BeforeSend()
    """Who is asked: [hooks.before_send]."""
    record: bool = False
    """True: events are kept for GET /v1/events also while no endpoint is told."""
    secret_file: str = ""
    """File with the secret that those of the endpoints are derived from, at least 32 bytes, the same on all hosts;
    default: secrets/hooks in the data directory, made at the first start."""
    keep_events: int = 1_000_000
    """Events that are kept, about, delivered or not; GET /v1/events reads them again."""
    give_up_seconds: int = 259_200
    """How long an event is tried; then it is passed over, and counted."""

    @property
    def told(self) -> bool:
        """Whether events are made at all."""
        return self.record or bool(self.endpoint)

    @classmethod
    def check(cls, topology: Topology) -> Iterator[tuple[str, str, str]]:
        """Whether somebody is there to do it."""
        settings: HooksSettings = topology.section("hooks")
        if (settings.told or settings.before_send.url) and not topology.instances("hooks"):
            yield "hooks", "", 'needs a node "hooks" in some [process.GROUP]'

    def problems(self) -> Iterator[tuple[str, str]]:
        for name, endpoint in self.endpoint.items():
            if not NAME.fullmatch(name):
                yield "endpoint", f'"{name}" is no name: expected {NAME.pattern}'
            if text := _problem_of(endpoint):
                yield "endpoint", f"{name}: {text}"
            if unknown := set(endpoint.events) - {EVERY, *TYPES}:
                yield "endpoint", f"{name}: events: unknown type {min(unknown)!r}; there are: {', '.join(TYPES)}"
            if not 0.1 <= endpoint.timeout <= 60:
                yield "endpoint", f"{name}: timeout must be from 0.1 to 60"
        if self.before_send.url and (text := _problem_of(self.before_send)):
            yield "before_send", text
        if not 0.05 <= self.before_send.timeout <= MAX_ASK_SECONDS:
            yield "before_send", f"timeout must be from 0.05 to {MAX_ASK_SECONDS:g}"
        if self.before_send.on_failure not in (ALLOW, REFUSE):
            yield "before_send", f'on_failure must be "{ALLOW}" or "{REFUSE}"'
        if not 1_000 <= self.keep_events <= 1_000_000_000:
            yield "keep_events", "must be from 1000 to 1000000000"
        if self.give_up_seconds < 1:
            yield "give_up_seconds", "must be at least 1"


def _problem_of(endpoint: Endpoint | BeforeSend) -> str:
    if endpoint.url.startswith("http://") and not endpoint.private:
        return "url must be https, or private = true"
    return problem_of_url(endpoint.url)
