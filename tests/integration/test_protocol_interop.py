"""Clients of one codec talk to clients of the other: every type that goes from user to user, compressed or not, and
what comes is compared field by field with what was sent. Sender and recipient are at different brokers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from packs import table as t
from packs.flags import COUNTER, HIGH_PRIORITY
from packs.ids import single_session
from tests.plain import Got, Plain
from tests.system import System

INT32, INT64 = 2**31 - 1, 2**63 - 1
TEXTS = {
    "plain": "hello",
    "emoji": "👩‍👩‍👧‍👦 🎉 \U0010ffff",
    "right to left": "שלום \u202e abc \u2067",
    "line separators": "\u2028 \u2029 \u0085 \r\n",
    "NUL and controls": "\0 \x01\x1f\x7f \0",
    "like JSON": '{"type":14,"payload":"\\u0000"} \\ " /',
    "like msgpack": "\x95\x0e\x01\x00\xa1p\xc4\xff\xd3",
    "like base64 of zlib": "eJyrVkrOzytJzStRslJQykjNyclXqgUAUYQHIg==",
    "marks": "\ufeff \ufffd \ufffe é e\u0301 \u200b",
    "long": "\0ü🎉" * 8_000,
}
FLAGS = COUNTER | HIGH_PRIORITY
MESSAGE = {"pushInfo": {}, "contentType": 0, "status": 0, "prevSeqId": 0, "mentions": []}
"""What a message says where it says nothing."""

Addresses = list[tuple[str, int]]

_ids = itertools.count(1)


class Two:
    """Alice and Bob, who are friends; she speaks one codec and he the other. `b2` is his phone, in her codec."""

    def __init__(self, system: System, addresses: Addresses, hers: str, compress: bool) -> None:
        his = "json" if hers == "msgpack" else "msgpack"
        n = next(_ids)
        self.system = system
        self.alice, self.bob = f"alice_{n}", f"bob.{n}"
        one, other = addresses
        self.a, self.b, self.b2 = Plain(one, hers, compress), Plain(other, his), Plain(other, hers)
        self.one, self.other, self.hers, self.his = one, other, hers, his
        self.a.login(self.alice)
        self.b.login(self.bob)
        self.b2.login(self.bob, device_type=1)
        self.session = single_session(self.alice, self.bob)
        assert done(self.a, t.FRIEND_ADD, {"friends": [{"friendId": self.bob, "remark": "B 🎉"}]})

    def everywhere(self, number: int) -> Got:
        """A push, which comes to both of Bob's devices alike."""
        got, same = self.b.push(number), self.b2.push(number)
        assert whole(got) == whole(same)
        return got

    def send(self, to: str, number: int = t.MSG_SINGLE_CHAT, **fields: Any) -> tuple[str, dict[str, Any]]:
        """A message that claims numbers of its own; its packId, and the fields that the recipient has to see."""
        claimed = {"seqId": INT64, "timestamp": -INT64 - 1, "prevSeqId": INT64, "status": INT32}
        pack_id = self.a.send(number, {"to": to, **claimed, **fields}, FLAGS)
        answer = self.a.answer(number, pack_id, FLAGS)
        assert answer["errorCode"] == {"code": 0, "desc": ""}
        numbers = {name: answer[name] for name in ("sessionId", "seqId", "timestamp", "prevSeqId")}
        return pack_id, {**MESSAGE, "from": self.alice, "to": to, **fields, **numbers}


@pytest.fixture(scope="module")
def addresses(wide: System) -> Iterator[Addresses]:
    with wide.unharmed():
        yield wide.addresses()


@pytest.fixture(params=["plain", "compressed"])
def compress(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "compressed")


@pytest.fixture(params=["msgpack", "json"])
def two(wide: System, addresses: Addresses, request: pytest.FixtureRequest, compress: bool) -> Two:
    return Two(wide, addresses, request.param, compress)


def done(raw: Plain, number: int, payload: dict[str, Any]) -> bool:
    answer = raw.ask(number, payload)
    return bool(answer.get("errorCode", answer)["code"] == 0)


def whole(got: Got) -> Got:
    """A message with what its sender left out."""
    return got._replace(payload=MESSAGE | got.payload) if got.type in (14, 15, 16) else got


# ---- messages: 14, 15, 16


