"""What the scripts of controls and read positions leave in Redis: entries, tombstones, the log, unread."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mesh.loop import post
from nodes.reading import original_of, pack_of
from packs import structs as s
from packs.codec import decode_payload
from packs.flags import COUNTER, OVERRIDE, REVOKE
from packs.message import stored_payload
from store import controls as c
from store.controls import Control, Controlled, Controls, Position, Reading
from store.entries import DELETED, HIDDEN, OVERRIDDEN, REVOKED, Entry, parse, tail
from store.groups import Groups
from store.keys import Keys
from store.redis import Redis
from store.sessions import MEMBERS_ONLY, Message, Overview, Sessions, Stored
from tests.waiting import wait_until

SESSION, GROUP = "SC_a_b", "GC_1"
REVOKING, OVERRIDING, DELETING = 1, 2, 3
KEYS = Keys(64)
PACK = b"\x95pack"
US_PER_DAY = 86_400_000_000


class Store:
    """A session store with a short way to send and to change."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.sessions = Sessions(redis, redis, KEYS, dedup_seconds=3600, log_seconds=600)
        self.controls = Controls(redis, KEYS, dedup_seconds=3600)

    def wait(self, function: Any, *args: Any) -> Any:
        outcome: list[Any] = []
        post(function, *args, lambda found, error: outcome.append((found, error)))
        wait_until(lambda: outcome, "the outcome")
        found, error = outcome[0]
        assert error is None, error
        return found

    def send(
        self, pack_id: str, content: str = "text", flags: int = COUNTER, session: str = SESSION, by: str = "a",
        **more: Any,
    ) -> Stored:  # fmt: skip
        message = s.MsgReq(session_id=session, sender=by, to="b", content=content, **more)
        kept = tail(14, flags, pack_id, stored_payload(message))
        peer = MEMBERS_ONLY if session == GROUP else ""
        (stored,) = self.wait(
            self.sessions.commit, [Message(session, by, peer, pack_id, b"crc.", bool(flags & COUNTER), kept)], False
        )
        return stored  # type: ignore[no-any-return]

    def control(
        self, command: int, seq: int, target: str, content: str = "", by: str = "a", pack_id: str = "",
        session: str = SESSION, hide: bool = True, window: int = 0, largest: int = 1000,
    ) -> Controlled:  # fmt: skip
        pack_id = pack_id or f"{command}{seq}{target}{content}{by}"
        control = Control(
            session, session == GROUP, by, pack_id, command, seq, target, content, hide, window, largest
        )  # fmt: skip
        return self.controls.control(control, PACK)

    def history(self, session: str = SESSION) -> list[Entry]:
        return self.wait(self.sessions.page, session, 0, 100).entries  # type: ignore[no-any-return]

    def one(self, seq: int) -> Entry:
        (found,) = (entry for entry in self.history() if entry.seq == seq)
        return found

    def read(self, user: str, seq: int, session: str = SESSION) -> Position:
        return self.wait(self.controls.read, [Reading(session, session == GROUP, user, seq)])[0]  # type: ignore[no-any-return]

    def overview(self, user: str, session: str = SESSION) -> Overview:
        return self.wait(self.sessions.overview, user, [(session, 1)])[0]  # type: ignore[no-any-return]

    def log(self, session: str = SESSION) -> list[dict[bytes, bytes]]:
        rows = self.redis.ask("XRANGE", f"{KEYS.session_tag(session)}:log", "-", "+")
        return [dict(zip(f[::2], f[1::2], strict=True)) for _, f in rows]


@pytest.fixture
def store(redis: Redis) -> Store:
    return Store(redis)


def content(entry: Entry) -> str:
    """What readers see."""
    return decode_payload(s.MsgReq, pack_of(entry).payload).content


# ---- entries


