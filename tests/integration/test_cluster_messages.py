"""Tests of the protocol, some for each kind of script, on a system whose Redis is a Cluster, and slots of it that move
under load."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from packs.ids import single_session
from store.keys import Keys
from store.slots import key_slot
from tests.integration.test_chat import test_a_message_is_acked_delivered_and_kept  # noqa: F401
from tests.integration.test_protocol_control import (
    pair,  # noqa: F401  # a fixture
    test_delete,  # noqa: F401
    test_flags_accumulate,  # noqa: F401
    test_in_a_group,  # noqa: F401
    test_override,  # noqa: F401
    test_pages_of_history_are_full_whatever_was_deleted,  # noqa: F401
    test_revoke,  # noqa: F401
    test_whoever_is_away_finds_it_in_the_queue,  # noqa: F401
)
from tests.integration.test_protocol_devices import (
    test_devices_are_listed_with_their_times,  # noqa: F401
    test_one_kicks_out_ones_own_devices,  # noqa: F401
)
from tests.integration.test_protocol_friends import (
    test_a_list_is_done_whole_and_rows_say_whose_they_are,  # noqa: F401
    test_both_add_each_other_at_once,  # noqa: F401
    test_friendship_is_both_directions_and_both_hear,  # noqa: F401
)
from tests.integration.test_protocol_groups import (
    test_a_group_from_its_creation_to_its_end,  # noqa: F401
    test_changing_the_info,  # noqa: F401
    test_concurrent_joins_never_exceed_the_limit,  # noqa: F401
    test_handing_over,  # noqa: F401
    test_joins_and_removals_of_one_user_leave_his_list_true,  # noqa: F401
    test_members_page_by_page,  # noqa: F401
    test_nothing_works_on_a_dismissed_group_and_nothing_of_it_is_left_in_lists,  # noqa: F401
)
from tests.integration.test_protocol_highpri import (
    test_a_message_is_there_once_and_as_it_is_now,  # noqa: F401
    test_groups_from_the_joining_on,  # noqa: F401
    test_nothing_is_missed_while_it_is_written,  # noqa: F401
    test_page_by_page,  # noqa: F401
)
from tests.integration.test_protocol_history import (
    test_a_resend_does_not_count_again,  # noqa: F401
    test_a_session_as_both_see_it,  # noqa: F401
    test_sessions_come_ascending_by_activity,  # noqa: F401
)
from tests.integration.test_protocol_profiles import (
    test_a_profile_is_replaced_and_everybody_sees_it,  # noqa: F401
    test_attributes_go_with_a_friendship_on_both_sides,  # noqa: F401
    test_attributes_of_sessions_come_with_them,  # noqa: F401
)
from tests.integration.test_protocol_read import (
    test_forward_only_and_never_past_the_newest,  # noqa: F401
    test_many_at_once_from_several_devices,  # noqa: F401
    test_over_tombstones_and_what_does_not_count,  # noqa: F401
)
from tests.integration.test_push_log import test_a_push_is_a_line_without_its_text  # noqa: F401
from tests.load import Load
from tests.redis_cluster import RedisCluster
from tests.system import System, running, topology_text
from tests.waiting import wait_until

KEYS = Keys(64)


@pytest.fixture(scope="module")
def system(cluster: RedisCluster) -> Iterator[System]:
    with running(topology_text(tables={"store": {"redis": cluster.url}})) as found:
        yield found


def test_slots_that_move_under_load_lose_double_and_swap_nothing(system: System, cluster: RedisCluster) -> None:
    host, port = system.address()
    load = Load([f"{host}:{port}"], pairs=4, name="moving")
    load.start()
    wait_until(lambda: load.acked > 50, "the load to run")
    tags = [KEYS.session_tag(single_session(a, b)) for a, b in load.users]
    tags += [KEYS.user_tag(a) for a, _ in load.users]
    for n, tag in enumerate(tags):
        slot = key_slot(tag)
        source = cluster.owner(slot)
        target = cluster.masters[(cluster.masters.index(source) + 1) % 3]
        cluster.begin_move(slot, source, target)
        while cluster.move_keys(slot, source, target, 1 + n % 2):  # in between, its keys are in two places
            gevent.sleep(0.002)
        cluster.end_move(slot, source, target)
        before = load.acked
        wait_until(lambda b=before: load.acked > b + 10, "the load to go on")  # type: ignore[misc]
    broken = load.finish()
    load.close()
    assert broken == []
