"""A private MariaDB, the store of a peer; every commit is fsynced, as it is by default."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.systems import HOST, Private, free_port, listens

GROUP = "mariadb"
PACKAGES = ("mariadb-server",)
USER, PASSWORD, DATABASE = "bench", "bench", "bench"


def start(system: Private, schema: Path) -> int:
    """Start one among the processes of `system`, with the tables of `schema`; its port."""
    data, port = system.directory / "mariadb", free_port()
    make = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"]
    subprocess.run([*make, "--auth-root-authentication-method=normal"], capture_output=True, check=True)
    first = system.directory / "first.sql"
    first.write_text(
        f"CREATE DATABASE {DATABASE};\nCREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n"
        f"GRANT ALL ON {DATABASE}.* TO {USER}@'%';\n"
    )
    command = [
        "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--port={port}", f"--bind-address={HOST}",
        f"--socket={data}/s", f"--pid-file={data}/pid", f"--init-file={first}", "--innodb-flush-log-at-trx-commit=1",
        "--innodb-buffer-pool-size=256M",
    ]  # fmt: skip
    system.run(GROUP, command, lambda: listens(port))
    client = ["mariadb", "--no-defaults", f"--host={HOST}", f"--port={port}", f"-u{USER}", f"-p{PASSWORD}"]
    with schema.open("rb") as tables:
        subprocess.run([*client, DATABASE], stdin=tables, check=True)
    return port
