"""A user who is erased leaves nothing that he wrote, and nobody else loses anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from packs import structs as s
from packs import table as t
from packs.ids import single_session
from packs.structs_social import PushRegisterReq
from store.keys import Keys
from tests import groups, people
from tests.archives import cold_rows
from tests.controls import OVERRIDE, control, controlled, send
from tests.integration.test_olap import archive_of, server_of
from tests.integration.test_protocol_profiles import put, put_session, update
from tests.integration.test_search import search
from tests.mariadb import MariaDB
from tests.raw import Raw
from tests.system import System, running, topology_text
from tests.waiting import wait_until
from tests.web import Web

SECRET = "zanzibar"
"""In all that the user wrote."""
HOT = 30


@pytest.fixture(params=["embedded", "mariadb and a cluster"])
def stores(request: pytest.FixtureRequest) -> dict[str, str]:
    """Keys of [store]: where the data are."""
    if request.param == "embedded":
        return {}
    found: MariaDB = request.getfixturevalue("mariadb")
    return {"redis": request.getfixturevalue("cluster").url, "archive": found.make("erasure")}


@pytest.fixture
def system(stores: dict[str, str]) -> Iterator[System]:
    with running(topology_text(tables={"store": {"hot_messages": HOT, **stores}})) as made:
        yield made


def exported(system: System) -> str:
    done = system.run("export", "-")
    assert done.returncode == 0, done.stderr
    return done.stdout


def live(system: System, ann: Raw, ben: Raw, cat: Raw) -> dict[str, str]:
    """Ann writes everywhere, and has everything; the groups by name."""
    assert people.add(ann, "ben", remark=f"{SECRET} ben") == 0
    assert people.add(cat, "ann", remark="cat's word") == 0
    assert people.add(ben, "cat") == 0
    assert people.block(ann, "dan") == people.block(cat, "eve") == people.block(ben, "ann") == 0
    assert people.unblock(ben, "ann") == people.block(system.client("dan"), "ann") == 0
    assert update(ann, name=f"{SECRET} ann", mobile=f"{SECRET} 1") == 0
    assert put(ann, "cat", f"{SECRET}-name", f"{SECRET} value") == 0
    register = PushRegisterReq(service_type="log", token=f"{SECRET}-token")
    assert ann.ask(t.PUSH_REGISTER, register).code == 0
    found = {
        "owned": groups.create(ann, "cat", "ben"),
        "member": groups.create(ben, "ann", "cat"),
        "left": groups.create(ben, "ann", "cat"),
        "alone": groups.create(ann),
        "dismissed": groups.create(ben, "ann", "cat"),
    }
    for name, group in found.items():
        send(ann, group, f"{SECRET} in {name}")
        if name != "alone":
            send(ben, group, f"kept in {name}")
    assert groups.leave(ann, found["left"], "ann") == 0
    assert groups.dismiss(ben, found["dismissed"]) == 0
    changed = send(ann, "ben", f"{SECRET} first")
    assert control(ann, changed, OVERRIDE, f"{SECRET} changed") == 0
    assert control(ann, send(ann, found["member"], "x"), OVERRIDE, f"{SECRET} changed") == 0
    send(ben, "ann", "kept of ben")
    for i in range(HOT + 10):
        send(ann, "ben", f"{SECRET} {i}")
    send(ann, "ann", f"{SECRET} to herself")
    assert put_session(ann, single_session("ann", "ben"), f"{SECRET}-pin", f"{SECRET} pin") == 0
    system.call("chat.notify", "shop", "ann", "an order of hers", 1, 0, ["", "", ""], "n1")
    system.call("chat.notify", "shop", "ben", "an order of his", 1, 0, ["", "", ""], "n2")
    return found


def erase_and_see(system: System) -> None:
    """By the command, which says what there was."""
    asked = system.run("user", "erase", "ann")
    assert asked.returncode == 1 and "--yes" in asked.stderr
    done = system.run("user", "erase", "ann", "--yes", timeout=60)
    assert done.returncode == 0, done.stderr
    # 5 in groups, 1 more that was changed in one, 1 changed, the many, 1 to herself
    assert f"ann is erased: {HOT + 18} messages, 1 notices, 3 groups, 2 friends" in done.stdout, done.stdout


def erase_while_it_dies(system: System, web: Web) -> None:
    """Over HTTP, and whoever does it is killed."""
    begun = web.ask("DELETE", "/v1/users/ann")
    assert (begun.status, begun.json["state"]) == (202, "waiting")
    system.kill("cold-1")
    assert system.connect().login("ann").error_code.code != 0  # at once
    system.wait_serving()
    repeated = web.ask("DELETE", "/v1/users/ann")
    assert (repeated.status, repeated.json["started"]) == (202, begun.json["started"])
    assert wait_erased(web)["trouble"] == ""


def wait_erased(web: Web) -> dict[str, Any]:
    """Until it is done; what is said of it then."""

    def done() -> dict[str, Any] | None:
        found: dict[str, Any] = web.get("/v1/users/ann/erasure").json
        return found if found["state"] == "done" else None

    found = wait_until(done, "her to be erased", 40)
    assert found is not None
    return found


def contents(raw: Raw, session: str) -> list[str]:
    return [m.content for m in raw.history(session)]


@pytest.mark.seconds(120)
def test_an_erased_user_leaves_nothing_that_he_wrote(system: System, stores: dict[str, str]) -> None:
    ann, ben, cat = (system.client(name) for name in ("ann", "ben", "cat"))
    found = live(system, ann, ben, cat)
    session = single_session("ann", "ben")
    server, history = server_of(system), Keys(64).history(session)
    # one stays for a while because it was changed
    wait_until(lambda: server.zcard(history) <= HOT + 1, "the older ones to be in the archive only")
    wait_until(lambda: len(search(ben, SECRET)) > HOT, "her messages to be found")
    assert SECRET in exported(system) and "an order of hers" in exported(system)
    web = Web(system.http(), system.first_key)
    assert web.get("/v1/users/ann/erasure").error == "no_such_erasure"
    ben.take()

    if stores:
        erase_while_it_dies(system, web)
    else:
        erase_and_see(system)
    assert controlled(ben).operator_id == "ann"
    whole = exported(system)
    assert SECRET not in whole and "an order of hers" not in whole
    for word in ("kept of ben", *(f"kept in {name}" for name in found if name != "alone"), "an order of his"):
        assert word in whole
    assert not [key for key in server.scan_iter("*") if SECRET.encode() in dump(server, key)]
    wait_until(lambda: not search(ben, SECRET), "her messages to be found no more")
    assert contents(ben, session) == ["kept of ben"]
    for name in ("owned", "member", "left"):
        assert contents(cat, found[name]) == [f"kept in {name}"]
        assert groups.members(cat, found[name]) == ["ben", "cat"]
    assert {g.group_id: g.creator_id for g in groups.mine(cat).group_chats}[found["owned"]] in ("ben", "cat")
    assert people.friends(ben) == {"cat"} and people.friends(cat) == {"ben"}
    assert people.blocklist(cat) == ["eve"] and people.blocklist(system.client("dan")) == []
    assert ben.ask(t.USERINFO_GET, s.UserInfoGetReq(user_ids=["ann"])).user_infos[0].name == ""
    assert system.call("push.registrations", "ann") == []
    assert system.connect().login("ann").error_code.code != 0

    rows = cold_rows(archive_of(system), system.data)
    assert web.ask("DELETE", "/v1/users/ann").status == 202
    again = wait_erased(web)
    assert (again["messages"], again["notices"], again["groups"], again["friends"]) == (0, 0, 0, 0)
    assert 0 < again["messages_total"] == again["messages_seen"]
    assert cold_rows(archive_of(system), system.data) == rows
    assert people.friends(ben) == {"cat"} and contents(ben, session) == ["kept of ben"]


def dump(server: Any, key: bytes) -> bytes:
    """A key and all that it holds, streams apart: they are cut once all have read them."""
    kind = server.type(key)
    read = {
        b"string": lambda: server.get(key),
        b"hash": lambda: b"".join(part for pair in server.hgetall(key).items() for part in pair),
        b"set": lambda: b"".join(server.smembers(key)),
        b"zset": lambda: b"".join(server.zrange(key, 0, -1)),
    }
    return key + read[kind]() if kind in read else key