def test_a_revoked_message_keeps_its_content_for_monitors_only(store: Store) -> None:
    info = s.PushInfo(title="a writes", summary="text")
    sent = store.send("m", push_info=info, content_type=1)
    assert store.control(REVOKING, sent.seq, "m").status == c.DONE
    entry = store.one(sent.seq)
    assert (entry.seq, entry.prev, entry.n, entry.pack_id) == (sent.seq, sent.prev, 1, "m")
    assert (entry.state, entry.revision) == (REVOKED | HIDDEN, 1)
    shown = decode_payload(s.MsgReq, pack_of(entry).payload)
    assert (shown.content, shown.push_info, shown.content_type, shown.sender) == ("", s.NO_PUSH_INFO, 1, "a")
    assert (shown.seq_id, shown.prev_seq_id) == (sent.seq, sent.prev)
    assert pack_of(entry).flags == COUNTER | REVOKE
    original = decode_payload(s.MsgReq, original_of(entry).payload)
    assert (original.content, original.push_info) == ("text", info)


def test_a_revoked_message_may_be_shown(store: Store) -> None:
    sent = store.send("m")
    store.control(REVOKING, sent.seq, "m", hide=False)
    entry = store.one(sent.seq)
    assert (entry.state, content(entry), pack_of(entry).flags) == (REVOKED, "text", COUNTER | REVOKE)
    store.control(REVOKING, sent.seq, "m", hide=True, pack_id="again")
    assert (store.one(sent.seq).state, content(store.one(sent.seq))) == (REVOKED | HIDDEN, "")


@pytest.mark.parametrize("size", [1, 30, 200, 300, 70_000])
def test_an_override_of_any_size(store: Store, size: int) -> None:
    sent = store.send("m", "x" * size, mentions=["b"])
    new = "é" * size
    assert store.control(OVERRIDING, sent.seq, "m", new, largest=1_000_000).status == c.DONE
    entry = store.one(sent.seq)
    shown = decode_payload(s.MsgReq, pack_of(entry).payload)
    assert (shown.content, shown.mentions, pack_of(entry).flags) == (new, ["b"], COUNTER | OVERRIDE)
    assert decode_payload(s.MsgReq, original_of(entry).payload).content == "x" * size


def test_flags_accumulate_and_a_revoked_message_stays_hidden(store: Store) -> None:
    for n, order in enumerate([(OVERRIDING, REVOKING), (REVOKING, OVERRIDING)]):
        sent = store.send(f"m{n}")
        for command in order:
            assert store.control(command, sent.seq, f"m{n}", "new" * (command == OVERRIDING)).status == c.DONE
        entry = store.one(sent.seq)
        assert (entry.state, entry.content) == (REVOKED | OVERRIDDEN | HIDDEN, "new")
        assert (content(entry), pack_of(entry).flags) == ("", COUNTER | REVOKE | OVERRIDE)


def test_revisions_and_times_grow_with_each_change(store: Store) -> None:
    sent = store.send("m")
    outcomes = [store.control(OVERRIDING, sent.seq, "m", f"v{n}") for n in range(20)]
    times = [o.time for o in outcomes]
    assert times == sorted(set(times))
    entry = store.one(sent.seq)
    assert (entry.revision, entry.changed, content(entry)) == (20, times[-1], "v19")


def test_a_tombstone_has_no_content_and_is_not_in_history(store: Store) -> None:
    first, gone, last = store.send("1"), store.send("2", "secret"), store.send("3")
    assert store.control(OVERRIDING, gone.seq, "2", "secret too").status == c.DONE
    assert store.control(DELETING, gone.seq, "2").status == c.DONE
    assert [e.seq for e in store.history()] == [last.seq, first.seq]
    (stone,) = store.redis.ask("ZRANGE", f"{KEYS.session_tag(SESSION)}:t:{SESSION}", 0, -1)
    assert b"secret" not in stone
    entry = parse(stone)
    assert (entry.seq, entry.prev, entry.n, entry.pack_id) == (gone.seq, first.seq, 2, "2")
    assert entry.state & DELETED and entry.content == "" and entry.revision == 2
    payload = decode_payload(s.MsgReq, entry.payload)
    assert (payload.sender, payload.to, payload.content) == ("a", "b", "")


def test_the_newest_message_skips_tombstones(store: Store) -> None:
    sent = [store.send(f"m{n}") for n in range(4)]
    for n in (3, 2):
        store.control(DELETING, sent[n].seq, f"m{n}")
    newest = store.overview("b").newest
    assert newest is not None and newest.seq == sent[1].seq
    assert store.send("m4").prev == sent[3].seq, "the chain goes over tombstones"
    for n in (0, 1):
        store.control(DELETING, sent[n].seq, f"m{n}")
    newest = store.overview("b").newest
    assert newest is not None and newest.pack_id == "m4"


