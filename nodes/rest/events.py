"""Events, as webhooks tell them, read again."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nodes.rest import wire
from store import events as store
from webapi.exchange import ApiError
from webapi.routes import Call, route

PAGE = 100
_AT = re.compile(r"\d{1,15}-\d{1,19}").fullmatch
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class EventsPage(wire.Body):
    """From where on."""

    after: wire.Cursor = ""
    """`at` of an event, `next` of a page, or "<ms since the epoch>-0"; empty: from the oldest event that is kept."""
    limit: Annotated[int, Meta(ge=1, le=wire.MAX_ITEMS)] = PAGE


class Event(msgspec.Struct):
    """What happened. `id` is the same when it is told again; `at` is its place among all."""

    id: str
    at: str
    type: str
    time: int
    data: dict[str, Any]


class EventPage(msgspec.Struct):
    """Oldest first. `next` goes on behind them, also when there are no more yet."""

    events: list[Event]
    next: str


class Events:
    """Routes of events. `events` is None in a system that keeps none."""

    def __init__(self, events: store.Events | None) -> None:
        self._events = events

    @route(
        "GET", "/v1/events", scope="events:read", tag="events", errors=(422,), summary="Events, as webhooks tell them"
    )
    def page(self, call: Call, query: EventsPage) -> EventPage:
        """Those that are kept, whether an endpoint got them or not. None are without one, or `record` in [hooks]."""
        if self._events is None:
            raise ApiError(503, "unavailable", "this system keeps no events: see record in [hooks]")
        if query.after and not _AT(query.after):
            raise ApiError(422, "param", "no event has this place", field="after")
        places = self._events.after(query.after or store.START, query.limit)
        rows = [Event(p.event.id, p.at, p.event.type, p.time, _decode(p.event.data)) for p in places]
        return EventPage(rows, rows[-1].at if rows else query.after)
