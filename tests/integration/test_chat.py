"""Two people chat: over raw TCP, in both layouts."""

from __future__ import annotations

from collections.abc import Callable

from packs import structs as s
from packs import table as t
from packs.flags import ACK, COUNTER
from tests.system import System, running, topology_text


def test_a_message_is_acked_delivered_and_kept(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    ack = a.text(bob, "hello")
    assert ack.error_code.code == 0 and ack.prev_seq_id == 0
    assert ack.timestamp == ack.seq_id // 1000
    got = b.push(t.MSG_SINGLE_CHAT)
    assert (got.sender, got.to, got.content, got.seq_id) == (alice, bob, "hello", ack.seq_id)
    reply = b.text(alice, "hi")
    assert reply.prev_seq_id == ack.seq_id and reply.seq_id > ack.seq_id
    assert [m.content for m in a.history(ack.session_id)] == ["hi", "hello"]


def test_logout_waits_for_the_answers_to_what_was_asked_before_it(system: System, user: Callable[[], str]) -> None:
    raw, peer = system.client(user()), user()
    texts = [raw.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=peer, content=str(n)), flags=COUNTER) for n in range(200)]
    goodbye = raw.request(t.LOGOUT)
    answered = [pack.pack_id for pack in raw.rest() if pack.flags & ACK]
    assert sorted(answered[:-1]) == sorted(texts)
    assert answered[-1] == goodbye


def test_all_nodes_may_share_one_process() -> None:
    with running(topology_text({"all": ["broker", "user", "chat", "group", "history", "msgop"]})) as one:
        a, b = one.client("alice"), one.client("bob")
        ack = a.text("bob", "hello")
        assert b.push(t.MSG_SINGLE_CHAT).content == "hello"
        assert [m.content for m in b.history(ack.session_id)] == ["hello"]