# ---- the log


def test_every_change_is_a_row_with_a_revision(store: Store) -> None:
    sent = store.send("m")
    store.control(OVERRIDING, sent.seq, "m", "new")
    store.control(OVERRIDING, sent.seq, "m", "new", pack_id="the same again")
    store.control(REVOKING, sent.seq, "m")
    store.control(DELETING, sent.seq, "m")
    rows = [(parse(row[b"e"]), row.get(b"o")) for row in store.log()]
    assert [(entry.seq, entry.revision, operator) for entry, operator in rows] == [
        (sent.seq, 0, None), (sent.seq, 1, b"a"), (sent.seq, 2, b"a"), (sent.seq, 3, b"a"),
    ]  # fmt: skip
    assert {row[b"s"] for row in store.log()} == {SESSION.encode()}


# ---- what is refused


def test_both_numbers_must_match(store: Store) -> None:
    one, two = store.send("1"), store.send("2")
    for seq, target in ((one.seq, "2"), (two.seq, "1"), (one.seq + 1, "1"), (0, "1"), (-5, "1"), (2**63 - 1, "2")):
        for command in (REVOKING, OVERRIDING, DELETING):
            assert store.control(command, seq, target, "x").status == c.NOT_FOUND
    assert len(store.log()) == 2 and [e.state for e in store.history()] == [0, 0]


def test_after_a_deletion_only_deleting_succeeds(store: Store) -> None:
    sent = store.send("m")
    assert store.control(DELETING, sent.seq, "m").status == c.DONE
    assert store.control(DELETING, sent.seq, "m", pack_id="other").status == c.DONE
    assert store.control(DELETING, sent.seq, "m", by="b").status == c.DENIED
    assert store.control(DELETING, sent.seq, "n").status == c.NOT_FOUND
    assert store.control(REVOKING, sent.seq, "m").status == c.NOT_FOUND
    assert store.control(OVERRIDING, sent.seq, "m", "x").status == c.NOT_FOUND


def test_the_window_is_for_the_sender(store: Store) -> None:
    sent = store.send("m")
    wait_until(lambda: store.control(REVOKING, sent.seq, "m", window=1).status == c.DENIED, "the window to close")
    assert store.control(OVERRIDING, sent.seq, "m", "x", window=US_PER_DAY).status == c.DONE
    assert store.control(DELETING, sent.seq, "m").status == c.DONE


def test_an_override_must_fit(store: Store) -> None:
    sent = store.send("m", mentions=["b" * 60] * 10)
    assert store.control(OVERRIDING, sent.seq, "m", "x" * 400).status == c.TOO_LONG
    assert store.control(OVERRIDING, sent.seq, "m", "x" * 200).status == c.DONE


def test_a_repeat_is_known_whatever_happened_since(store: Store) -> None:
    sent = store.send("m")
    first = store.control(REVOKING, sent.seq, "m", pack_id="p")
    store.control(DELETING, sent.seq, "m")
    assert store.control(REVOKING, sent.seq, "m", pack_id="p") == Controlled(c.REPEATED, first.time, 0)
    assert store.control(DELETING, sent.seq, "m", pack_id="p").status == c.CONFLICT
    assert store.control(DELETING, sent.seq, "m", pack_id="p", by="b").status == c.DENIED, "another's packIds are his"
    store.send("p")  # nor is a message's packId a control's
    assert len(store.history()) == 1


# ---- groups


def make_group(store: Store, *members: str, owner: str = "owner", version: int = 3) -> None:
    tag = KEYS.session_tag(GROUP)
    store.redis.ask("HSET", f"{tag}:i:{GROUP}", "owner", owner, "version", version)
    for user in (owner, *members):
        store.redis.ask("ZADD", f"{tag}:p:{GROUP}", 0, user)


