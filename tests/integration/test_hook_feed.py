"""From the log to events, on a real Redis: what cannot be written for a while is written afterwards, in order."""

from __future__ import annotations

import json

import pytest

from mesh.log import Log
from mesh.stats import Stats
from nodes.hook_feed import CONSUMER, Feed
from nodes.lease import Lease
from store.errors import StoreError
from store.events import START, STREAM, Events
from store.leases import Leases
from store.log import HOOKS, Consumer
from store.redis import Redis
from tests.integration.test_store_log import TAGS, store, store_together


def test_events_that_cannot_be_written_for_a_while_keep_their_order_and_their_names(redis: Redis) -> None:
    events = Events(redis, redis, keep=1000, said_seconds=60)
    lease = Lease(Leases(redis), "hooks", "one")
    feed = Feed(
        Consumer(redis, TAGS, HOOKS, CONSUMER, keep_seconds=600.0), events, lease, Stats("hooks"), Log("hooks"),
        trims=False,
    )  # fmt: skip
    feed._consumer.open()
    assert lease.held()
    redis.ask("SET", STREAM, "no stream")
    stored = store_together(redis, *["SC_a_b"] * 6)
    with pytest.raises(StoreError):
        feed._move()
    stored += store(redis, "SC_a_b")
    redis.ask("DEL", STREAM)
    while feed._move():
        pass
    found = [place.event for place in events.after(START, 100)]
    assert [(event.type, event.key) for event in found] == [("message.sent", "SC_a_b")] * len(stored)
    assert [json.loads(event.data)["seq_id"] for event in found] == [seq for _, seq in stored]
    assert len({event.id for event in found}) == len(stored)
