"""What calls of the HTTP API do, seen by clients: messages arrive, repeats are done once, users are cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from packs import structs as s
from packs import table as t
from packs.codes import Code
from packs.flags import COUNTER, HIGH_PRIORITY
from store.address import parse_url
from store.client import wait_until_ready
from store.connect import connect
from store.scripts import ALL
from tests.raw import Raw, code, decode
from tests.system import System, running, topology_text
from tests.web import Web

User = Callable[[], str]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running(topology_text("split")) as found, found.unharmed():
        yield found


@pytest.fixture(scope="module")
def web(system: System) -> Web:
    return Web(system.http(), system.first_key)


def pushed(raw: Raw, pack_type: int) -> Any:
    """The payload of the next pushed pack of this type; others are passed over."""
    while True:
        pack = raw.pack()
        if pack.type == pack_type:
            return decode(pack)


def make_group(web: Web, owner: str, *members: str) -> str:
    reply = web.post("/v1/groups", {"owner": owner, "name": "g", "members": list(members)})
    assert reply.status == 201, reply
    found: str = reply.json["group_id"]
    return found


# ---- messages


def test_messages_arrive_as_those_of_clients_do(system: System, web: Web, user: User) -> None:
    alice, bob, app = user(), user(), user()
    at_bob, at_alice = system.client(bob), system.client(alice)
    body = {"from": alice, "to": bob, "content": "hi", "content_type": 7, "high_priority": True}
    reply = web.post("/v1/messages", body)
    assert reply.status == 201
    pack = at_bob.pack()
    message = decode(pack)
    assert (message.sender, message.content, message.content_type) == (alice, "hi", 7)
    assert (message.seq_id, message.session_id) == (reply.json["seq_id"], reply.json["session_id"])
    assert pack.pack_id == reply.json["id"] and pack.flags & COUNTER and pack.flags & HIGH_PRIORITY
    assert pushed(at_alice, t.MSG_SINGLE_CHAT).content == "hi"  # his own devices hear of it, too
    reply = web.post("/v1/messages", {"app": app, "to": bob, "content": "notice", "unread": False})
    assert reply.json["session_id"] == f"BM_{app}_{bob}"
    assert pushed(at_bob, t.MSG_BIZ_NOTIFY).content == "notice"
    group = make_group(web, alice, bob)
    assert web.post("/v1/messages", {"from": alice, "group": group, "content": "all"}).status == 201
    assert pushed(at_bob, t.MSG_GROUP_CHAT).content == "all"
    reply = web.post("/v1/messages", {"from": user(), "group": group, "content": "stranger"})
    assert (reply.status, reply.error) == (403, "not_group_member")
    assert reply.json["error"]["details"]["number"] == Code.NOT_GROUP_MEMBER


def test_a_batch_has_a_result_for_each_and_keeps_order(web: Web, user: User) -> None:
    alice, bob, cat = user(), user(), user()
    messages = [{"from": alice, "to": (bob, cat)[n % 2], "content": str(n)} for n in range(1000)]
    messages[500] = {"from": alice, "group": "GC_0000", "content": "no such group"}
    reply = web.post("/v1/messages/batch", {"messages": messages})
    assert reply.status == 200
    results = reply.json["results"]
    assert [r["status"] for r in results] == [201] * 500 + [404] + [201] * 499
    assert results[500]["error"]["code"] == "group_not_found" and "message" not in results[500]
    for other, rest in ((bob, 0), (cat, 1)):
        numbers = [r["message"]["seq_id"] for n, r in enumerate(results) if n % 2 == rest and n != 500]
        assert numbers == sorted(set(numbers))
        page = web.get(f"/v1/users/{other}/sessions/SC_{'_'.join(sorted((alice, other)))}/messages?limit=200").json
        newest = [n for n in range(999, 0, -1) if n % 2 == rest and n != 500]
        assert [m["content"] for m in page["messages"]] == [str(n) for n in newest[:200]]
    for most in ([], [messages[0]] * 1001):
        assert web.post("/v1/messages/batch", {"messages": most}).json["error"]["details"]["field"] == "messages"


def test_a_repeat_with_the_same_key_is_done_once(web: Web, user: User) -> None:
    alice, bob = user(), user()
    body = {"messages": [{"from": alice, "to": bob, "content": str(n)} for n in range(5)]}
    first = web.post("/v1/messages/batch", body, Idempotency_Key=f"k-{alice}")
    again = web.post("/v1/messages/batch", body, Idempotency_Key=f"k-{alice}")
    assert again.body == first.body and again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    session = first.json["results"][0]["message"]["session_id"]
    page = web.get(f"/v1/users/{bob}/sessions/{session}/messages").json
    assert len(page["messages"]) == 5 and page["next"] == ""
    other = web.post("/v1/messages/batch", {"messages": body["messages"][:1]}, Idempotency_Key=f"k-{alice}")
    assert (other.status, other.error) == (409, "idempotency_conflict")
    other = web.post("/v1/messages", body["messages"][0], Idempotency_Key=f"k-{alice}")
    assert (other.status, other.error) == (409, "idempotency_conflict")
    refusal = {"from": alice, "group": "GC_0000", "content": "x"}
    one, two = (web.post("/v1/messages", refusal, Idempotency_Key=f"no-{alice}") for _ in range(2))
    assert one.status == two.status == 404 and one.body == two.body  # the request's id is that of the first, too
    for bad in ("", "a b", "x" * 129, "ä"):
        reply = web.post("/v1/messages", refusal, Idempotency_Key=bad)
        assert (reply.status, reply.json["error"]["details"]["field"]) == (400, "Idempotency-Key"), bad


def test_what_a_lost_answer_may_have_done_is_done_once(web: Web, system: System, user: User) -> None:
    """As after a crash: done, but no answer kept. A repeat finds it done and says so."""
    alice, bob, cat = user(), user(), user()
    redis = connect(parse_url(f"unix://{system.data}/run/redis.sock"), ALL)
    wait_until_ready(redis, 10)

    def twice(method: str, path: str, body: Any = None) -> Any:
        key = f"{alice}-{method}-{path}"[:100].replace(" ", "")
        first = web.ask(method, path, body, Idempotency_Key=key)
        for record in redis.ask("KEYS", "imesh:api:r:*"):
            redis.ask("HDEL", record, "a")
        second = web.ask(method, path, body, Idempotency_Key=key)
        assert "idempotency-replayed" not in second.headers
        assert (second.status, second.json) == (first.status, first.json), (method, path)
        assert first.status < 300, first
        return second.json

    sent = twice("POST", "/v1/messages", {"from": alice, "to": bob, "content": "once"})
    notice = twice("POST", "/v1/messages/broadcast", {"app": cat, "to": [alice, bob], "content": "once"})
    assert len({r["message"]["session_id"] for r in notice["results"]}) == 2
    page = web.get(f"/v1/users/{bob}/sessions/{sent['session_id']}/messages").json["messages"]
    assert [m["content"] for m in page] == ["once"]
    group = twice("POST", "/v1/groups", {"owner": alice, "name": "g"})["group_id"]
    assert web.get(f"/v1/users/{alice}/groups").json == {"group_ids": [group]}
    twice("POST", f"/v1/groups/{group}/members", {"users": [bob, cat]})
    twice("DELETE", f"/v1/groups/{group}/members/{cat}")
    twice("PUT", f"/v1/groups/{group}/owner", {"user_id": bob})
    assert web.get(f"/v1/groups/{group}").json["owner"] == bob
    twice("DELETE", f"/v1/groups/{group}")
    at = f"/v1/sessions/{sent['session_id']}/messages/{sent['seq_id']}"
    twice("PUT", f"{at}/content", {"operator": alice, "content": "other"})
    twice("POST", f"{at}/revoke", {"operator": alice})
    twice("DELETE", f"{at}?operator={alice}")
    twice("POST", f"/v1/users/{alice}/friends", {"friends": [{"user_id": bob}]})
    twice("DELETE", f"/v1/users/{alice}/friends/{bob}")
    twice("POST", "/v1/users", {"user_id": user(), "profile": {"name": "n"}})
    redis.close()


def test_messages_are_changed_by_those_who_may(system: System, web: Web, user: User) -> None:
    alice, bob = user(), user()
    sent = [web.post("/v1/messages", {"from": alice, "to": bob, "content": f"m{n}"}).json for n in range(3)]
    session = sent[0]["session_id"]
    at_bob = system.client(bob)
    path = f"/v1/sessions/{session}/messages/"
    assert web.post(f"{path}{sent[0]['seq_id']}/revoke", {"operator": bob}).status == 403
    assert web.post(f"{path}{sent[0]['seq_id']}/revoke", {"operator": alice}).json == {"done": True}
    assert pushed(at_bob, t.MSG_CTRL).seq_id == sent[0]["seq_id"]
    body = {"operator": alice, "content": "new"}
    assert web.ask("PUT", f"{path}{sent[1]['seq_id']}/content", body).status == 200
    assert web.ask("DELETE", f"{path}{sent[2]['seq_id']}?operator={alice}").status == 200
    assert web.ask("DELETE", f"{path}{sent[2]['seq_id']}?operator={alice}").status == 404
    rows = web.get(f"/v1/users/{bob}/sessions/{session}/messages").json["messages"]
    shown = [(m["seq_id"], m["content"], m["revoked"], m["overridden"]) for m in rows]
    assert shown == [(sent[1]["seq_id"], "new", False, True), (sent[0]["seq_id"], "", True, False)]
    stranger = user()
    assert web.get(f"/v1/users/{stranger}/sessions/{session}/messages").status == 403
    assert web.post(f"{path}{sent[1]['seq_id']}/revoke", {"operator": stranger}).status == 403


# ---- sessions, friends, groups, users


def test_sessions_unread_and_pages(web: Web, user: User) -> None:
    alice, others = user(), [user() for _ in range(3)]
    for other in others:
        for n in range(3):
            web.post("/v1/messages", {"from": other, "to": alice, "content": str(n)})
    found = web.get(f"/v1/users/{alice}/sessions").json
    assert [row["unread"] for row in found["sessions"]] == [3, 3, 3] and found["next"] == ""
    assert [row["newest"]["from"] for row in found["sessions"]] == others
    assert web.get(f"/v1/users/{alice}/unread").json == {"unread": 9, "sessions": 3, "complete": True}
    session = found["sessions"][0]["session_id"]
    pages, cursor = [], ""
    while True:
        page = web.get(f"/v1/users/{alice}/sessions/{session}/messages?limit=2&cursor={cursor}").json
        pages.append([m["content"] for m in page["messages"]])
        cursor = page["next"]
        if not cursor:
            break
    assert pages == [["2", "1"], ["0"]]
    newest = found["sessions"][0]["newest"]["seq_id"]
    assert web.ask("PUT", f"/v1/users/{alice}/sessions/{session}/read", {"seq_id": newest}).status == 200
    assert web.get(f"/v1/users/{alice}/unread").json["unread"] == 6


def test_friends_and_pages(web: Web, user: User) -> None:
    alice, others = user(), sorted(user() for _ in range(5))
    friends = [{"user_id": other, "remark": f"r{other}"} for other in others]
    reply = web.post(f"/v1/users/{alice}/friends", {"friends": [*friends, {"user_id": alice}]})
    assert [r["status"] for r in reply.json["results"]] == [200] * 5 + [422]
    first = web.get(f"/v1/users/{alice}/friends?limit=3").json
    rest = web.get(f"/v1/users/{alice}/friends?limit=3&cursor={first['next']}").json
    assert [*first["friends"], *rest["friends"]] == friends and rest["next"] == ""
    assert web.get(f"/v1/users/{others[0]}/friends").json["friends"][0]["user_id"] == alice
    assert web.ask("DELETE", f"/v1/users/{alice}/friends/{others[0]}").status == 200
    assert web.get(f"/v1/users/{others[0]}/friends").json["friends"] == []


def test_groups_by_owner_and_operators(web: Web, user: User) -> None:
    alice, bob, cat = user(), user(), user()
    group = make_group(web, alice, bob)
    at = f"/v1/groups/{group}"
    assert web.ask("PATCH", at, {"operator": bob, "name": "no"}).status == 403
    assert web.ask("PATCH", at, {"name": "yes", "desc": "d"}).status == 200
    shown = web.get(at).json
    assert (shown["name"], shown["desc"], shown["owner"]) == ("yes", "d", alice)
    assert web.post(f"{at}/members", {"users": [cat], "operator": cat}).status == 403
    assert web.post(f"{at}/members", {"users": [cat], "operator": bob}).status == 200
    first = web.get(f"{at}/members?limit=2").json
    rest = web.get(f"{at}/members?limit=2&cursor={first['next']}").json
    assert first["members"] + rest["members"] == sorted((alice, bob, cat)) and rest["next"] == ""
    assert web.ask("DELETE", f"{at}/members/{alice}").status == 403  # the owner cannot be removed
    assert web.ask("DELETE", f"{at}/members/{cat}?operator={cat}").status == 200
    assert web.ask("PUT", f"{at}/owner", {"user_id": cat}).status == 403
    assert web.ask("PUT", f"{at}/owner", {"user_id": bob}).status == 200
    assert web.ask("DELETE", f"{at}?operator={alice}").status == 403
    assert web.ask("DELETE", at).status == 200
    assert web.get(at).status == 404


def test_presence_devices_sync_and_kick(system: System, web: Web, user: User) -> None:
    alice, bob = user(), user()
    raw = system.client(alice, device_type=1, device_id="phone")
    shown = web.post("/v1/presence/query", {"users": [alice, bob]}).json["presences"]
    assert [(p["online"], p["device_types"]) for p in shown] == [(True, [1]), (False, [])]
    (device,) = web.get(f"/v1/users/{alice}/devices").json["devices"]
    assert (device["type"], device["id"], device["online"]) == (1, "phone", True)
    assert web.post("/v1/sync", {"users": [alice, bob], "command": 100, "content": "prices"}).status == 202
    told = pushed(raw, t.SYNC_DATA_CMD)
    assert (told.command, told.content) == (100, "prices")
    assert web.post(f"/v1/users/{alice}/kick", {}).json == {"done": True}
    assert t.KICKOUT in [pack.type for pack in raw.rest()]
    assert web.post(f"/v1/users/{bob}/kick", {}).json == {"done": False}


# ---- the routes of old


def test_the_classic_routes(system: System, web: Web, user: User) -> None:
    alice, bob, app = user(), user(), user()
    at_bob = system.client(bob)

    def post(path: str, **body: Any) -> Any:
        reply = web.ask(
            "POST", path, raw=json.dumps({"traceId": f"{alice}{path}", **body}).encode(), Content_Type="x/y"
        )
        assert (reply.status == 200) == reply.json["success"] == (reply.json["code"] == 0), reply
        return reply.json

    simple = {"appId": app, "from": app, "to": bob, "content": "simple", "sessionId": f"BM_{app}_{bob}"}
    for _ in range(2):  # stored once
        assert post("/msg/sendsimplemsg", **simple)["success"]
    assert pushed(at_bob, t.MSG_BIZ_NOTIFY).content == "simple"
    page = web.get(f"/v1/users/{bob}/sessions/BM_{app}_{bob}/messages").json
    assert len(page["messages"]) == 1
    failed = post("/msg/sendsimplemsg", **{**simple, "sessionId": "BM_x_y"})
    assert not failed["success"] and failed["error"]["code"] == "param"
    assert post("/msg/sendcomplexmsg", **{"type": 14, "from": alice, "to": bob, "content": "complex"})["success"]
    assert pushed(at_bob, t.MSG_SINGLE_CHAT).content == "complex"
    assert not post("/msg/sendcomplexmsg", **{"type": 15, "from": alice, "to": "GC_0", "content": "x"})["success"]
    assert post("/msg/sendsyncmsg", appId=app, users=[bob], command=7, content="c")["success"]
    assert pushed(at_bob, t.SYNC_DATA_CMD).command == 7
    assert post("/friend/add", userId=alice, friendId=bob)["success"]
    assert post("/friend/get", userId=alice)["data"] == [{"userId": alice, "friendId": bob}]
    assert post("/friend/del", userId=alice, friendId=bob)["success"]
    assert post("/friend/get", userId=alice)["data"] == []
    reply = web.post("/msg/sendsimplemsg", {"appId": app})
    assert (reply.status, reply.json["error"]["details"]["field"]) == (400, "traceId")


def test_clients_and_the_api_see_the_same(system: System, web: Web, user: User) -> None:
    alice, bob = user(), user()
    raw = system.client(alice)
    assert code(raw.text(bob, "from a client")) == 0
    session = f"SC_{'_'.join(sorted((alice, bob)))}"
    page = web.get(f"/v1/users/{bob}/sessions/{session}/messages").json["messages"]
    (seen,) = raw.history(session)
    assert (page[0]["content"], page[0]["seq_id"]) == (seen.content, seen.seq_id) == ("from a client", seen.seq_id)
    assert isinstance(seen, s.MsgReq)
