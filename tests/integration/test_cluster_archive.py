"""The archive's tests on a system whose Redis is a Cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store.settings import LEAST
from tests.integration.test_olap import (
    test_rows_that_cannot_be_written_are_set_aside_and_hold_up_nobody,  # noqa: F401
    test_what_is_stored_and_what_is_done_to_it_reaches_the_archive,  # noqa: F401
)
from tests.integration.test_one_history import (
    test_a_page_is_right_while_the_window_moves,  # noqa: F401
    test_a_resend_that_redis_forgot_is_found_in_the_archive,  # noqa: F401
    test_archived_messages_are_revoked_overridden_and_deleted,  # noqa: F401
    test_nothing_overtakes_a_message_of_which_the_archive_is_asked,  # noqa: F401
    test_pages_go_on_in_the_archive,  # noqa: F401
    test_the_newest_message_is_shown_also_when_it_is_archived,  # noqa: F401
    test_unread_is_exact_for_who_reads_in_the_archive,  # noqa: F401
    test_what_must_not_be_missed_is_read_from_the_archive,  # noqa: F401
)
from tests.integration.test_search import (
    test_everybody_finds_what_he_may_see,  # noqa: F401
    test_what_was_revoked_deleted_or_overridden_is_not_found_from_that_moment_on,  # noqa: F401
)
from tests.redis_cluster import RedisCluster
from tests.system import System, running, topology_text


@pytest.fixture(scope="module")
def narrow(cluster: RedisCluster) -> Iterator[System]:
    with running(topology_text(tables={"store": {"redis": cluster.url, "hot_messages": LEAST}})) as system:
        yield system


@pytest.fixture(scope="module")
def cold(narrow: System) -> System:
    return narrow


@pytest.fixture(scope="module")
def system(narrow: System) -> System:
    return narrow
