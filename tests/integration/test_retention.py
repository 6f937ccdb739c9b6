"""Messages that are kept for a while only are gone everywhere, and no others are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from packs.ids import single_session
from store.archive import messages, migrations, retention
from store.archive.database import Archive
from store.archive.url import parse_archive
from store.keys import Keys
from tests.archives import cold_rows
from tests.controls import send
from tests.groups import create
from tests.integration.test_archive import NOW, entry
from tests.integration.test_olap import archive_of, server_of, wait_archived
from tests.system import System, running, topology_text
from tests.waiting import wait_until

KEPT_SECONDS = 4
SETTINGS = {"keep_single_days": KEPT_SECONDS / 86_400}


@pytest.fixture
def archive(archive_url: str) -> Iterator[Archive]:
    made = Archive(parse_archive(archive_url, Path("/nowhere")))
    made.write(migrations.migrate)
    yield made
    made.close()


def test_the_archive_is_cleared_in_steps_up_to_a_moment(archive: Archive) -> None:
    old = entry(NOW - 3 * messages.US_PER_DAY)
    archive.write(messages.put, [messages.row_of("SC_a_b", old, "")])
    rows = [messages.row_of(session, entry(NOW + i), "") for i in range(10) for session in ("SC_a_b", "SC_c_d", "GC_g")]
    archive.write(messages.put, rows)
    step, deleted = retention.Step(0, True, 0), 0
    steps = 0
    while step.more:
        step = archive.write(retention.expire, "SC_", step.at, NOW + 7, 4)
        deleted += step.deleted
        steps += 1
    assert deleted == 15 and steps > 3
    left = {s: len(archive.read(messages.page, s, NOW + 99, 99)) for s in ("SC_a_b", "SC_c_d", "GC_g")}
    assert left == {"SC_a_b": 3, "SC_c_d": 3, "GC_g": 10}
    again = retention.start_of(NOW // messages.US_PER_DAY)
    assert archive.write(retention.expire, "SC_", again, NOW + 7, 99) == (step.at, False, 0)
    assert archive.write(retention.expire, "SC_", again, NOW + 8, 99) == (step.at, False, 2)


@pytest.fixture(scope="module")
def short() -> Iterator[System]:
    with running(topology_text(tables={"node.olap": SETTINGS})) as system:
        yield system


def test_what_is_too_old_is_gone_everywhere(short: System, user: Callable[[], str]) -> None:
    a, b = user(), user()
    raw = short.client(a)
    group = create(raw, a, b)
    session = single_session(a, b)
    raw.text(b, "old")
    send(raw, group, "kept")
    wait_archived(short)
    server, history = server_of(short), Keys(64).history(session)
    wait_until(lambda: not server.zcard(history), "the message to be gone from Redis", 20)
    short.kill("cold-1")  # a node that starts looks at once

    def gone() -> bool:
        return not any(place[0] == session for place in cold_rows(archive_of(short), short.data))

    wait_until(gone, "and from the archive", 20)
    short.wait_serving()
    assert raw.history(session) == []
    assert [m.content for m in raw.history(group)] == ["kept"]
    raw.text(b, "new")
    assert [m.content for m in raw.history(session)] == ["new"]
