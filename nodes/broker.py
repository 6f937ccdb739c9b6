"""The broker node: client connections. It knows who is connected, routes packs to nodes, and decodes no payload beyond
its routing key.

The way of a request: `Client.received` -> `_request` -> the owner node by the table of pack types (messages in lanes,
so that those of one connection to one session keep their order) -> `answered` -> one response, always.
The way of a publication: `_publication` -> every connection of the user in this process, encoded once per codec; to a
group: `_group_publication` -> `Memberships` -> every connection of its members.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import gevent

from mesh.contract import BoundMethod, methods_of
from mesh.errors import CallError, ConfigError, Overloaded, RemoteError
from mesh.loop import Every, now, wait_for
from mesh.node import Node
from mesh.streams import Streams
from mesh.topology import Topology
from nodes import publications
from nodes.auth import AuthSettings
from nodes.client import Client
from nodes.contracts import Groups, Monitoring, Packs, Request, User
from nodes.contracts_statistics import Statistics
from nodes.deliveries import is_message
from nodes.limits import BrokerLimits
from nodes.login import Logins
from nodes.memberships import BrokerSide, Memberships
from nodes.monitors import TYPES as MONITORING
from nodes.monitors import Monitors
from nodes.outcomes import Outcomes
from nodes.settings import LISTENS, BrokerSettings, is_loopback, is_page_allowed, parse_listen
from nodes.watches import TYPES as WATCH_TYPES
from nodes.watches import Watches
from packs.codec import Codec, encode_error, encode_payload
from packs.codes import Code
from packs.connection import CloseReason, ServerConnection
from packs.enums import SyncCommand
from packs.errors import PayloadError
from packs.flags import ACK, COMPRESS_MASK, CRYPTO_MASK
from packs.pack import VERSION, Pack
from packs.structs import CommonErrorCode, SyncDataReq
from packs.structs_social import KickOut
from packs.table import KICKOUT, LOGIN, LOGOUT, MSG_GROUP_CHAT, MSG_SINGLE_CHAT, PING, SYNC_DATA_CMD, TABLE, route_key
from packs.websocket import WebSocketConnection

RESYNC_SECONDS = 5.0
"""Over how long the hint to resync is spread."""
STEP_SECONDS = 0.1
"""Between two parts of what is done with all connections, one after the other."""
QUARANTINE_SECONDS = 5.0
"""How long nothing else of its session passes after a failed message that does not come again: the client may have sent
more before it reads the answer, and send again from the failed one on after it."""
RETRY_AFTER_MS = 500
SWEEP_SECONDS = 1.0
"""How often each connection is looked at, about."""
CLOSE_AT_ONCE = 100
"""Connections that a draining broker closes before others get their turn."""
PLAIN = ~(COMPRESS_MASK | CRYPTO_MASK)
"""Flags of an answer: those of the request, but answers are neither compressed nor encrypted."""
OWN = frozenset((PING, LOGOUT, *WATCH_TYPES))
"""Types that the broker answers itself, once a client is logged in."""
ORDERED = frozenset((MSG_SINGLE_CHAT, MSG_GROUP_CHAT))
"""Types whose order within (connection, session) is kept."""


class BrokerNode(Node):
    """Client connections on TCP and WebSocket, both with TLS or without."""

    Settings = BrokerSettings
    sections = {"auth": AuthSettings}
    subscribes = True
    user: User
    group: Groups | None
    history: Monitoring | None
    olap: Statistics | None

    def start(self) -> None:
        settings: BrokerSettings = self.settings
        self.streams = Streams(settings.write_buffer, settings.max_connections, settings.read_interval)
        self.online: dict[str, list[Client]] = {}  # user -> logged-in connections
        self.limits = BrokerLimits(settings, loopback=self.section("auth").limit_loopback)
        self.logins = Logins(self)
        self.memberships = Memberships(BrokerSide(self))
        self.monitors = Monitors(self)
        self.watches = Watches(self)
        self._owners = self._find_owners()
        self.max_payload: int = self._max_payload()
        self._auth_mode = self.section("auth").mode
        self._next_connection = 0
        self._endpoints: dict[str, str] = {}
        self._sweep_queue: list[Client] = []
        self._sweep_share = 0
        self._resync_queue: list[Client] = []
        self._resync_share = 0
        self._reports = Outcomes(self, self.olap, self._outcomes) if self.olap is not None else None
        self._timers = [Every(SWEEP_SECONDS, self.logins.report), Every(STEP_SECONDS, self._step)]
        self.process.fanout.listen(publications.USER, self._publication)
        self.process.fanout.listen(publications.GROUP, self._group_publication)
        self.process.fanout.listen(publications.PRESENCE, self.watches.published)
        self.process.fanout.on_link_event(self._publications_lost)
        self.stats.gauge("connections", lambda: len(self.streams.open))
        self.stats.gauge("users", lambda: len(self.online))
        self.stats.gauge("groups", lambda: self.memberships.groups)
        self.stats.gauge("monitored_sessions", lambda: self.monitors.sessions)
        self.stats.gauge("watched", lambda: self.watches.users)
        self.stats.gauge("slow_readers", lambda: self.streams.slow_readers)
        self.stats.gauge("refused_connections", lambda: self.streams.refused)

    def _find_owners(self) -> dict[int, tuple[BoundMethod, BoundMethod] | None]:
        """Pack type -> (handle, ordered) of its owner; None where the topology lacks the owner."""
        topology = self.process.topology
        wanted = methods_of(Packs).keys()
        proxies: dict[str, tuple[Any, Any]] = {}
        owners: dict[int, tuple[BoundMethod, BoundMethod] | None] = {}
        for number, row in TABLE.items():
            if row.owner is None or row.owner == "broker" or row.request is None:
                continue
            kind = row.owner
            if not topology.instances(kind) or not methods_of(topology.node_class(kind)).keys() >= wanted:
                owners[number] = None
                continue
            if kind not in proxies:
                proxy: Any = self.service(Packs, kind)  # type: ignore[type-abstract]
                proxies[kind] = (proxy.handle, proxy.ordered)
            owners[number] = proxies[kind]
        return owners

    def _max_payload(self) -> int:
        """What LOGIN tells clients of the largest message, 0 where nobody takes any."""
        topology = self.process.topology
        return min((topology.settings(k).max_payload for k in ("chat", "group") if topology.instances(k)), default=0)

    def serve(self) -> None:
        settings: BrokerSettings = self.settings
        fanout = self.process.fanout
        wait_for(lambda done: fanout.subscribe([publications.EVERYWHERE], lambda whole: done(None, None)))
        tls = self._tls_context() if settings.tls_listen or settings.wss_listen else None
        tcp = partial(self._connected, lambda: ServerConnection(settings.max_frame))
        allowed = partial(is_page_allowed, listed=settings.ws_origins, mode=self._auth_mode)
        web = partial(self._connected, lambda: WebSocketConnection(settings.max_frame, allowed))
        for name, listen, make, context in (
            ("tcp", settings.listen, tcp, None), ("tls", settings.tls_listen, tcp, tls),
            ("ws", settings.ws_listen, web, None), ("wss", settings.wss_listen, web, tls),
        ):  # fmt: skip
            if listen:
                host, port = self.streams.listen(parse_listen(listen), make, context)
                self._endpoints[name] = f"{host}:{port}"

    def _tls_context(self) -> ssl.SSLContext:
        settings: BrokerSettings = self.settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"[node.broker] tls_certificate: {settings.tls_certificate}: {error}") from None
        return context

    def describe(self) -> dict[str, Any]:
        return {**self._endpoints, "connections": len(self.streams.open), "users": len(self.online)}

    @classmethod
    def check(cls, topology: Topology) -> Iterator[tuple[str, str, str]]:
        if topology.section("auth").mode != "open":
            return
        settings: BrokerSettings = topology.settings("broker")
        for key in LISTENS:
            value = getattr(settings, key)
            if value and not is_loopback(parse_listen(value)[0]):
                text = f'{value} can be reached from outside, and [auth] mode = "open" lets anybody in as anybody'
                yield "node.broker", key, text

    @classmethod
    def banner(cls, settings: Any) -> list[str]:
        listens = {
            "TCP": settings.listen, "TLS": settings.tls_listen, "WebSocket": settings.ws_listen,
            "WebSocket with TLS": settings.wss_listen,
        }  # fmt: skip
        lines = [f"clients connect to {listen} ({kind})" for kind, listen in listens.items() if listen]
        if any(listen.endswith(":0") for listen in listens.values()):
            lines.append("`imesh status` tells which port was free")
        return [*lines, "try: imesh chat alice --to bob, and in another terminal imesh chat bob --to alice"]

    # ---- connections

    def _connected(
        self, connection: Callable[[], ServerConnection], streams: Streams, sock: Any, peer: str
    ) -> Client | None:
        if self.limits.connection(peer):
            return None
        self._next_connection += 1
        name = f"{self.process.name}/{self.process.start_id}/{self._next_connection}"
        self.stats.counts["connections.accepted"] += 1
        return Client(self, streams, sock, peer, name, connection())

    def lost(self, client: Client, reason: str) -> None:
        """A connection is over."""
        self.stats.counts[f"connections.closed.{reason}"] += 1
        self.logins.leave(client)

    def _step(self) -> None:
        self._sweep_some()
        self._resync_some()

    def _sweep_some(self) -> None:
        """Close connections that are past a deadline. Each is looked at once a second, a part of them at a time: nobody
        waits while many are looked at."""
        if not self._sweep_queue:
            self._sweep_queue = [c for c in self.streams.open.values() if isinstance(c, Client)]
            self._sweep_share = int(len(self._sweep_queue) * STEP_SECONDS / SWEEP_SECONDS) + 1
        settings: BrokerSettings = self.settings
        time = now()
        for _ in range(min(self._sweep_share, len(self._sweep_queue))):
            client = self._sweep_queue.pop()
            if not client.open:
                continue
            reason = client.overdue(time, settings)
            if reason is not None:
                client.close(reason.value)
            elif time - client.heard > settings.heartbeat and (ping := client.connection.nudge(client.heard)):
                client.write(ping)

    # ---- requests

    def packs_came(self, client: Client, packs: list[Pack]) -> None:
        """Packs of a client, in order. On the hub."""
        for pack in packs:
            if not client.open or client.goodbye is not None:
                return
            if pack.flags & ACK:
                continue  # the client acknowledges something; never a request
            if client.origin is None or pack.type == LOGIN:
                self.logins.request(client, pack)
            else:
                self._request(client, pack)

    def _request(self, client: Client, pack: Pack) -> None:
        pack_type = pack.type
        origin, limits = client.origin, client.limits
        assert origin is not None and limits is not None
        bucket = limits.messages if pack_type in ORDERED else limits.requests
        if (wait := bucket.take(self.streams.time)) and pack_type != LOGOUT:
            self.stats.counts["requests.limited"] += 1
            self._refuse_early(client, pack, origin.user, "too many requests", int(wait * 1000) + 1)
            return
        owner = self._owners.get(pack_type)
        settings: BrokerSettings = self.settings
        if client.unanswered >= settings.max_unanswered and (owner is not None or pack_type in WATCH_TYPES):
            text = f"{settings.max_unanswered} requests are unanswered"
            self._refuse_early(client, pack, origin.user, text, RETRY_AFTER_MS)
            return
        if owner is None:
            self._own_request(client, pack)
            return
        try:
            payload = client.canonical(pack, settings.max_frame)
            key = route_key(pack_type, payload, origin.user)
        except PayloadError as error:
            self.refuse(client, pack, error.code, error.desc)
            return
        request = Request(pack_type, pack.flags, pack.pack_id, payload)
        handle, ordered = owner
        if pack_type in ORDERED:
            if client.quarantined and client.is_quarantined(key, pack.pack_id, now()):
                self.refuse(client, pack, Code.REFUSED, "a message before this one failed", RETRY_AFTER_MS)
                return
            client.unanswered += 1
            ordered.caller.start(
                ordered.service, ordered.method, (key, client.name, origin, request),
                partial(self._message_answered, client, pack, key),
            )  # fmt: skip
        else:
            client.unanswered += 1
            handle.caller.start(
                handle.service, handle.method, (key, origin, request), partial(self.answered, client, pack)
            )

    def _refuse_early(self, client: Client, pack: Pack, user: str, text: str, retry_after: int) -> None:
        """Refuse a request of a client that asks too much. Messages behind it must not overtake it."""
        if pack.type in ORDERED:
            try:
                session = route_key(pack.type, client.canonical(pack, self.settings.max_frame), user)
            except PayloadError as error:
                self.refuse(client, pack, error.code, error.desc)
                return
            client.quarantine(session, pack.pack_id, now() + QUARANTINE_SECONDS)
        self.refuse(client, pack, Code.REFUSED, text, retry_after)

    def _own_request(self, client: Client, pack: Pack) -> None:
        if pack.type in OWN:
            try:
                payload = client.canonical(pack, self.settings.max_frame)
            except PayloadError as error:
                self.refuse(client, pack, error.code, error.desc)
                return
            if pack.type == PING:
                self._respond(client, pack, payload)  # echoed
            elif pack.type in WATCH_TYPES:
                client.unanswered += 1
                self.watches.request(client, pack, payload, partial(self.answered, client, pack))
            else:
                client.goodbye = pack
                self._part(client)
        elif pack.type in MONITORING:
            self.monitors.request(client, pack)
        elif pack.type in self._owners:
            self.refuse(client, pack, Code.UNAVAILABLE, "this system has no node for it")
        else:
            self.refuse(client, pack, Code.PROTOCOL)

    def _part(self, client: Client) -> None:
        """Answer a LOGOUT and close, once everything that was asked before it is answered."""
        if client.goodbye is not None and not client.unanswered:
            self._respond(client, client.goodbye, encode_payload(CommonErrorCode()))
            client.close(CloseReason.LOGOUT.value)

    def _message_answered(
        self, client: Client, pack: Pack, session: str, payload: bytes | None, error: Exception | None
    ) -> None:
        if error is not None:
            client.quarantine(session, pack.pack_id, now() + QUARANTINE_SECONDS)
        self.answered(client, pack, payload, error)

    def answered(self, client: Client, pack: Pack, payload: bytes | None, error: Exception | None) -> None:
        """A request that counts as unanswered has its answer, or an error that stands for none."""
        client.unanswered -= 1
        if not client.open:
            return
        if payload is not None:
            self._respond(client, pack, payload)
        else:
            self._failed(client, pack, error)
        if client.goodbye is not None:
            self._part(client)

    def _failed(self, client: Client, pack: Pack, error: Exception | None) -> None:
        """Answer what no node has answered."""
        self.stats.counts["requests.failed"] += 1
        if isinstance(error, Overloaded):
            self.refuse(client, pack, Code.REFUSED, "overloaded", RETRY_AFTER_MS)
        elif isinstance(error, CallError) and not isinstance(error, RemoteError):
            self.refuse(client, pack, Code.UNAVAILABLE)
        else:
            self.refuse(client, pack, Code.EXCEPTION)

    def refuse(self, client: Client, pack: Pack, code: int, text: str = "", retry_after: int = 0) -> None:
        """Answer with an error."""
        self._respond(client, pack, encode_error(pack.type, code, text, retry_after))

    def _respond(self, client: Client, pack: Pack, payload: bytes) -> None:
        client.send(Pack(pack.type, pack.version, pack.flags & PLAIN | ACK, pack.pack_id, payload))

    # ---- publications

    def _publication(self, user: str, items: Sequence[Any]) -> None:
        for item in items:
            if item[0] == publications.DELIVER:
                self._deliver(self.online.get(user, ()), skip=item[1], body=item[2])
            elif item[0] == publications.KICK:
                self.logins.kick_out(user, device_type=item[1], number=item[2])
            elif item[0] == publications.JOINED:
                self.memberships.joined(user, *item[1:])

    def _group_publication(self, group: str, items: Sequence[Any]) -> None:
        if publications.GROUP + group != publications.EVERYWHERE:
            self.memberships.published(group, items)
            return
        for _, users, theirs in items:
            for user in users:
                if self.memberships.holds(user):
                    self._publication(user, theirs)

    def _deliver(self, clients: Sequence[Client], skip: str, body: bytes) -> None:
        frames: dict[Codec, bytes] = {}
        delivered = 0
        for client in clients:
            if client.name == skip or client.origin is None:
                continue
            codec = client.codec
            found = frames.get(codec)
            if found is None:
                found = frames[codec] = codec.frame_of(body)
            client.write(found)
            delivered += 1
        if is_message(body):
            self.stats.counts["deliveries"] += delivered

    def _outcomes(self) -> dict[str, int]:
        """What the archive keeps of the counters."""
        counts = self.stats.counts
        return {"delivered": counts["deliveries"], "slow_readers": counts["connections.closed.slow_reader"]}

    def push(self, client: Client, pack_type: int, payload: bytes) -> None:
        """Send a pack that answers nothing."""
        client.send(Pack(pack_type, VERSION, 0, "", payload))

    def kicked_out(self, client: Client) -> None:
        """Tell a client that its login ended, and close."""
        assert client.origin is not None
        error = CommonErrorCode(code=Code.CONN_KICKOUT)
        _, device_type, device_id, *_ = client.origin
        payload = encode_payload(KickOut(error_code=error, device_type=device_type, device_id=device_id))
        self.push(client, KICKOUT, payload)
        client.close(CloseReason.KICKED.value)

    def hint_resync(self, client: Client) -> None:
        """Tell a client that it may have missed something."""
        if client.open and client.origin is not None:
            self.push(client, SYNC_DATA_CMD, encode_payload(SyncDataReq(command=SyncCommand.RESYNC)))

    def _publications_lost(self, publisher: str, reason: str) -> None:
        queued = set(map(id, self._resync_queue))
        self._resync_queue += [c for clients in self.online.values() for c in clients if id(c) not in queued]
        self._resync_share = int(len(self._resync_queue) * STEP_SECONDS / RESYNC_SECONDS) + 1
        self.logins.recheck()
        self.memberships.reread()
        self.watches.stirred()

    def _resync_some(self) -> None:
        for _ in range(min(self._resync_share, len(self._resync_queue))):
            self.hint_resync(self._resync_queue.pop())

    # ---- the end

    def drain(self) -> None:
        self.streams.stop_listening()
        clients = [c for c in self.streams.open.values() if isinstance(c, Client)]
        for client in clients:
            client.pause()
        while any(c.unanswered for c in clients if c.open):
            gevent.sleep(0.02)
        if self._reports is not None:
            self._reports.close()  # now: when everything stops, the archive does not wait for clients that leave slowly
        for n, client in enumerate(clients):
            client.close(CloseReason.DRAINING.value)
            if n % CLOSE_AT_ONCE == 0:
                gevent.sleep(0)
        while self.streams.leaving:
            gevent.sleep(0.02)

    def stop(self) -> None:
        for timer in self._timers:
            timer.stop()
        self.memberships.close()
        self.watches.close()
        self.streams.close()
