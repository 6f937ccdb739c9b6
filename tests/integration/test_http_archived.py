"""Routes of the archive and of pushing: search, statistics, registrations, pushes and what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration.test_http_calls import make_group
from tests.integration.test_olap import server_of
from tests.system import LAYOUTS, running, topology_text
from tests.waiting import wait_until
from tests.web import Web

User = Callable[[], str]
PACKAGE = "org.example"
APP = {"push.app.main": {"package": PACKAGE}, "push.app.main.log": {}}


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with running(topology_text(tables=APP)) as system:
        yield Web(system.http(), system.first_key)


def span() -> str:
    clock = int(time.time() * 1000)
    return f"since={clock - 3_600_000}&until={clock + 1}"


def test_messages_are_found_by_who_may_see_them(web: Web, user: User) -> None:
    alice, bob, carol = user(), user(), user()
    group = make_group(web, alice, bob)
    texts = ["Lunch at one, 北京 烤鸭", "no lunch today", "LUNCH?"]
    for text in texts:
        assert web.post("/v1/messages", {"from": alice, "to": bob, "content": text}).status == 201
    assert web.post("/v1/messages", {"from": alice, "group": group, "content": "lunch for all"}).status == 201

    def found(who: str, query: str) -> list[str]:
        reply = web.get(f"/v1/users/{who}/search?{query}")
        assert reply.status == 200, reply
        return [m["content"] for m in reply.json["messages"]]

    wait_until(lambda: len(found(bob, "q=lunch")) == 4, "all to be found")
    assert found(bob, "q=lunch") == ["lunch for all", *texts[::-1]]
    assert found(bob, "q=%E7%83%A4%E9%B8%AD+lunch") == texts[:1]  # 烤鸭
    assert found(carol, "q=lunch") == []
    assert found(bob, f"q=lunch&session={group}&sender={alice}") == ["lunch for all"]
    first = web.get(f"/v1/users/{bob}/search?q=lunch&limit=3").json
    assert len(first["messages"]) == 3 and found(bob, f"q=lunch&limit=3&cursor={first['next']}") == texts[:1]
    assert web.get(f"/v1/users/{carol}/search?q=lunch&session={group}").status == 403
    assert web.get(f"/v1/users/{bob}/search?q=lunch&cursor=x").status == 422
    assert web.get(f"/v1/users/{bob}/search").json["error"]["details"]["field"] == "q"


def test_what_was_sent_is_counted(web: Web, user: User) -> None:
    alice, bob = user(), user()
    group = make_group(web, alice, bob)
    for _ in range(3):
        assert web.post("/v1/messages", {"from": alice, "group": group, "content": "x"}).status == 201

    def total(path: str) -> int:
        reply = web.get(f"{path}?{span()}&by=hour")
        assert reply.status == 200, reply
        return sum(bucket["messages"] for bucket in reply.json["buckets"])

    wait_until(lambda: total(f"/v1/users/{alice}/statistics") == 3, "the messages to be counted")
    assert total(f"/v1/groups/{group}/statistics") == 3 and total(f"/v1/users/{bob}/statistics") == 0
    (kinds,) = [b["kinds"] for b in web.get(f"/v1/users/{alice}/statistics?{span()}").json["buckets"] if b["messages"]]
    assert kinds == {"single": 0, "group": 3}
    assert sum(b["users"] for b in web.get(f"/v1/groups/{group}/statistics?{span()}").json["buckets"]) == 1
    assert web.get(f"/v1/statistics/active-users?{span()}").json["users"] >= 1
    everything = web.get(f"/v1/statistics?{span()}&by=day").json["buckets"]
    assert sum(b["kinds"].get("group", 0) for b in everything) >= 3 and everything[-1]["users"] >= 1
    ranking = web.get(f"/v1/statistics/top-groups?{span()}&limit=1000").json["ranking"]
    assert {"id": group, "messages": 3} in ranking
    assert {"id": alice, "messages": 3} in web.get(f"/v1/statistics/top-users?{span()}").json["ranking"]
    assert web.get("/v1/statistics?since=5000&until=4000").status == 422
    assert web.get("/v1/statistics?since=5&until=9&by=week").json["error"]["details"]["field"] == "by"


def test_a_device_is_registered_pushed_to_and_unregistered(web: Web, user: User) -> None:
    alice = user()
    body = {"service": "log", "package": PACKAGE, "token": "t0", "device_id": "phone", "quiet_hours": "22:00-07:00"}
    path = f"/v1/users/{alice}/push/registrations"
    assert web.post(path, body).status == 201
    (row,) = web.get(path).json["registrations"]
    assert {row[k] for k in ("service", "package", "device_id", "quiet_hours")} == {
        "log", PACKAGE, "phone", "22:00-07:00",
    }  # fmt: skip
    assert "token" not in row
    hello = {"title": "Hello", "badge": 3, "extra": {"order": 7}}
    assert web.post(f"/v1/users/{alice}/push", hello).json == {"devices": 1}

    def outcomes() -> list[str]:
        records = web.get("/v1/push/records?app=main&vendor=log").json["records"]
        return [r["outcome"] for r in records if r["user"] == alice]

    wait_until(lambda: outcomes() == ["accepted"], "the push to be done")
    assert web.post(path, {**body, "package": "com.unknown"}).status == 422
    assert web.post(path, {**body, "quiet_hours": "late"}).json["error"]["details"]["field"] == "quiet_hours"
    assert web.get("/v1/push/records?app=nothing&vendor=log").status == 422
    assert web.ask("DELETE", f"{path}?service=apns").json == {"removed": 0}
    assert web.ask("DELETE", f"{path}?device_id=phone").json == {"removed": 1}
    assert web.get(path).json["registrations"] == []
    assert web.post(f"/v1/users/{alice}/push", {}).json == {"devices": 0}


def test_a_system_without_these_nodes_says_so() -> None:
    groups = {name: [n for n in nodes if n not in ("olap", "push")] for name, nodes in LAYOUTS["default"].items()}
    with running(topology_text({name: nodes for name, nodes in groups.items() if nodes})) as system:
        web = Web(system.http(), system.first_key)
        for path in ("/v1/users/a/search?q=x", f"/v1/statistics?{span()}", "/v1/push/records?app=a&vendor=log"):
            reply = web.get(path)
            assert (reply.status, reply.error) == (503, "unavailable"), reply
            assert "has no node" in reply.json["error"]["message"]
        reply = web.get("/v1/events")
        assert (reply.status, "record in [hooks]" in reply.json["error"]["message"]) == (503, True)
        assert not server_of(system).keys("imesh:events*")  # its node hooks does nothing
        assert "nobody is told" in system.run("webhook", "list").stderr