def test_a_groups_owner_may_do_everything_at_any_time(store: Store) -> None:
    make_group(store, "a", "b")
    sent = store.send("m", session=GROUP)
    for command in (REVOKING, OVERRIDING, DELETING):
        assert store.control(command, sent.seq, "m", "x", by="b", session=GROUP).status == c.DENIED
        assert store.control(command, sent.seq, "m", "x", by="stranger", session=GROUP).status == c.DENIED
        outcome = store.control(command, sent.seq, "m", "x", by="owner", session=GROUP, window=1)
        assert (outcome.status, outcome.version) == (c.DONE, 3)
    assert store.history(GROUP) == []


def test_only_present_members_of_a_group_that_exists(store: Store) -> None:
    assert store.control(REVOKING, 1, "m", session=GROUP).status == c.NO_GROUP
    make_group(store, "a")
    sent = store.send("m", session=GROUP)
    first = store.control(OVERRIDING, sent.seq, "m", "x", session=GROUP, pack_id="p")
    store.redis.ask("ZREM", f"{KEYS.session_tag(GROUP)}:p:{GROUP}", "a")
    assert store.control(REVOKING, sent.seq, "m", session=GROUP).status == c.DENIED
    again = store.control(OVERRIDING, sent.seq, "m", "x", session=GROUP, pack_id="p")
    assert again == first._replace(status=c.REPEATED)


def test_controls_of_a_group_go_to_its_queue_once(store: Store) -> None:
    make_group(store, "a")
    sent = store.send("m", session=GROUP)
    key = KEYS.group_priority(GROUP)
    store.redis.ask("ZADD", key, sent.seq - 31 * US_PER_DAY, "old", sent.seq + 10**9, "from a clock that was ahead")
    outcome = store.control(REVOKING, sent.seq, "m", session=GROUP, pack_id="p")
    store.control(REVOKING, sent.seq, "m", session=GROUP, pack_id="p")
    found = store.redis.ask("ZRANGE", key, 0, -1, "WITHSCORES")
    assert found[2] == PACK + outcome.time.to_bytes(8, "big") and len(found) == 4
    assert 0 < int(found[3]) - (sent.seq + 10**9) <= KEYS.stamp_step
    assert 0 < store.redis.ask("TTL", key) <= 30 * 86400


# ---- reading


def test_a_read_position_only_moves_forward_and_never_past_the_newest(store: Store) -> None:
    assert store.read("b", 10**15) == (c.THERE, 0)
    sent = [store.send(f"m{n}") for n in range(5)]
    assert store.overview("b").unread == 5
    assert store.read("b", sent[2].seq) == (c.MOVED, sent[2].seq)
    assert store.read("b", sent[1].seq) == (c.THERE, sent[2].seq)
    assert store.read("b", sent[3].seq - 1) == (c.THERE, sent[2].seq)
    assert store.read("b", -1) == store.read("b", 0) == (c.THERE, sent[2].seq)
    assert (store.overview("b").unread, store.overview("b").read_seq) == (2, sent[2].seq)
    assert store.read("b", 2**63 - 1) == (c.MOVED, sent[4].seq)
    assert store.overview("b").unread == 0
    store.send("m5")
    assert store.overview("b").unread == 1


def test_what_is_gone_does_not_count_wherever_it_lies(store: Store) -> None:
    sent = [store.send(f"m{n}", flags=COUNTER if n % 3 else 0) for n in range(12)]  # 8 of them count
    store.control(DELETING, sent[1].seq, "m1")
    store.control(REVOKING, sent[4].seq, "m4")
    store.control(REVOKING, sent[3].seq, "m3")  # did not count before
    store.control(OVERRIDING, sent[5].seq, "m5", "x")
    assert store.overview("b").unread == 6
    store.control(DELETING, sent[4].seq, "m4")
    assert store.overview("b").unread == 6
    assert store.read("b", sent[1].seq) == (c.MOVED, sent[1].seq), "a tombstone is a place to have read up to"
    assert store.overview("b").unread == 6
    store.read("b", sent[2].seq)
    assert store.overview("b").unread == 5
    store.control(DELETING, sent[2].seq, "m2")  # read before it went
    store.control(DELETING, sent[11].seq, "m11")  # the newest
    assert store.overview("b").unread == 4
    assert store.read("b", sent[11].seq + 5) == (c.MOVED, sent[11].seq)
    assert store.overview("b").unread == 0


