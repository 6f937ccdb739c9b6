"""A private MariaDB, the store of a peer or of ours; every commit is fsynced, as it is by default."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.systems import HOST, Private, free_port, listens

GROUP = "mariadb"
PACKAGES = ("mariadb-server",)
BUFFER_POOL = "256M"
USER, PASSWORD, DATABASE = "bench", "bench", "bench"


class MariaDB(Private):
    """A server by itself."""

    name = "MariaDB"

    def start(self) -> None:
        self.port = start(self)

    def url(self, database: str = DATABASE) -> str:
        """As `[store] archive` names it."""
        return f"mysql://{USER}:{PASSWORD}@{HOST}:{self.port}/{database}"


def start(system: Private, schema: Path | None = None) -> int:
    """Start one among the processes of `system`, with the tables of `schema`; its port."""
    data, port = system.directory / "mariadb", free_port()
    make = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"]
    subprocess.run([*make, "--auth-root-authentication-method=normal"], capture_output=True, check=True)
    first = system.directory / "first.sql"
    first.write_text(
        f"CREATE DATABASE {DATABASE};\nCREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n"
        f"GRANT ALL ON *.* TO {USER}@'%';\n"
    )
    command = [
        "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--port={port}", f"--bind-address={HOST}",
        f"--socket={data}/s", f"--pid-file={data}/pid", f"--init-file={first}", "--innodb-flush-log-at-trx-commit=1",
        f"--innodb-buffer-pool-size={BUFFER_POOL}",
    ]  # fmt: skip
    system.run(GROUP, command, lambda: listens(port))
    if schema is None:
        return port
    client = ["mariadb", "--no-defaults", f"--host={HOST}", f"--port={port}", f"-u{USER}", f"-p{PASSWORD}"]
    with schema.open("rb") as tables:
        subprocess.run([*client, DATABASE], stdin=tables, check=True)
    return port
