"""The http node: what third parties call. The server and what all APIs need: `webapi/`; the routes: `nodes/rest/`.

It is started by the launcher only: as a script's neighbour, this file would hide the standard library's `http`.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

from mesh.contract import methods_of
from mesh.errors import ConfigError, Overloaded
from mesh.loop import Every, now, post
from mesh.monitor import Monitor
from mesh.node import Node
from mesh.process import Process
from mesh.topology import Topology
from nodes import happenings, hot
from nodes.auth import AuthSettings, read_secret
from nodes.contracts import ApiKeys, Groups, KeyInfo, Notices, Packs, Push, User
from nodes.contracts_erasure import Erasures
from nodes.contracts_notices import NoticeControls
from nodes.contracts_search import Search
from nodes.contracts_statistics import Statistics
from nodes.rest.acting import Nodes
from nodes.rest.archived import Archived
from nodes.rest.classic import TAG as CLASSIC
from nodes.rest.classic import Classic
from nodes.rest.erasures import ErasureRoutes
from nodes.rest.events import Events
from nodes.rest.groups import Groups as GroupRoutes
from nodes.rest.keyring import LOOK_SECONDS, Keyring
from nodes.rest.messages import Messages
from nodes.rest.people import Friends, People, Users
from nodes.rest.problems import problem_of
from nodes.rest.pushing import Pushing
from nodes.rest.sessions import Sessions
from nodes.rest.settings import HttpSettings
from nodes.rest.system import ProcessState, System
from nodes.settings import is_loopback, parse_listen
from webapi.api import Api, Rates
from webapi.cors import Cors
from webapi.exchange import Answer, ApiError, Request, error_answer
from webapi.keys import ALL, NONCE_SECONDS, Authenticator, Secrets
from webapi.openapi import document
from webapi.routes import Route, routes_of
from webapi.server import Server
from webapi.settings import Limits

REQUEST_SECONDS = 30.0
"""What one request may take, with all that it calls."""
DESCRIPTION = "What other services may do with imesh. Errors have a real status and a body that says what is wrong."


def monitor(process: Process) -> Monitor:
    """For `process.shared`."""
    return Monitor(process.topology, process.sockets, process.spec.host)


class HttpNode(Node, ApiKeys):
    """The HTTP API."""

    Settings = HttpSettings
    sections = {**hot.SECTIONS, "auth": AuthSettings}
    workers = 128
    worker_queue = 4_096
    user: User | None
    group: Groups | None
    chat: Notices | None
    msgop: NoticeControls | None
    push: Push | None

    def start(self) -> None:
        settings: HttpSettings = self.settings
        self._store = hot.opened(self.process)
        self._monitor = self.process.shared(monitor)
        secret = read_secret(settings.secret_file, self.process.topology.data_dir, "api", "[node.http] secret_file")
        secrets = Secrets(secret)
        self._keyring = Keyring(self._store.api, secrets, self._scopes)
        self._routes = self._make_routes()
        self._api = Api(
            self._routes, Authenticator(secrets, self._keyring.find), self._store.api, self._note_nonce, problem_of,
            Rates(settings.requests_per_second, settings.request_burst), Cors(settings.cors_origins),
            self.stats.counts, self.stats.histograms["request"].add, self.log,
            frozenset((CLASSIC,)) if settings.classic_without_key else frozenset(),
        )  # fmt: skip
        limits = Limits(
            head=settings.max_head, body=settings.max_body, head_timeout=settings.head_timeout,
            body_timeout=settings.body_timeout, idle_timeout=settings.idle_timeout,
            connections=settings.max_connections,
        )  # fmt: skip
        self._server = Server(limits, self.stats.counts, self._api.admit, self._handle, self._api.refused)
        self._endpoints: dict[str, str] = {}
        self.stats.gauge("connections", lambda: len(self._server.streams.open))
        self.stats.gauge("buffered_bytes", lambda: self._server.buffered)
        self._make_first_key()
        self._looking = False
        self._look = Every(LOOK_SECONDS, self._look_soon)

    def _make_routes(self) -> list[Route]:
        nodes = Nodes(self._packs, self.user, self.group, self.chat, self.msgop)
        auth: AuthSettings = self.section("auth")
        system = System(self._reasons, self._monitor, self._processes, self._document)
        return routes_of(
            Messages(nodes), Sessions(nodes), GroupRoutes(nodes), Users(nodes, auth), Friends(nodes),
            ErasureRoutes(nodes, auth, self._of_olap(Erasures)), People(nodes),
            Archived(nodes, self._of_olap(Search), self._of_olap(Statistics)), Pushing(self.push),
            Events(happenings.events_of(self.process)), Classic(nodes), system,
        )  # fmt: skip

    def _of_olap(self, contract_class: type) -> Any:
        """What the olap node does by this contract; None without one."""
        return self.process.proxy(contract_class, "olap", needed_by=None)

    def _packs(self, kind: str) -> Packs | None:
        topology = self.process.topology
        if not topology.instances(kind) or not methods_of(topology.node_class(kind)).keys() >= methods_of(Packs).keys():
            return None
        return self.service(Packs, kind)  # type: ignore[type-abstract]

    # ---- doors

    def serve(self) -> None:
        settings: HttpSettings = self.settings
        if settings.listen:
            self._endpoints["http"] = "{}:{}".format(*self._server.listen(parse_listen(settings.listen)))
        if settings.tls_listen:
            where = self._server.listen(parse_listen(settings.tls_listen), self._tls_context())
            self._endpoints["https"] = "{}:{}".format(*where)

    def _tls_context(self) -> ssl.SSLContext:
        settings: HttpSettings = self.settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"[node.http] tls_certificate: {settings.tls_certificate}: {error}") from None
        return context

    def drain(self) -> None:
        self._server.drain()

    def stop(self) -> None:
        self._look.stop()
        self._server.close()

    def describe(self) -> dict[str, Any]:
        return {**self._endpoints, "connections": len(self._server.streams.open)}

    @classmethod
    def check(cls, topology: Topology) -> Iterator[tuple[str, str, str]]:
        settings: HttpSettings = topology.settings("http")
        for key in ("listen", "tls_listen"):
            value = getattr(settings, key)
            if settings.classic_without_key and value and not is_loopback(parse_listen(value)[0]):
                yield "node.http", "classic_without_key", f"{key} = {value} can be reached from outside: without keys?"

    @classmethod
    def banner(cls, settings: Any) -> list[str]:
        listens = [f"http://{settings.listen}"] if settings.listen else []
        listens += [f"https://{settings.tls_listen}"] if settings.tls_listen else []
        return [f"HTTP API: {' and '.join(listens)} (/docs; keys: imesh apikey create NAME)"]

    # ---- requests

    def _handle(self, request: Request, done: Callable[[Answer], None]) -> None:
        try:
            self.pool.submit(self._run, (request, done), now() + REQUEST_SECONDS)
        except Overloaded:
            error = ApiError(503, "overloaded", "too many requests are waiting", retry_after=1)
            done(error_answer(error, request.admitted.request_id))

    def _run(self, request: Request, done: Callable[[Answer], None]) -> None:
        post(done, self._api.run(request))

    def _note_nonce(self, caller: str, nonce: str) -> bool:
        return self._store.api.nonce(caller, nonce, NONCE_SECONDS)

    # ---- about ourselves

    def _reasons(self) -> list[str]:
        """Why requests cannot be served."""
        found = []
        if self.process.state != "serving":
            found.append(f"this process is {self.process.state}")
        if not self._store.writes.is_up():
            found.append("no connection to Redis")
        for name, service in self.process.calls.services.items():
            if not any(i.up and i.state == "serving" for i in service.pool.instances):
                found.append(f"no {name} node serves")
        return found

    def _processes(self) -> list[ProcessState]:
        return [ProcessState(s.process, s.host, list(s.nodes), s.up, s.heard) for s in self._monitor.states()]

    def _document(self) -> dict[str, Any]:
        return document("imesh", metadata.version("imesh"), DESCRIPTION, self._routes)

    # ---- keys

    def _scopes(self) -> frozenset[str]:
        return frozenset(route.declared.scope for route in self._routes if route.declared.scope)

    def _make_first_key(self) -> None:
        if not self._keyring.all():
            key = self._keyring.create("first", (ALL,), 0, 0)
            # To the terminal of whoever starts it, once; it is no line of the log and kept nowhere.
            print(f"\nthe first API key, for everything, shown this once:\n  {key}\n", file=sys.stderr, flush=True)

    def _look_soon(self) -> None:
        if not self._looking:
            with contextlib.suppress(Overloaded):
                self.pool.submit(self._look_now, (), None)
                self._looking = True

    def _look_now(self) -> None:
        try:
            self._keyring.look()
        finally:
            self._looking = False

    def create_key(self, name: str, scopes: tuple[str, ...], seconds: int, per_second: float) -> str:
        return self._keyring.create(name, scopes, seconds, per_second)

    def list_keys(self) -> tuple[KeyInfo, ...]:
        return tuple(KeyInfo(k.id, k.name, k.scopes, k.created, k.expires, k.per_second) for k in self._keyring.all())

    def revoke_key(self, key_id: str) -> bool:
        return self._keyring.revoke(key_id)
