"""The system itself: is it alive, is it ready, its processes, its statistics, what it can do."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec

from nodes.rest.metrics import exposition
from webapi.exchange import JSON_TYPE, Answer, json_answer
from webapi.page import HEADERS, page
from webapi.routes import Call, route

Reasons = Callable[[], list[str]]


class Health(msgspec.Struct):
    """It lives."""

    status: str


class ProcessState(msgspec.Struct):
    """A process of the mesh. `heard` is how many seconds ago its statistics came, null for never."""

    process: str
    host: str
    nodes: list[str]
    up: bool
    heard: float | None


class NodesState(msgspec.Struct):
    """All processes of the topology."""

    processes: list[ProcessState]


class System:
    """Routes of the system. `reasons`: why it is not ready; `document`: the OpenAPI document."""

    def __init__(
        self, reasons: Reasons, monitor: Any, processes: Callable[[], list[ProcessState]],
        document: Callable[[], dict[str, Any]],
    ) -> None:  # fmt: skip
        self._reasons = reasons
        self._monitor = monitor
        self._processes = processes
        self._document = cache(document)
        self._page = cache(lambda: page(self._document()).encode())
        self._openapi = cache(lambda: msgspec.json.encode(self._document()))

    @route("GET", "/healthz", tag="system", summary="Whether this process lives")
    def health(self, call: Call) -> Health:
        return Health("ok")

    @route("GET", "/readyz", tag="system", errors=(503,), summary="Whether requests can be served, and why not")
    def ready(self, call: Call) -> Answer:
        reasons = self._reasons()
        if not reasons:
            return json_answer(200, {"status": "ready", "reasons": []})
        return json_answer(503, {"status": "not ready", "reasons": reasons})

    @route("GET", "/metrics", scope="system:read", tag="system", summary="Statistics of all processes for Prometheus")
    def metrics(self, call: Call) -> Answer:
        text = exposition(self._monitor.newest(), self._processes())
        return Answer(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    @route("GET", "/v1/nodes", scope="system:read", tag="system", summary="The state of all processes")
    def nodes(self, call: Call) -> NodesState:
        return NodesState(self._processes())

    @route("GET", "/openapi.json", tag="system", summary="This document")
    def openapi(self, call: Call) -> Answer:
        return Answer(200, self._openapi(), JSON_TYPE)

    @route("GET", "/docs", tag="system", summary="This document for people")
    def docs(self, call: Call) -> Answer:
        return Answer(200, self._page(), "text/html; charset=utf-8", HEADERS)
