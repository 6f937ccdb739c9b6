"""Statistics of a running system: what was sent and delivered is counted once, whoever is killed meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mesh.cli import main
from mesh.control import Client, Control
from mesh.errors import AppError, Timeout
from mesh.topology import load
from packs import structs as s
from packs import table as t
from packs.flags import COUNTER
from store.archive.database import READERS, Archive
from store.archive.url import parse_archive
from tests import archives, recount
from tests.controls import DELETE, OVERRIDE, REVOKE, control, send
from tests.groups import create
from tests.integration.test_olap import archive_of, wait_archived
from tests.logs import own_logs
from tests.phones import phones
from tests.raw import code
from tests.system import ROOT, System, running, topology_text
from tests.waiting import wait_until

LAYOUT = {"edge": ["broker", "user"], "core": ["chat", "group", "history", "msgop"], "cold": ["olap"]}
HOUR = 3600


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
def counted(request: pytest.FixtureRequest) -> Iterator[System]:
    """A system with two nodes that drain, on each kind of database."""
    url = "embedded" if request.param == "sqlite" else request.getfixturevalue("mariadb").make("counted")
    with running(topology_text(LAYOUT, {"cold": 2}, {"store": {"archive": url}})) as system:
        yield system


def differences(system: System) -> list[str]:
    archive = Archive(parse_archive(archive_of(system), system.data))
    try:
        return archive.read(recount.differences)
    finally:
        archive.close()


def wait_counted(system: System) -> archives.Rows:
    """Wait until the archive has what Redis has, and has counted it."""
    hot = wait_archived(system)
    wait_until(lambda: not differences(system), "all is counted")
    return hot


def call(system: System, method: str, *args: Any) -> list[Any]:
    """A call from this process: a command takes half a second to start. Once for each of its connections, a node that
    outlives its database says that the outcome is unknown."""
    for _ in range(READERS):
        with suppress(Timeout):
            found: list[Any] = system.call(f"olap.{method}", *args)
            return found
    raise AssertionError(f"{method} is not answered")


def asked(system: System, method: str, *args: Any, by: str = "hour") -> list[Any]:
    """Of the hour before, this one and the next: a test may run over the end of an hour."""
    clock = int(time.time())
    found = call(system, method, *args, clock - HOUR, clock + HOUR, by)
    assert len(found) == 3 or by == "day"
    return found


def outcomes(system: System) -> Counter[str]:
    found: Counter[str] = Counter()
    for period in asked(system, "statistics"):
        found.update(dict(period[5]))
    return found


def sums(rows: list[list[int]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*(row[1:] for row in rows), strict=True)))


def test_what_is_sent_and_done_is_counted(counted: System, user: Callable[[], str]) -> None:
    wait_counted(counted)
    before = [asked(counted, "statistics"), outcomes(counted)]
    a, b = user(), user()
    raw, second, other = counted.client(a), counted.client(a, device_type=2, device_id="second"), counted.client(b)
    group = create(raw, a, b)
    sent = [send(raw, b) for _ in range(4)] + [send(raw, group) for _ in range(3)] + [send(other, a)]
    for message, command in ((0, REVOKE), (0, DELETE), (1, OVERRIDE), (4, DELETE)):
        assert control(raw, sent[message], command, "new") == 0
    for _ in range(2):
        assert code(raw.ask(t.MSG_SINGLE_CHAT, s.MsgReq(to=b, content="once"), "same-pack", COUNTER)) in (0, 46)
    assert counted.call("user.add_account", f"{a}-account", "password", False)
    wait_counted(counted)
    assert sums(asked(counted, "user_statistics", a)) == (8, 1, 1, 2, 3)
    assert sums(asked(counted, "user_statistics", a, by="day")) == (8, 1, 1, 2, 3)
    assert sums(asked(counted, "group_statistics", group))[:4] == (3, 0, 0, 1)
    assert max(row[5] for row in asked(counted, "group_statistics", group, by="day")) == 1
    for bad in ([9, 9, "day"], [0, 3000 * HOUR, "hour"], [-9, 9, "day"], [0, 9, "year"]):
        with pytest.raises(AppError):
            call(counted, "statistics", *bad)
    after = asked(counted, "statistics")
    grown = [sum(p[i] for p in after) - sum(p[i] for p in before[0]) for i in (2, 3, 4)]
    assert grown[1:] == [2, 1] and grown[0] >= 2  # in two buckets, if the hour ended meanwhile
    types: Counter[int] = Counter()
    for sign, periods in ((1, after), (-1, before[0])):
        for period in periods:
            types.update({number: sign * n for number, n in period[1]})
    assert types == {t.MSG_SINGLE_CHAT: 6, t.MSG_GROUP_CHAT: 3}
    clock = int(time.time())
    assert call(counted, "top_groups", clock - HOUR, clock + HOUR, "hour", 1000).count([group, 3]) == 1
    assert call(counted, "top_users", clock - HOUR, clock + HOUR, "hour", 1000).count([a, 8]) == 1
    # To each message: the other user, and the sender's other device; the repeat is delivered again.
    written = 5 * 2 + 3 * 2 + 2 + 2
    counted.signal(counted.pid("edge-1"), signal.SIGTERM)  # what was counted since the last report is reported
    wait_until(lambda: outcomes(counted)["delivered"] - before[1]["delivered"] == written, "all deliveries are counted")
    assert second and other


def test_what_vendors_answered_is_kept(user: Callable[[], str]) -> None:
    vendors = ("apns", "fcm")
    with phones(vendors, more={"process.cold": {"nodes": ["olap"]}}) as world:
        a, b = user(), user()
        world.away(b, *vendors)
        for number in range(1, 4):
            world.client(a, 5).text(b, "hello")
            for vendor in vendors:
                world.wait(b, number, vendor)
        topology = load(world.system.topology, str(world.system.data))
        asker = Client(topology)
        (counters,) = (n["counters"] for n in json.loads(asker.ask("push-1", Control.counters)) if n["node"] == "push")
        asker.close()
        assert [counters[f"push.main.{vendor}.accepted"] for vendor in vendors] == [3, 3]
        world.system.signal(world.system.pid("push-1"), signal.SIGTERM)  # the last report comes at once
        wait_until(lambda: outcomes(world.system)["push.accepted"] == 6, "the archive has what they took")


@pytest.mark.seconds(90)
def test_counts_are_exact_whoever_is_killed(counted: System, request: pytest.FixtureRequest, user: Any) -> None:
    counted.wait_serving()
    rng = random.Random(9)
    people = [user() for _ in range(5)]
    clients = [counted.client(name) for name in people]
    group = create(clients[0], *people)
    sent = []
    for turn in range(3):
        for _ in range(60):
            n = rng.randrange(len(people))
            sent.append((n, send(clients[n], rng.choice([group, *people]))))
        for n, message in rng.sample(sent, 15):
            control(clients[n], message, rng.choice((REVOKE, OVERRIDE, DELETE)), "other")
        if turn == 1 and "mariadb" in request.node.name:
            counted.wait_serving()
            server = request.getfixturevalue("mariadb")
            server.signal(signal.SIGKILL)
            server.start()
        else:
            wait_until(lambda name=f"cold-{turn // 2 + 1}": counted.kill_if_there(name), "it runs again and is killed")
    counted.wait_serving()
    assert len(wait_counted(counted)) >= len(sent)
    totals = [sum(sums(asked(counted, "user_statistics", name))[:1]) for name in people]
    assert totals == [sum(m == n for m, _ in sent) for n in range(len(people))]


def stats(system: System, capfd: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    """`imesh stats` in this process: its exit code, stdout and stderr."""
    try:
        with own_logs():
            status = main(["stats", *options, "--topology", str(system.topology), "--data", str(system.data)])
    except SystemExit as error:
        status = int(error.code or 0)
    return status, *capfd.readouterr()


@pytest.mark.parametrize("counted", ["sqlite"], indirect=True)
def test_the_command(counted: System, capfd: pytest.CaptureFixture[str], user: Callable[[], str]) -> None:
    counted.wait_serving()
    names = [user() for _ in range(3)]
    for number, name in enumerate(names):
        raw = counted.client(name)
        group = create(raw, name)
        for _ in range(200 + number):
            raw.request(t.MSG_GROUP_CHAT, s.MsgReq(to=group, content="x"), "", COUNTER)
        raw.ask(t.MSG_SINGLE_CHAT, s.MsgReq(to=name, content="the last"), "", COUNTER)
    wait_counted(counted)
    rows = json.loads(counted.run("stats", "--since", "1d", "--json").stdout)
    assert len(rows) == 2 and sum(row["group"] for row in rows) >= 603 and rows[-1]["start"].endswith("T00:00Z")
    status, table, _ = stats(counted, capfd, "--by", "hour")
    lines = table.splitlines()
    assert status == 0 and len(lines) in (50, 51), table
    assert lines[0].split()[:3] == ["hour", "(UTC)", "messages"] and lines[-1].startswith("total")
    assert len({len(line) for line in lines}) == 1
    top = json.loads(stats(counted, capfd, "--top", "3", "--json")[1])
    assert top["users"] == {names[2]: 203, names[1]: 202, names[0]: 201}
    assert list(top["groups"].values()) == [202, 201, 200]
    assert stats(counted, capfd, "--user", names[2])[1].splitlines()[-1].split()[:2] == ["total", "203"]
    assert stats(counted, capfd, "--group", group)[1].splitlines()[-1].split()[:2] == ["total", "202"]


@pytest.mark.parametrize("counted", ["sqlite"], indirect=True)
def test_pictures(counted: System, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    counted.wait_serving()
    picture = tmp_path / "p.png"
    for options in (("--by", "hour"), ("--top", "5"), ("--user", "nobody")):
        assert stats(counted, capfd, *options, "--plot", str(picture))[0] == 0
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000
        picture.unlink()
    hidden = tmp_path / "matplotlib"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError('not here')")
    command = [sys.executable, "-m", "mesh", "stats", "--plot", "p.png", "--topology", str(counted.topology)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "pip install 'imesh[plot]'" in done.stderr, done.stderr


@pytest.mark.parametrize("counted", ["sqlite"], indirect=True)
def test_what_the_command_refuses(counted: System, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    counted.wait_serving()
    for options, status, text in (
        (("--since", "yesterday"), 2, "expected 2026-11-01"),
        (("--user", "a", "--top", "3"), 2, "not allowed with"),
        (("--since", "2020-01-01", "--by", "hour"), 1, "are more than 2000"),
        (("--since", "2026-01-02", "--until", "2026-01-01"), 1, "no span of time"),
        (("--plot", str(tmp_path / "no" / "p.png")), 1, "No such file"),
        (("--plot", str(tmp_path / "p.doc")), 1, "not supported"),
    ):
        found = stats(counted, capfd, *options)
        assert found[0] == status and text in found[2], found
