"""The tests of the protocol, a strong selection, on a system whose Redis is a Cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.test_chat import *  # noqa: F403
from tests.integration.test_protocol_friends import *  # noqa: F403
from tests.integration.test_protocol_groups import *  # noqa: F403
from tests.integration.test_protocol_highpri import *  # noqa: F403
from tests.integration.test_protocol_history import *  # noqa: F403
from tests.integration.test_protocol_read import *  # noqa: F403
from tests.redis_cluster import RedisCluster
from tests.system import System, running, topology_text


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        with running(topology_text(tables={"store": {"redis": cluster.url}})) as found:
            yield found
    finally:
        cluster.stop()