def test_who_may_not_read_a_group(store: Store) -> None:
    assert store.read("a", 5, GROUP) == (c.READ_NO_GROUP, 0)
    make_group(store, "a")
    sent = store.send("m", session=GROUP, by="owner")
    assert store.read("b", sent.seq, GROUP) == (c.READ_NOT_MEMBER, 0)
    assert store.read("a", sent.seq, GROUP) == (c.MOVED, sent.seq)


@pytest.mark.parametrize("leave", ["quit", "removed", "dismissed"])
def test_who_left_a_group_sees_nothing_of_it_though_he_had_read(store: Store, leave: str) -> None:
    """An overview takes a read position in a group for membership, so every way out has to take it away."""
    groups = Groups(store.redis, store.redis, KEYS, remember_seconds=60)
    groups.create(GROUP, "owner", ["owner", "early"], limit=10, mode=0, name="g")
    sent = store.send("m", session=GROUP, by="owner")
    early = store.overview("early", GROUP)  # he joined before the first message: he has no position
    assert (early.newest.seq, early.read_seq, early.unread) == (sent.seq, 0, 1)
    groups.join(GROUP, "owner", ["late"])
    assert store.overview("late", GROUP).read_seq == sent.seq
    assert store.read("early", sent.seq, GROUP) == (c.MOVED, sent.seq)
    assert store.overview("early", GROUP).unread == 0
    for user in ("early", "late"):
        if leave != "dismissed":
            groups.quit(GROUP, user if leave == "quit" else "owner", [user])
    if leave == "dismissed":
        groups.dismiss(GROUP, "owner")
    for user in ("early", "late", "stranger"):
        assert store.wait(store.sessions.overview, user, [(GROUP, 1)]) == []


# ---- at random


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_everything_adds_up(store: Store, seed: int) -> None:
    """Two users write, change and read at random; history, newest message and unread are those of a plain model."""
    dice = random.Random(seed)
    sent: list[tuple[int, str, bool]] = []  # seqId, sender, whether it counts
    state: dict[int, set[int]] = {}  # seqId -> commands
    position = {"a": 0, "b": 0}
    for n in range(120):
        who = dice.choice("ab")
        chance = dice.random()
        if chance < 0.45 or not sent:
            counts = dice.random() < 0.7
            seq = store.send(f"m{n}", by=who, flags=COUNTER if counts else 0).seq
            sent.append((seq, who, counts))
            state[seq] = set()
            position[who] = seq
        elif chance < 0.8:
            seq, sender, _ = dice.choice(sent)
            target = store_name(store, seq)
            command = dice.choice([REVOKING, OVERRIDING, DELETING])
            outcome = store.control(command, seq, target, f"new {n}", by=who, pack_id=f"c{n}").status
            if DELETING in state[seq] and command != DELETING:
                assert outcome == c.NOT_FOUND
            elif sender != who:
                assert outcome == c.DENIED
            else:
                assert outcome == c.DONE
                state[seq].add(command)
        else:
            seq = dice.choice(sent)[0] + dice.choice([-1, 0, 1])
            reached = max((s for s, _, _ in sent if s <= seq), default=0)
            position[who] = max(position[who], reached)
            assert store.read(who, seq).seq == position[who]
        there = [seq for seq, _, _ in sent if DELETING not in state[seq]]
        assert [entry.seq for entry in store.history()][:100] == there[::-1][:100]
        for user in "ab":
            view = store.overview(user)
            assert (view.newest.seq if view.newest else None) == (there[-1] if there else None)
            gone = {seq for seq, done in state.items() if done & {REVOKING, DELETING}}
            assert view.read_seq == position[user]
            assert view.unread == sum(k and seq > position[user] and seq not in gone for seq, _, k in sent)


def store_name(store: Store, seq: int) -> str:
    """The packId of a message, deleted or not."""
    tag = KEYS.session_tag(SESSION)
    for key in ("h", "t"):
        found = store.redis.ask("ZRANGEBYSCORE", f"{tag}:{key}:{SESSION}", seq, seq)
        if found:
            return parse(found[0]).pack_id
    raise AssertionError(f"no message {seq}")
