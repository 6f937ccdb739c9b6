"""Groups: what a delivery costs, how large they may be, and what members' logins and syncs cost.

200 members online, 4 of them writing with a window of 4, everything stored and fsynced; logins of users with three
groups; syncs of 100 sessions, half of them groups, one after the other and 16 at a time; then groups of 10,000 and
100,000 members with 200 online, and one with 5,000 online.
"""

from __future__ import annotations

import os
import sys
import time

from bench import workloads
from bench.crowd import Crowd
from bench.dialects.imesh import ask
from bench.measure import CLIENT_CORES, Figures, Mark, Report, Rounds, pin, progress, table
from bench.running import LAYOUTS, OPEN_DOOR, Mesh, make_parser, parse
from bench.workloads import GROUP_WINDOW, ONLINE_WRITERS
from packs import structs as s
from packs import table as t
from packs.codec import decode_payload
from packs.connection import ClientConnection

ONLINE = 200
IDS_PER_REQUEST = 9_000
"""Ids in one request that adds members."""
LOAD = f"{ONLINE} online, {ONLINE_WRITERS} × {GROUP_WINDOW}"
SIZES = {"10,000 members, 200 online": (10_000, 200, 200.0), "100,000 members, 200 online": (100_000, 200, 200.0),
         "5,000 members, all online": (5_000, 5_000, 4.0)}  # fmt: skip
"""Members, online, messages per second."""
LOGINS, GROUPS_EACH = 1_000, 3
SESSIONS, SYNCS, AT_ONCE = 100, 320, (1, 16)
MOST_DELIVERY_US, MOST_LOGIN_US, MOST_SYNC_US = 5.0, 300.0, 1000.0


def main() -> int:
    parser = make_parser("group", "Groups of 200 to 100,000 members.", rounds=3, seconds=5.0, quick=(1, 2.0))
    parser.add_argument("--layout", choices=LAYOUTS, action="append", help="default: all; may be given several times")
    options = parse(parser)
    layouts = options.layout or list(LAYOUTS)  # type: ignore[attr-defined]
    pin(os.getpid(), CLIENT_CORES)
    workloads.allow_files()
    rounds = Rounds()
    for number in range(options.rounds):
        for layout in layouts:
            with Mesh(LAYOUTS[layout], OPEN_DOOR) as mesh:
                name = f"{layout}, {LOAD}"
                rounds.add(name, workloads.group(mesh, ONLINE, options.seconds))
                rounds.add(f"{layout}, logins", _logins(mesh))
                rounds.add(f"{layout}, syncs", _syncs(mesh))
            progress(f"round {number + 1}/{options.rounds}  {layout}: {rounds.text(name, 'us')} µs")
    for size, (members, online, rate) in SIZES.items():
        with Mesh(LAYOUTS[layouts[0]], OPEN_DOOR) as mesh:
            rounds.add(size, _large(mesh, members, online, rate, max(5.0, options.seconds)))
        progress(size)
    settings = {
        "rounds": f"{options.rounds} of {options.seconds:g} s each, a fresh system in each",
        "load": "64-byte texts; embedded Redis, appendfsync always",
    }
    report = Report("Groups", settings, rounds=rounds.figures)
    report.tables = _tables(rounds, layouts)
    report.marks = _marks(rounds, layouts)
    return report.publish(options.json)


def _large(mesh: Mesh, members: int, online: int, rate: float, seconds: float) -> Figures:
    mesh.dialect.connect(mesh.address(), ["first"])
    before = mesh.memory()
    crowd = Crowd(mesh.dialect, mesh.address(), "big", online)
    slowest = _join(crowd, members - online)
    after = mesh.memory()
    found = workloads.measured(mesh, lambda: crowd.open_loop(rate, seconds))
    crowd.close()
    return {
        **found, "join_s": slowest, "members": members,
        "redis_bytes": (after["redis"] - before["redis"]) / members,
        "python_bytes": sum(after[n] - before[n] for n in after if n not in ("redis", "launcher")) / online,
    }  # fmt: skip


def _join(crowd: Crowd, absent: int) -> float:
    """Add members who are not there; seconds of the slowest request."""
    owner, slowest = crowd.peers[0], 0.0
    owner.sock.setblocking(True)
    for i in range(0, absent, IDS_PER_REQUEST):
        begun = time.perf_counter()
        ids = [f"absent{n}" for n in range(i, min(absent, i + IDS_PER_REQUEST))]
        ask(owner.sock, t.GROUPCHAT_JOIN, s.GroupChatJoinQuitReq(group_id=crowd.group, member_ids=ids))
        slowest = max(slowest, time.perf_counter() - begun)
    owner.sock.setblocking(False)
    crowd.drain()
    return slowest


