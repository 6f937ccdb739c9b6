"""A MariaDB of the tests' own: in a directory of its own, on a free port, which tests may stop and kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peewee
import pytest

from store.archive import database
from store.archive.url import MysqlServer, parse_archive
from store.errors import StoreUnavailable
from tests.system import free_port
from tests.waiting import wait_until

MISSING = "no mariadbd: apt install mariadb-server. NOTHING OF THE ARCHIVE IS TESTED ON MARIADB."
START_SECONDS = 30.0
USER, PASSWORD, DATABASE = "imesh", "secret of the tests", "imesh"


def require() -> None:
    """Skip the test, loudly, when there is no MariaDB; where `CI` is set, fail it."""
    if shutil.which("mariadbd") is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)


class MariaDB:
    """A server with an empty database."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "mariadb"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._log = (directory / "mariadb.log").open("ab")
        own = directory / "tmp"  # a server that starts removes the temporary tables of all in the same directory
        own.mkdir()
        self._environment = {**os.environ, "TMPDIR": str(own)}

    def make_data(self) -> None:
        """An empty database, and the server started."""
        make = ["mariadb-install-db", "--no-defaults", f"--datadir={self.directory}", "--skip-test-db"]
        make += ["--auth-root-authentication-method=normal"]
        command = [*make, *self._user()]
        subprocess.run(command, stdout=self._log, stderr=self._log, env=self._environment, check=True)
        self.start(
            f"CREATE DATABASE {DATABASE};\nCREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON *.* TO {USER}@'%';\n"
        )

    @staticmethod
    def _user() -> list[str]:
        return ["--user=root"] if os.getuid() == 0 else []

    def url(self, name: str = DATABASE) -> str:
        return f"mysql://{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{name}"

    def start(self, first: str = "") -> None:
        """Start, and wait until it answers; `first` is what it does before."""
        options = [
            f"--datadir={self.directory}", f"--socket={self.directory}/s", f"--port={self.port}",
            "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=48M",
            f"--pid-file={self.directory}/pid", *self._user(),
        ]  # fmt: skip
        if first:
            script = self.directory / "first.sql"
            script.write_text(first)
            options.append(f"--init-file={script}")
        command = ["mariadbd", "--no-defaults", *options]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log, env=self._environment)
        wait_until(self.answers, "MariaDB answers", START_SECONDS)

    def answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, "MariaDB ended"
        try:
            self.run("SELECT 1")
        except (StoreUnavailable, peewee.PeeweeException):
            return False
        return True

    def run(self, sql: str) -> None:
        """Run a statement, as the user that the archive has."""
        address = parse_archive(self.url(), Path())
        assert isinstance(address, MysqlServer)
        archive = database.Archive(address)
        try:
            archive.write(lambda db: db.execute_sql(sql) and None)
        finally:
            archive.close()

    def make(self, name: str) -> str:
        """The URL of a new, empty database."""
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait()

    def destroy(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._log.close()


@contextmanager
def running(directory: Path) -> Iterator[MariaDB]:
    """A server that runs inside the block."""
    server = MariaDB(directory)
    try:
        server.make_data()
        yield server
    finally:
        server.destroy()
