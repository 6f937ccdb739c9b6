"""Webhooks on a real system: what is told, what is asked, and that nothing is lost when somebody is away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from packs import structs as s
from packs import table as t
from packs.codes import Code
from packs.flags import COUNTER, DUP
from tests.phones import phones
from tests.raw import code
from tests.receiver import FAILS, HANGS, TAKES, Receiver, Sent
from tests.system import COLD, LAYOUTS, System, running, topology_text
from tests.waiting import wait_until
from tests.web import Web

User = Callable[[], str]
LAYOUT = {**LAYOUTS["default"], "cold": COLD, "hooks": ["hooks"]}


def topology(receiver: Receiver, on_failure: str, **endpoint: Any) -> str:
    tables = {
        "hooks.endpoint.all": {"url": f"{receiver.url}/all", "private": True, "timeout": 1.0, **endpoint},
        "hooks.endpoint.reads": {"url": f"{receiver.url}/reads", "private": True, "events": ["message.read"]},
        "hooks.before_send": {
            "url": f"{receiver.url}/ask", "private": True, "timeout": 0.6, "on_failure": on_failure,
        },
    }  # fmt: skip
    return topology_text(LAYOUT, tables=tables)


def learn_secrets(system: System, receiver: Receiver) -> None:
    for path, name in (("/all", "all"), ("/reads", "reads"), ("/ask", "message.before_send")):
        done = system.run("webhook", "secret", name)
        assert done.returncode == 0, done.stderr
        receiver.secrets[path] = done.stdout.strip()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.go()


@pytest.fixture(scope="module")
def system(receiver: Receiver) -> Iterator[System]:
    with running(topology(receiver, "allow")) as found, found.unharmed():
        learn_secrets(found, receiver)
        yield found
    assert not receiver.forged


@pytest.fixture(autouse=True)
def as_usual(receiver: Receiver) -> Iterator[None]:
    yield
    receiver.mode = TAKES
    receiver.decide = lambda data: None


def session_of(a: str, b: str) -> str:
    return f"SC_{'_'.join(sorted((a, b)))}"


# ---- told


def test_what_happens_is_told(system: System, receiver: Receiver, user: User) -> None:
    alice, bob = user(), user()
    at_alice = system.client(alice)
    ack = at_alice.text(bob, "hello", pack_id=f"hello-{alice}")
    session = ack.session_id
    at_alice.ask(t.MSG_CTRL, s.MsgControl(command=1, session_id=session, pack_id=f"hello-{alice}", seq_id=ack.seq_id))
    at_bob = system.client(bob)
    assert code(at_bob.ask(t.MSG_READ, s.MsgReaded(session_id=session, seq_id=ack.seq_id))) == 0
    group = at_alice.ask(
        t.GROUPCHAT_CREATE, s.GroupChatCreateReq(group_info=s.GroupChatInfo(name="g"), member_ids=[bob])
    )
    join = s.GroupChatJoinQuitReq(group_id=group.group_id, member_ids=["eve"])
    at_alice.ask(t.GROUPCHAT_JOIN, join)
    at_alice.ask(t.GROUPCHAT_DISMISS, s.GroupChatDismissReq(group_id=group.group_id))
    at_bob.close()

    def told(type_: str, **data: Any) -> list[dict[str, Any]]:
        return [e["data"] for e in receiver.of(type_) if data.items() <= e["data"].items()]

    def all_told() -> bool:  # each session, group and user has an order of its own
        changes = told("group.changed", group_id=group.group_id)
        others = (told("message.read", user_id=bob), told("message.changed", session_id=session))
        return bool(told("user.offline", user_id=bob) and all(others) and len(changes) >= 3)

    wait_until(all_told, "all to be told", 15)
    (sent,) = told("message.sent", session_id=session)
    assert (sent["from"], sent["to"], sent["content"], sent["kind"]) == (alice, bob, "hello", "single")
    assert (sent["seq_id"], sent["id"]) == (ack.seq_id, f"hello-{alice}")
    (changed,) = told("message.changed", session_id=session)
    assert (changed["revoked"], changed["deleted"], changed["operator"]) == (True, False, alice)
    assert told("message.read", user_id=bob) == [{"session_id": session, "user_id": bob, "seq_id": ack.seq_id}]
    assert [c["change"] for c in told("group.changed", group_id=group.group_id)] == ["created", "joined", "dismissed"]
    assert told("user.online", user_id=alice) == [{"user_id": alice, "device_type": 5}]
    web = Web(system.http(), system.first_key)
    found, after = [], ""
    while page := web.get(f"/v1/events?limit=7&after={after}").json["events"]:
        found += page
        after = page[-1]["at"]
    known = {e["id"]: e for e in receiver.taken}
    assert [e["type"] for e in found if e["data"].get("session_id") == session] == [
        "message.sent", "message.changed", "message.read",
    ]  # fmt: skip
    assert all(known[e["id"]]["data"] == e["data"] for e in found if e["id"] in known) and len(known) > 5
    assert web.get(f"/v1/events?after={after}").json == {"events": [], "next": after}
    assert web.get("/v1/events?after=x").status == 422


def test_the_command_line(system: System, receiver: Receiver) -> None:
    done = system.run("webhook", "test", "reads")
    assert done.returncode == 0 and "was taken" in done.stdout
    assert system.run("webhook", "test", "message.before_send").returncode == 0
    assert receiver.taken[-1]["type"] == "webhook.test"
    listed = system.run("webhook", "list").stdout
    assert f"reads  {receiver.url}/reads  message.read: well, 0 under way" in listed
    receiver.mode = FAILS
    done = system.run("webhook", "test", "all")
    assert done.returncode == 1 and "it answered 500" in done.stderr
    done = system.run("webhook", "test", "nobody")
    assert done.returncode == 1 and "there are: all, reads, message.before_send" in done.stderr


# ---- asked


def test_messages_are_allowed_changed_and_refused(system: System, receiver: Receiver, user: User) -> None:
    alice, bob = user(), user()
    answers = {
        "good": None, "rude": {"action": "change", "content": "****"},
        "bad": {"action": "refuse", "reason": "not here"}, "odd": {"action": "eat"}, "long": {
            "action": "change", "content": "x" * 60_000,
        },
    }  # fmt: skip
    receiver.decide = lambda data: answers.get(data["content"])
    raw = system.client(alice)
    for content in ("good", "rude", "odd"):
        assert code(raw.text(bob, content)) == 0
    refused = raw.text(bob, "bad")
    assert (code(refused), refused.error_code.desc) == (Code.MSG_FORBIDDEN, "not here")
    assert [m.content for m in raw.history(session_of(alice, bob))] == ["odd", "****", "good"]
    web = Web(system.http(), system.first_key)
    reply = web.post("/v1/messages", {"app": user(), "to": bob, "content": "bad"})
    assert (reply.status, reply.error) == (403, "msg_forbidden")
    group = web.post("/v1/groups", {"owner": alice, "name": "g"}).json["group_id"]
    assert web.post("/v1/messages", {"from": alice, "group": group, "content": "rude"}).status == 201
    page = web.get(f"/v1/users/{alice}/sessions/{group}/messages").json["messages"]
    assert [m["content"] for m in page] == ["****"]
    asked = [data for data in receiver.asked if data.get("session_id") == group]
    assert [(a["from"], a["to"], a["kind"], a["content"]) for a in asked] == [(alice, group, "group", "rude")]


def test_a_message_that_is_sent_again_is_not_judged_again(system: System, receiver: Receiver, user: User) -> None:
    alice, bob = user(), user()
    receiver.decide = lambda data: {"action": "change", "content": f"changed {time.time_ns()}"}
    raw = system.client(alice)
    pack_id = f"again-{alice}"
    first = raw.text(bob, "x", pack_id=pack_id)
    receiver.decide = lambda data: {"action": "refuse"}
    again = raw.text(bob, "x", pack_id=pack_id, flags=COUNTER | DUP)
    assert (code(again), again.seq_id) == (Code.MSG_REPEATED, first.seq_id)
    assert len([a for a in receiver.asked if a.get("session_id") == first.session_id]) == 1
    assert code(raw.text(bob, "y", pack_id=pack_id)) != 0  # another message


def test_while_one_is_asked_its_session_waits_and_others_do_not(system: System, receiver: Receiver, user: User) -> None:
    alice, bob, cat = user(), user(), user()
    held = gevent.event.Event()
    receiver.decide = lambda data: held.wait(5) and None if data["content"] == "slow" else None
    raw = system.client(alice)
    slow = raw.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content="slow", content_type=1))
    behind = raw.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content="behind", content_type=1))
    assert code(raw.text(cat, "other")) == 0  # answered before the two
    assert not {slow, behind} & {pack.pack_id for pack in raw.take()}
    held.set()
    assert code(raw.answer(slow)) == code(raw.answer(behind)) == 0
    assert [m.content for m in raw.history(session_of(alice, bob))] == ["behind", "slow"]


def test_without_an_answer_it_is_allowed_where_that_is_set(system: System, receiver: Receiver, user: User) -> None:
    alice, bob = user(), user()
    raw = system.client(alice)
    for mode in (HANGS, FAILS):
        receiver.mode = mode
        assert code(raw.text(bob, mode)) == 0
    assert [m.content for m in raw.history(session_of(alice, bob))] == [FAILS, HANGS]


# ---- away


@pytest.mark.seconds(150)
def test_a_receiver_that_fails_hangs_and_comes_back_loses_no_event(user: User) -> None:
    receiver = Receiver()
    with running(topology(receiver, "refuse")) as system:
        learn_secrets(system, receiver)
        sent = Sent(Web(system.http(), system.first_key), receiver)
        sent.send(5)
        sent.wait_told("the first to be told")
        receiver.mode = HANGS
        assert code(system.client("a0").text("b0", "nobody can say")) == Code.REFUSED
        receiver.mode = TAKES
        for trouble in (FAILS, HANGS, "gone", "killed"):
            tries = receiver.tries
            if trouble == "killed":
                os.kill(system.pid("hooks-1"), signal.SIGKILL)
                system.wait_serving()
            elif trouble != "gone":
                receiver.telling = trouble
            sent.send(4)
            if trouble == "gone":
                receiver.go()
                system.client(user())  # an event while nobody is there
                wait_until(lambda: "refused" in system.run("webhook", "list").stdout, "it to be missed")
                receiver.come()
            wait_until(lambda n=tries: receiver.tries > n, "it to be tried")  # type: ignore[misc]
            receiver.telling = TAKES
            sent.wait_told(f"all to be told after: {trouble}")
        assert not receiver.forged
        assert {e["type"] for e in receiver.taken} >= {"message.sent", "user.online"}
    receiver.go()


def test_a_push_that_will_never_arrive_is_told(user: User) -> None:
    a, b, receiver = user(), user(), Receiver()
    more = {
        "process.hooks": {"nodes": ["hooks"]},
        "hooks.endpoint.all": {"url": f"{receiver.url}/all", "private": True, "events": ["push.failed"]},
    }
    with phones(("fcm",), more) as world:
        receiver.secrets["/all"] = world.system.run("webhook", "secret", "all").stdout.strip()
        world.away(b, "fcm")
        world.vendors["fcm"].dead.add(world.token(b, "fcm"))
        ack = world.client(a, 5).text(b, "x")
        wait_until(lambda: receiver.of("push.failed"), "the push to be told of", 20)
    receiver.go()
    assert not receiver.forged
    (event,) = receiver.of("push.failed")
    data = event["data"]
    assert (data["user_id"], data["session_id"], data["seq_id"]) == (b, ack.session_id, ack.seq_id)
    assert (data["outcome"], "fcm" in data["outlet"]) == ("dead_token", True)