# ---- members' requests


def _logins(mesh: Mesh) -> Figures:
    users = [f"login{n}" for n in range(LOGINS)]
    owner = mesh.dialect.connect(mesh.address(), ["owner"])[0]
    for n in range(GROUPS_EACH):
        for i in range(0, LOGINS, 100):
            info = s.GroupChatInfo(name=f"g{n}")
            ask(owner.sock, t.GROUPCHAT_CREATE, s.GroupChatCreateReq(group_info=info, member_ids=users[i : i + 100]))
    clock = mesh.clock()
    peers = mesh.dialect.connect(mesh.address(), users)
    _, used, _ = clock.stop()
    for peer in peers:
        peer.sock.close()
    return {"us": sum(used.values()) / LOGINS}


def _syncs(mesh: Mesh) -> Figures:
    sock = mesh.dialect.connect(mesh.address(), ["reader"])[0].sock
    for n in range(SESSIONS // 2):
        made = ask(sock, t.GROUPCHAT_CREATE, s.GroupChatCreateReq(group_info=s.GroupChatInfo(name="g"), member_ids=[]))
        ask(sock, t.MSG_GROUP_CHAT, s.MsgReq(to=made.group_id, content="x" * 64))
        ask(sock, t.MSG_SINGLE_CHAT, s.MsgReq(to=f"friend{n}", content="x" * 64))
    time.sleep(2.0)  # stamps rest
    return {f"us{at_once}": _sync_us(mesh, sock, at_once) for at_once in AT_ONCE}


def _sync_us(mesh: Mesh, sock, at_once: int) -> float:  # type: ignore[no-untyped-def]
    machine = ClientConnection()
    request = s.HotSessionReq(timestamp=0)
    clock = mesh.clock()
    for n in range(SYNCS // at_once):
        requests = [machine.request(t.HOTSESSION_SYNC, request, f"{n}-{i}") for i in range(at_once)]
        sock.sendall(b"".join(requests))
        packs = []
        while len(packs) < at_once:
            packs += machine.receive(sock.recv(1 << 20))
        assert all(len(decode_payload(s.HotSessionResp, pack.payload).sessions) == SESSIONS for pack in packs)
    _, used, _ = clock.stop()
    return sum(used.values()) / (SYNCS // at_once * at_once)


# ---- the report


def _tables(rounds: Rounds, layouts: list[str]) -> dict[str, str]:
    heads = ["load", "CPU µs per delivery", "per message", "of it Redis", "deliveries/s", "p50 ms", "p99 ms",
             "generator"]  # fmt: skip
    rows = []
    for key in (*(f"{layout}, {LOAD}" for layout in layouts), *SIZES):
        rows.append([
            key, rounds.text(key, "us", 2), rounds.text(key, "message_us", 0), rounds.text(key, "message_store_us", 0),
            rounds.text(key, "rate", 0), rounds.text(key, "p50_ms", 1), rounds.text(key, "p99_ms", 1),
            f"{rounds.of(key, 'generator').median:.0%} of a core",
        ])  # fmt: skip
    others = []
    for layout in layouts:
        others.append([f"{layout}, login with {GROUPS_EACH} groups, CPU µs", rounds.text(f"{layout}, logins", "us", 0)])
        for at_once in AT_ONCE:
            name = f"{layout}, sync of {SESSIONS} sessions, {at_once} at a time, CPU µs"
            others.append([name, rounds.text(f"{layout}, syncs", f"us{at_once}", 0)])
    for size in SIZES:
        others.append([f"{size}: slowest request to add 9,000, s", rounds.text(size, "join_s", 2)])
        others.append([f"{size}: bytes of Redis per member", rounds.text(size, "redis_bytes", 0)])
    return {"Messages": table(heads, rows), "Other": table(["what", "found"], others)}


def _marks(rounds: Rounds, layouts: list[str]) -> list[Mark]:
    first = layouts[0]
    delivery = rounds.of(f"{first}, {LOAD}", "us").median
    sync = rounds.of(f"{first}, syncs", f"us{AT_ONCE[-1]}").median
    return [
        Mark.at_most("lost, doubled, disordered or refused", rounds.total("wrong"), 0, ""),
        Mark.at_most(f"{first}, a delivery", delivery, MOST_DELIVERY_US, "µs"),
        Mark.at_most(f"{first}, a login", rounds.of(f"{first}, logins", "us").median, MOST_LOGIN_US, "µs"),
        Mark.at_most(f"{first}, a sync of {SESSIONS} sessions", sync, MOST_SYNC_US, "µs"),
    ]


if __name__ == "__main__":
    sys.exit(main())