def test_messages(two: Two) -> None:
    sent = []
    for text in TEXTS.values():
        short = text[:20]
        pack_id, message = two.send(
            two.bob, content=text, contentType=INT32, mentions=["*", two.bob],
            pushInfo={"title": short, "summary": short, "url": short},
        )  # fmt: skip
        assert whole(two.everywhere(t.MSG_SINGLE_CHAT)) == (t.MSG_SINGLE_CHAT, FLAGS, pack_id, message)
        sent.append(Got(t.MSG_SINGLE_CHAT, FLAGS, pack_id, message))
    for extreme in (-INT32 - 1, 0, INT32):
        pack_id, message = two.send(two.bob, content="x", contentType=extreme)
        assert whole(two.everywhere(t.MSG_SINGLE_CHAT)) == (t.MSG_SINGLE_CHAT, FLAGS, pack_id, message)
        sent.append(Got(t.MSG_SINGLE_CHAT, FLAGS, pack_id, message))
    for raw in (two.b, two.b2):
        assert history(raw, two.session) == sent[::-1]
        (session,) = raw.ask(t.HOTSESSION_SYNC, {"timestamp": 0})["sessions"]
        assert [whole(raw.unpacked(pack)) for pack in session["lastMsgs"]] == sent[-1:]
        assert (session["unreadCount"], session["readSeqId"]) == (len(sent), 0)
        kept = raw.ask(t.HIGH_PRIOR_MSG_SYNC, {"seqId": -INT64 - 1, "count": INT32})["msgs"]
        assert [whole(raw.unpacked(pack)) for pack in kept] == sent


def history(raw: Plain, session: str) -> list[Got]:
    """All of it, newest first, asked for from the greatest number that there is."""
    found: list[Got] = []
    newest = INT64
    while page := raw.ask(t.HISTORY_MSG_PULL, {"sessionId": session, "seqId": newest, "count": 200})["msgs"]:
        found += [whole(raw.unpacked(pack)) for pack in page]
        newest = found[-1].payload["seqId"] - 1
    return found


def test_messages_to_a_group(two: Two) -> None:
    for text in TEXTS.values():
        info = {"name": text[:512], "avatar": text[:2048], "desc": text[:4096], "memberLimit": 3, "joinMode": 2}
        group = two.a.ask(t.GROUPCHAT_CREATE, {"groupInfo": info, "memberIds": [two.bob]})["groupId"]
        while two.everywhere(t.SYNC_DATA_CMD).payload != {"command": 2, "content": group}:
            continue
        found = [i for i in two.b.ask(t.GROUPCHAT_SYNC, {"timestamp": 0})["groupChats"] if i["groupId"] == group]
        assert [{name: shown[name] for name in info} for shown in found] == [info]
        pack_id, message = two.send(group, t.MSG_GROUP_CHAT, content=text, mentions=[])
        assert whole(two.everywhere(t.MSG_GROUP_CHAT)) == (t.MSG_GROUP_CHAT, FLAGS, pack_id, message)
        assert history(two.b, group) == [(t.MSG_GROUP_CHAT, FLAGS, pack_id, message)]


def test_notices(two: Two) -> None:
    """From the command line, to both codecs."""
    text = " ".join(each for name, each in TEXTS.items() if name != "long")
    push = [text[:50]] * 3
    _, seq, timestamp, _ = two.system.call("chat.notify", "shop", two.bob, text, INT32, FLAGS, push, "notice")
    got = two.everywhere(t.MSG_BIZ_NOTIFY)
    session = f"BM_shop_{two.bob}"
    assert whole(got) == (t.MSG_BIZ_NOTIFY, FLAGS, "notice", MESSAGE | {
        "sessionId": session, "seqId": seq, "timestamp": timestamp, "from": "shop", "to": two.bob, "content": text,
        "contentType": INT32, "pushInfo": dict.fromkeys(("title", "summary", "url"), text[:50]),
    })  # fmt: skip
    assert history(two.b, session) == history(two.b2, session) == [whole(got)]


# ---- about messages: 17, 18


def test_controls(two: Two) -> None:
    pack_id, message = two.send(two.bob, content="first")
    target = {"sessionId": two.session, "packId": pack_id, "seqId": message["seqId"]}
    times = []
    for text in TEXTS.values():
        assert done(two.a, t.MSG_CTRL, {"command": 2, **target, "content": text, "timestamp": INT64})
        got = two.everywhere(t.MSG_CTRL)
        times.append(got.payload.pop("timestamp"))
        assert got.payload == {"command": 2, **target, "content": text, "operatorId": two.alice}
        assert [m.payload["content"] for m in history(two.b, two.session)] == [text]
    for command in (1, 3):
        assert done(two.a, t.MSG_CTRL, {"command": command, **target, "content": "unheard"})
        got = two.everywhere(t.MSG_CTRL)
        times.append(got.payload.pop("timestamp"))
        assert got.payload == {"command": command, **target, "operatorId": two.alice}
    assert times == sorted(set(times)) and message["timestamp"] < times[0] < INT64
    kept = [two.b.unpacked(pack) for pack in two.b.ask(t.HIGH_PRIOR_MSG_SYNC, {"seqId": 0})["msgs"]]
    assert [got.payload["timestamp"] for got in kept if got.type == t.MSG_CTRL] == times


