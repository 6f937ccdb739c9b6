"""The hooks node: other systems are told of events, and asked before messages are stored.

hook_feed.py        from the log to events
happenings.py       events that other nodes note themselves
hook_delivery.py    from events to one endpoint
lease.py            which process feeds, and which delivers to an endpoint
gate.py             at the nodes that store messages: what waits while somebody is asked
"""

from __future__ import annotations

import base64
import hmac
import time
from typing import Any

import gevent
import msgspec

from mesh.errors import AppError, ConfigError
from mesh.node import Node
from nodes import hot
from nodes.auth import read_secret
from nodes.contracts_hooks import Draft, EndpointInfo, Hooks, Tested, Verdict
from nodes.hook_delivery import WORKERS, Delivery, body_of
from nodes.hook_feed import CONSUMER, Feed
from nodes.hook_settings import ALLOW, BEFORE_SEND, REFUSE, TEST, BeforeSend, Endpoint, HooksSettings
from nodes.lease import Lease
from packs.codes import Code
from store import log
from store.errors import StoreError
from store.events import Event
from webapi.outgoing import Failed, Outgoing, Refused

CHANGE = "change"
DRAIN_SECONDS = 2.0
_encode = msgspec.json.Encoder().encode
_encode_verdict = msgspec.msgpack.Encoder().encode
_decode_verdict = msgspec.msgpack.Decoder(Verdict).decode


class _Answer(msgspec.Struct):
    """What an endpoint says of a message; nothing at all allows it."""

    action: str = ALLOW
    reason: str = ""
    content: str = ""


_decode_answer = msgspec.json.Decoder(_Answer).decode


