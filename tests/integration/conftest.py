"""Systems that several tests share. Tests use users of their own, so they do not see each other."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.archive import migrations
from store.archive.database import Archive
from store.archive.url import parse_archive
from store.client import wait_until_ready
from store.redis import Redis
from store.scripts import ALL
from tests import mariadb as mariadbs
from tests import raw
from tests.redis_cluster import RedisCluster
from tests.redis_server import Server
from tests.system import LAYOUTS, System, running, topology_text

_users = itertools.count(1)
_databases = itertools.count(1)


@pytest.fixture(scope="session", params=list(LAYOUTS))
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    """A running system, in the default and in the split layout."""
    with running(topology_text(request.param)) as found:
        yield found


@pytest.fixture(scope="session")
def strict() -> Iterator[System]:
    """A system with short deadlines and small limits."""
    limits = {
        "login_timeout": 1.5, "frame_timeout": 1.0, "heartbeat": 1.5, "max_frame": 100_000, "write_buffer": 200_000,
        "max_unanswered": 50, "max_connections": 1100,
    }  # fmt: skip
    with running(topology_text(tables={"node.broker": limits})) as found:
        yield found


@pytest.fixture(scope="session")
def wide() -> Iterator[System]:
    """A system with two brokers, each on a port of its own."""
    with running(topology_text("edge and core", {"edge": 2})) as found:
        yield found


@pytest.fixture(scope="module")
def unharmed(system: System) -> Iterator[None]:
    """Nothing that the tests of a module do harms a process."""
    with system.unharmed():
        yield


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, with its key in the same file."""
    directory = tmp_path_factory.mktemp("tls")
    form = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command = ["openssl", *form.split(), "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=directory, check=True, capture_output=True)
    both = directory / "both.pem"
    both.write_text((directory / "cert.pem").read_text() + (directory / "key.pem").read_text())
    return both


@pytest.fixture(autouse=True)
def close_connections() -> Iterator[None]:
    yield
    while raw.opened:
        raw.opened.pop().close()


@pytest.fixture
def user() -> Callable[[], str]:
    """Makes user ids that no other test has."""
    return lambda: f"u{next(_users)}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A Redis without anything else."""
    found = Server(tmp_path)
    found.start()
    yield found
    assert found.process is not None
    found.process.kill()
    found.process.wait()


@pytest.fixture
def redis(server: Server) -> Iterator[Redis]:
    """A connection to it."""
    made = Redis(server.address, ALL)
    wait_until_ready(made, 10)
    yield made
    made.close()


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mariadbs.MariaDB]:
    """A MariaDB server; tests make databases of their own in it."""
    mariadbs.require()
    with mariadbs.running(tmp_path_factory.mktemp("m")) as found:
        yield found


@pytest.fixture
def own_mariadb(tmp_path: Path) -> Iterator[mariadbs.MariaDB]:
    """A MariaDB server that the test may stop and kill."""
    mariadbs.require()
    with mariadbs.running(tmp_path) as found:
        yield found


@pytest.fixture(params=["sqlite", "mariadb"])
def archive_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty archive may be made: the same tests run on each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/archive.db"
    made: str = request.getfixturevalue("mariadb").make(f"t{next(_databases)}")
    return made


@pytest.fixture
def archive(archive_url: str) -> Iterator[Archive]:
    """An empty archive with all its tables, on each kind of database."""
    made = Archive(parse_archive(archive_url, Path("/nowhere")))
    made.write(migrations.migrate)
    yield made
    made.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    found = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        found.start()
        yield found
    finally:
        found.stop()