@pytest.mark.parametrize("claimed", [INT64, 0, -INT64 - 1])
def test_reads(two: Two, claimed: int) -> None:
    _, message = two.send(two.bob, content="x")
    seq = message["seqId"]
    assert done(two.b, t.MSG_READ, {"sessionId": two.session, "seqId": claimed})
    if claimed != INT64:
        assert done(two.b, t.MSG_READ, {"sessionId": two.session, "seqId": seq})
    expected = {"sessionId": two.session, "seqId": seq, "userId": two.bob}
    assert two.b2.push(t.MSG_READ).payload == two.a.push(t.MSG_READ).payload == expected


# ---- about users: 25, 68, 69, 13, and what they show of each other


def test_hints_to_fetch_again(two: Two) -> None:
    assert two.everywhere(t.SYNC_DATA_CMD).payload == {"command": 1, "content": ""}  # that they are friends
    assert done(two.b, t.BLOCK, {"userIds": ["somebody"]})
    assert two.b2.push(t.SYNC_DATA_CMD).payload == {"command": 7, "content": ""}


def test_presence(two: Two) -> None:
    watch = {"userIds": [two.alice]}
    here = {"userId": two.alice, "online": 1, "deviceTypes": [5], "lastSeen": 0}
    assert two.b.ask(t.PRESENCE_SUBSCRIBE, watch)["presences"] == [here]
    assert two.b2.ask(t.PRESENCE_SUBSCRIBE, watch)["presences"] == [here]
    second = Plain(two.one, two.hers)
    second.login(two.alice, device_type=15)
    assert two.everywhere(t.PRESENCE_PUSH).payload == {"presences": [here | {"deviceTypes": [5, 15]}]}
    second.close()
    assert two.everywhere(t.PRESENCE_PUSH).payload == {"presences": [here]}
    two.a.close()
    (gone,) = two.everywhere(t.PRESENCE_PUSH).payload["presences"]
    assert 10**12 < gone.pop("lastSeen") < 10**13  # ms
    assert gone == {"userId": two.alice, "online": 0, "deviceTypes": []}


def test_typing(two: Two) -> None:
    for claimed, told in ((1, 1), (0, 0), (INT32, 1), (-INT32 - 1, 1)):
        assert done(two.a, t.TYPING, {"sessionId": two.session, "typing": claimed})
        got = two.everywhere(t.TYPING).payload
        assert {"typing": 1, **got} == {"sessionId": two.session, "userId": two.alice, "typing": told}


def test_kicked_out(two: Two) -> None:
    """One's own device, of the other codec."""
    device = "".join(map(chr, range(0x21, 0x7F)))[-64:]
    tablet = Plain(two.other, two.his)
    tablet.login(two.alice, device_type=15, device_id=device)
    assert done(two.a, t.KICKOUT, {"deviceType": 15, "deviceId": device})
    payload = tablet.push(t.KICKOUT).payload
    error = payload.pop("errorCode")
    assert error["code"] == 22 and payload == {"deviceType": 15, "deviceId": device}


@pytest.mark.parametrize("birthday", [INT64, 0, -INT64 - 1])
def test_profiles_and_remarks(two: Two, birthday: int) -> None:
    name = TEXTS["emoji"] + TEXTS["right to left"]
    info = {"name": name, "avatar": "\u2028" * 1024, "mobile": "", "birthday": birthday}
    assert done(two.a, t.USERINFO_UPDATE, {"userInfo": info})
    for raw in (two.b, two.b2):
        (shown,) = raw.ask(t.USERINFO_GET, {"userIds": [two.alice]})["userInfos"]
        assert shown == {"userId": two.alice, **info}
    (friend,) = two.a.ask(t.FRIEND_SYNC, {"timestamp": -INT64 - 1})["friends"]
    assert friend == {"userId": two.alice, "friendId": two.bob, "remark": "B 🎉"}


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if "\0" not in text])
def test_attributes(two: Two, name: str) -> None:
    """Kept by one device and read by the other."""
    text = TEXTS[name]
    attribute = {"userId": two.bob, "friendId": two.alice, "attrName": text[:64], "attrValue": text}
    assert done(two.b, t.USERATTRIBUTE_SET, {"attribute": attribute})
    assert two.b2.ask(t.USERATTRIBUTE_GET, {"friendId": two.alice, "attrName": text[:64]})["attributes"] == [attribute]


# ---- no numbers


def test_numbers_that_are_none(two: Two) -> None:
    for number in (INT64 + 1, -INT64 - 2, 2**64, 1.5, True, "1", None):
        with_number = {"to": two.bob, "content": "x", "seqId": number}
        try:
            answer = two.a.ask(t.MSG_SINGLE_CHAT, with_number)
        except OverflowError:
            continue  # msgpack has no such number
        assert answer["errorCode"]["code"] == 42, number
    for number in (INT32 + 1, -INT32 - 2):
        answer = two.a.ask(t.MSG_SINGLE_CHAT, {"to": two.bob, "content": "x", "contentType": number})
        assert answer["errorCode"]["code"] == 42