class HooksNode(Node, Hooks):
    """Webhooks."""

    sections = hot.SECTIONS
    background = True  # but for what it is asked before a message is stored: an HTTP request
    workers = 256
    worker_queue = 4_096

    def start(self) -> None:
        settings: HooksSettings = self.section("hooks")
        self._settings = settings
        store = hot.opened(self.process)
        self._events = store.events(settings.keep_events)
        topology = self.process.topology
        self._master = read_secret(settings.secret_file, topology.data_dir, "hooks", "[hooks] secret_file")
        me = self.process.name
        leases = {name: Lease(store.leases, f"endpoint:{name}", me) for name in settings.endpoint}
        self._deliveries = {
            name: Delivery(
                name, endpoint, self._outgoing(name, endpoint), self._events, leases[name], self.stats, self.log,
                settings.give_up_seconds,
            )
            for name, endpoint in settings.endpoint.items()
        }  # fmt: skip
        self._asked = self._outgoing(BEFORE_SEND, settings.before_send) if settings.before_send.url else None
        consumer = store.consumer(log.HOOKS, CONSUMER)
        trims = not topology.instances(hot.ARCHIVE_NODE)
        self._feed_lease = Lease(store.leases, log.HOOKS, me)
        self._feed = Feed(consumer, self._events, self._feed_lease, self.stats, self.log, trims=trims)
        for name, delivery in self._deliveries.items():
            self._gauges(name, delivery)

    def _gauges(self, name: str, delivery: Delivery) -> None:
        self.stats.gauge(f"waiting.{name}", lambda: delivery.waiting)
        self.stats.gauge(f"age_seconds.{name}", lambda: round(delivery.age, 3))

    def _outgoing(self, name: str, endpoint: Endpoint | BeforeSend) -> Outgoing:
        try:
            return Outgoing(
                endpoint.url, self._secret(name), seconds=endpoint.timeout, private=endpoint.private,
                ca_file=endpoint.ca_file,
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(f"[hooks] ca_file of {name}: {endpoint.ca_file}: {error}") from None

    def _secret(self, name: str) -> bytes:
        return hmac.digest(self._master, f"webhook {name}".encode(), "sha256")

    def serve(self) -> None:
        if self._settings.told:  # else it costs nothing that it is here
            self.spawn(self._feed.run)
        for delivery in self._deliveries.values():
            self.spawn(delivery.run)
            for _ in range(WORKERS):
                self.spawn(delivery.work)

    def drain(self) -> None:
        self._feed.stop()
        for delivery in self._deliveries.values():
            delivery.stop()
        gevent.joinall([gevent.spawn(self._settle)], DRAIN_SECONDS)

    def _settle(self) -> None:
        try:
            self._feed_lease.give_up()
            for delivery in self._deliveries.values():
                delivery.settle()
        except StoreError as error:
            self.log.warning("what was delivered is delivered again", error=error)

    def describe(self) -> dict[str, Any]:
        return {f"endpoint {name}": d.trouble or f"{d.waiting} events wait" for name, d in self._deliveries.items()}

    # ---- for other nodes and the command line

    def before_send(self, draft: Draft) -> Verdict:
        said = self._events.said(draft.digest)
        if said is not None:
            return _decode_verdict(said)
        verdict = self._ask(draft)
        return _decode_verdict(self._events.say(draft.digest, _encode_verdict(verdict)))

    def _ask(self, draft: Draft) -> Verdict:
        """Ask, and do as `on_failure` says when there is no good answer. Raises `AppError` 7."""
        data = {
            "id": draft.id, "session_id": draft.session, "from": draft.sender, "to": draft.to, "kind": draft.kind,
            "content": draft.content, "content_type": draft.content_type, "mentions": draft.mentions,
        }  # fmt: skip
        body = body_of(Event(BEFORE_SEND, draft.session, draft.digest, _encode(data)), int(time.time() * 1000))
        assert self._asked is not None
        self.stats.counts["asked"] += 1
        try:
            reply = self._asked.post(draft.digest, body)
            if not 200 <= reply.status < 300:
                raise Failed(f"it answered {reply.status}")
            answer = _decode_answer(reply.body) if reply.body.strip() else _Answer()
            if answer.action not in (ALLOW, REFUSE, CHANGE) or (answer.action == CHANGE and not answer.content):
                raise Failed("it answered neither allow, refuse nor change with a content")
        except (Failed, Refused, msgspec.DecodeError) as error:
            self.stats.counts["asked.in_vain"] += 1
            self.log.limited("asked", 10, "no good answer before a message", error=error)
            if self._settings.before_send.on_failure == REFUSE:
                raise AppError(Code.REFUSED, "it cannot be checked now", 1000) from None
            answer = _Answer()
        return Verdict(answer.action != REFUSE, answer.reason[:200], answer.content if answer.action == CHANGE else "")

    def endpoints(self) -> tuple[EndpointInfo, ...]:
        return tuple(
            EndpointInfo(name, endpoint.url, endpoint.events, self._deliveries[name].waiting,
                         self._deliveries[name].trouble)
            for name, endpoint in self._settings.endpoint.items()
        )  # fmt: skip

    def secret_of(self, name: str) -> str:
        self._require(name)
        return f"whsec_{base64.b64encode(self._secret(name)).decode()}"

    def test(self, name: str) -> Tested:
        self._require(name)
        begun = time.monotonic()
        event_id = f"test-{time.time_ns()}"
        event = Event(TEST, "", event_id, _encode({"endpoint": name}))
        if name == BEFORE_SEND:
            try:
                assert self._asked is not None
                reply = self._asked.post(event_id, body_of(event, int(time.time() * 1000)))
                trouble = "" if 200 <= reply.status < 300 else f"it answered {reply.status}"
            except (Failed, Refused) as error:
                trouble = str(error)
        else:
            trouble = self._deliveries[name].send(event, int(time.time() * 1000))
        return Tested(event_id, trouble, round((time.monotonic() - begun) * 1000, 1))

    def _require(self, name: str) -> None:
        if name not in self._deliveries and not (name == BEFORE_SEND and self._asked is not None):
            known = ", ".join((*self._deliveries, *((BEFORE_SEND,) if self._asked is not None else ())))
            raise AppError(Code.PARAM, f"no endpoint {name!r}; there are: {known or 'none'}")
