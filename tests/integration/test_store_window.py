"""What the window takes out of Redis, and what it must not."""

from __future__ import annotations

import pytest

from store.controls import Control
from store.entries import parse
from store.keys import Keys
from store.log import ARCHIVE, Consumer
from store.redis import Redis
from store.settings import LEAST
from store.window import Window
from tests.integration.test_store_controls import KEYS, OVERRIDING, SESSION, Store

WEEK = 604_800


@pytest.fixture
def store(redis: Redis) -> Store:
    return Store(redis)


def archive(redis: Redis) -> Consumer:
    consumer = Consumer(redis, Keys(64).session_tags(), ARCHIVE, "one", keep_seconds=600.0)
    consumer.open()
    return consumer


def size(store: Store) -> int:
    return int(store.redis.ask("ZCARD", KEYS.history(SESSION)))


def edge(store: Store) -> int:
    return int(store.redis.ask("HGET", KEYS.meta(SESSION), "a") or 0)


def test_only_what_is_archived_is_taken_out(store: Store) -> None:
    window = Window(store.redis, KEYS, LEAST, WEEK)
    sent = [store.send(f"p{n}").seq for n in range(50)]
    assert window.trim([SESSION]) == 0  # there is no archive
    consumer = archive(store.redis)
    assert window.trim([SESSION]) == 0  # it has nothing yet
    rows = consumer.read(1000)
    consumer.ack(rows[:10])
    window.trim([SESSION])
    assert edge(store) <= sent[9] and size(store) >= 40
    consumer.ack(rows)
    window.trim([SESSION])
    assert (size(store), edge(store)) == (LEAST, sent[50 - LEAST - 1])
    assert window.trim([SESSION]) == 0
    store.send("late")
    assert window.trim([SESSION]) == 0  # nobody knows how long before its row its number was given
    consumer.ack(consumer.read(1000))
    window.trim([SESSION])
    assert (size(store), edge(store)) == (LEAST, sent[50 - LEAST])


def test_a_message_whose_row_was_written_late_stays_until_it_is_archived(store: Store) -> None:
    window = Window(store.redis, KEYS, LEAST, WEEK)
    for n in range(50):
        store.send(f"p{n}")
    consumer = archive(store.redis)
    consumer.ack(consumer.read(1000))
    # As if the script of the first message had taken until now to write its row.
    (first,) = store.redis.ask("ZRANGE", KEYS.history(SESSION), 0, 0)
    store.redis.ask("XADD", f"{KEYS.session_tag(SESSION)}:log", "*", "s", SESSION, "e", first)
    assert window.trim([SESSION]) == 0 and size(store) == 50
    consumer.read(1000)
    assert window.trim([SESSION]) == 0 and size(store) == 50


def test_old_messages_go_but_for_the_newest(store: Store) -> None:
    consumer = archive(store.redis)
    for n in range(LEAST + 5):
        store.send(f"p{n}")
    consumer.ack(consumer.read(1000))
    assert Window(store.redis, KEYS, 1000, WEEK).trim([SESSION]) == 0
    assert Window(store.redis, KEYS, 1000, 0).sweep() == 5
    assert size(store) == LEAST


def test_an_archived_message_that_is_changed_stays_until_the_archive_knows_it(store: Store) -> None:
    patient, window = Window(store.redis, KEYS, LEAST, WEEK), Window(store.redis, KEYS, LEAST, WEEK, changed_seconds=0)
    consumer = archive(store.redis)
    sent = [store.send(f"p{n}") for n in range(50)]
    entries = {parse(e).seq: e for e in store.redis.ask("ZRANGE", KEYS.history(SESSION), 0, -1)}
    consumer.ack(consumer.read(1000))
    window.trim([SESSION])
    control = Control(SESSION, False, "a", "c", OVERRIDING, sent[0].seq, "p0", "new", True, 0, 1000)
    assert store.controls.control(control, b"\x95", entries[sent[0].seq]).status == 1
    assert size(store) == LEAST + 1
    window.trim([SESSION])
    assert size(store) == LEAST + 1
    consumer.ack(consumer.read(1000))
    patient.trim([SESSION])
    assert size(store) == LEAST + 1
    store.send("next")  # time goes on
    consumer.ack(consumer.read(1000))
    window.trim([SESSION])
    assert (size(store), edge(store)) == (LEAST, sent[50 - LEAST].seq)
