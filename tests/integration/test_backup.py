"""A backup of a running system, restored into an empty one, is the same system."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controls import send
from tests.integration.test_rebuild import people, same, seen, talk
from tests.system import System, running, topology_text


@pytest.fixture
def empty(request: pytest.FixtureRequest) -> Iterator[System]:
    """A system that was never started; its archive is on MariaDB."""
    text = topology_text(tables={"store": {"archive": request.getfixturevalue("mariadb").make("restored")}})
    with tempfile.TemporaryDirectory(prefix="imesh-test-") as directory:
        made = System(Path(directory), text)
        try:
            yield made
        finally:
            made.destroy()


@pytest.mark.seconds(110)
def test_a_restored_system_is_the_one_that_was_backed_up(empty: System, tmp_path: Path) -> None:
    file = str(tmp_path / "all.jsonl.gz")
    with running(topology_text()) as made:
        raws = people(made)
        sessions = talk(raws)
        before = seen(raws, sessions)
        assert made.run("apikey", "create", "shop", "--scope", "users:read").returncode == 0
        keys = made.run("apikey", "list").stdout
        done = made.run("backup", file)
        assert done.returncode == 0 and "backup: " in done.stderr, done.stderr
        again = made.run("backup", file)
        assert again.returncode == 1 and "is there already" in again.stderr
        send(raws["ann"], "ben", "after the backup")
        refused = made.run("restore", file)
        assert refused.returncode == 1 and "is not empty" in refused.stderr
    nothing = empty.run("backup", str(tmp_path / "other"))
    assert nothing.returncode == 1 and "nothing runs with data in" in nothing.stderr, nothing.stderr
    restored = empty.run("restore", file)
    assert restored.returncode == 0 and "restore: " in restored.stderr, restored.stderr
    empty.up()
    raws = {name: empty.client(name) for name in raws}
    same(seen(raws, sessions), before)
    assert "shop" in keys and empty.run("apikey", "list").stdout == keys
    assert send(raws["ann"], "ben", "it goes on").seq
