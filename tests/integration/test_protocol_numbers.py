"""Every number of the protocol is used, and seen here on the wire; or the docs say that it is not, and why."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from packs import enums, flags
from packs import structs as s
from packs import structs_social as x
from packs import table as t
from packs.codec import encode_payload
from packs.codes import Code
from packs.enums import ContentType, ControlCommand, DeviceType, JoinMode, SyncCommand
from packs.flags import ACK, COUNTER, DUP, HIGH_PRIORITY
from packs.ids import single_session
from store.client import wait_until_ready
from store.keys import Keys
from store.redis import Redis
from tests.controls import DELETE, OVERRIDE, REVOKE, control, next_of, priorities, send, stored, unread
from tests.groups import create, dismiss, join, say, update
from tests.people import accept, add, block
from tests.raw import Raw, code, decode
from tests.redis_server import Server
from tests.system import ROOT, System, running, topology_text

SHARDS = 64
AES = 1 << 9
"""The original's number for a payload encrypted with AES."""
NOT_USED = "## Numbers that are not used"


class Scene:
    """`system` has every node and lets anybody in; `partial` has no chat node and wants tokens."""

    def __init__(self, system: System, partial: System, redis: Redis) -> None:
        self.system, self.partial, self.redis = system, partial, redis
        self._ids = itertools.count(1)

    def user(self) -> str:
        return f"u{next(self._ids)}"

    def client(self, user: str = "", **login: Any) -> Raw:
        return self.system.client(user or self.user(), **login)

    def pair(self) -> tuple[Raw, Raw, str, str]:
        """Two who are friends, and may chat."""
        alice, bob = self.user(), self.user()
        a, b = self.client(alice), self.client(bob)
        assert add(a, bob) == 0
        next_of(b, t.SYNC_DATA_CMD)
        return a, b, alice, bob

    @contextmanager
    def with_token(self) -> Iterator[Raw]:
        raw, user = self.partial.connect(), self.user()
        assert code(raw.login(user, password=self.partial.call("user.token", user, 60))) == 0
        yield raw


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    server = Server(Path(tmp_path_factory.mktemp("r")))
    server.start()
    redis = Redis(server.address)
    wait_until_ready(redis, 10)
    tables: dict[str, dict[str, Any]] = {
        "node.chat": {"require_friend": True},
        "node.user": {"typing_per_minute": 1},
        "words": {"single": ["forbidden"]},
        "store": {"redis": server.url, "shards": SHARDS},
    }
    layout = {"edge": ["broker", "user"], "core": ["group", "history"]}
    partial = topology_text(layout, tables={"auth": {"mode": "token"}})
    with running(topology_text(tables=tables)) as whole, running(partial) as lame:
        yield Scene(whole, lame, redis)
    redis.close()
    assert server.process is not None
    server.process.kill()
    server.process.wait()


def not_used(kind: str) -> set[int]:
    """The numbers of a kind that the docs call not used; each with a reason."""
    text = (ROOT / "docs" / "protocol.md").read_text().split(NOT_USED)[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| (\d+) \| \w+ \| .+ \|$", text, re.MULTILINE)
    return {int(number) for of, number in rows if of == kind}


# ---- codes


def success(scene: Scene) -> Any:
    return scene.client().ask(t.PING)


def protocol(scene: Scene) -> Any:
    return scene.client().ask(t.MSG_BIZ_NOTIFY, s.MsgReq(to="x", content="x"))


def param(scene: Scene) -> Any:
    return scene.client().ask_any(t.MSG_SINGLE_CHAT, {"content": "to nobody"})


def unavailable(scene: Scene) -> Any:
    with scene.with_token() as raw:
        return raw.ask(t.MSG_SINGLE_CHAT, s.MsgReq(to="x", content="this system has no chat node"))


def refused(scene: Scene) -> Any:
    a, _, alice, bob = scene.pair()
    typing = x.Typing(session_id=single_session(alice, bob))
    assert code(a.ask(t.TYPING, typing)) == 0
    answer = a.ask(t.TYPING, typing)
    assert 0 < answer.retry_after <= 60_000
    return answer


def exception(scene: Scene) -> Any:
    """The store holds what no node has written."""
    user = scene.user()
    scene.redis.ask("HSET", Keys(SHARDS).of_user("i", user), "birthday", "no number")
    return scene.client().ask(t.USERINFO_GET, s.UserInfoGetReq(user_ids=[user]))


def sensitive_word(scene: Scene) -> Any:
    a, _, _, bob = scene.pair()
    return a.text(bob, "this is forbidden here")


def conn_identity(scene: Scene) -> Any:
    return scene.system.connect().login(scene.user(), device_type=DeviceType.NONE)


def conn_credentials(scene: Scene) -> Any:
    return scene.partial.connect().login(scene.user(), password="no token")


def conn_kickout(scene: Scene) -> Any:
    user = scene.user()
    first = scene.client(user)
    scene.client(user)
    return first.push(t.KICKOUT)


def conn_denied(scene: Scene) -> Any:
    return scene.system.connect().ask(t.PING)


def hot_session_more(scene: Scene) -> Any:
    user = scene.user()
    raw = scene.client(user)
    for _ in range(2):  # a page of both would not fit a frame
        assert code(raw.text(user, "x" * 60_000, flags=HIGH_PRIORITY)) == 0
    return raw.ask(t.HIGH_PRIOR_MSG_SYNC, s.MsgHighPrioritySyncReq(seq_id=0))


def history_denied(scene: Scene) -> Any:
    return scene.client().ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id="SC_a_b", seq_id=0))


def group_and_stranger(scene: Scene) -> tuple[str, Raw]:
    return create(scene.client(), scene.user()), scene.client()


def not_group_member(scene: Scene) -> Any:
    group, raw = group_and_stranger(scene)
    return say(raw, group)


def group_no_privilege(scene: Scene) -> Any:
    group, raw = group_and_stranger(scene)
    return join(raw, group, scene.user())


def group_member_limit(scene: Scene) -> Any:
    request = s.GroupChatCreateReq(group_info=s.GroupChatInfo(name="g", member_limit=1), member_ids=[scene.user()])
    return scene.client().ask(t.GROUPCHAT_CREATE, request)


def group_not_found(scene: Scene) -> Any:
    return say(scene.client(), "GC_none")


def group_not_owner(scene: Scene) -> Any:
    group, raw = group_and_stranger(scene)
    return dismiss(raw, group)


def msg_too_short(scene: Scene) -> Any:
    a, _, _, bob = scene.pair()
    return a.text(bob, "")


def msg_too_long(scene: Scene) -> Any:
    a, _, _, bob = scene.pair()
    return a.text(bob, "x" * 65_536)


def msg_format(scene: Scene) -> Any:
    return scene.client().ask_any(t.HOTSESSION_SYNC, {"timestamp": "no number"})


def msg_not_found(scene: Scene) -> Any:
    a, _, _, bob = scene.pair()
    sent = send(a, bob)
    sent.pack_id = "another"
    return control(a, sent, REVOKE)


def msg_repeated(scene: Scene) -> Any:
    a, _, _, bob = scene.pair()
    assert code(a.text(bob, "once", "once")) == 0
    return a.text(bob, "once", "once", COUNTER | DUP)


def msg_command(scene: Scene) -> Any:
    a, _, _, bob = scene.pair()
    return control(a, send(a, bob), 4)


def not_friends(scene: Scene) -> Any:
    return scene.client().text(scene.user(), "hello")


def blocked(scene: Scene) -> Any:
    a, b, alice, bob = scene.pair()
    assert block(b, alice) == 0
    return a.text(bob, "hello")


CODES: dict[Code, Callable[[Scene], Any]] = {
    Code.SUCCESS: success,
    Code.PROTOCOL: protocol,
    Code.PARAM: param,
    Code.UNAVAILABLE: unavailable,
    Code.REFUSED: refused,
    Code.EXCEPTION: exception,
    Code.SENSITIVE_WORD: sensitive_word,
    Code.CONN_IDENTITY: conn_identity,
    Code.CONN_CREDENTIALS: conn_credentials,
    Code.CONN_KICKOUT: conn_kickout,
    Code.CONN_DENIED: conn_denied,
    Code.HOT_SESSION_MORE: hot_session_more,
    Code.HISTORY_DENIED: history_denied,
    Code.NOT_GROUP_MEMBER: not_group_member,
    Code.GROUP_NO_PRIVILEGE: group_no_privilege,
    Code.GROUP_MEMBER_LIMIT: group_member_limit,
    Code.GROUP_NOT_FOUND: group_not_found,
    Code.GROUP_NOT_OWNER: group_not_owner,
    Code.MSG_TOO_SHORT: msg_too_short,
    Code.MSG_TOO_LONG: msg_too_long,
    Code.MSG_FORMAT: msg_format,
    Code.MSG_NOT_FOUND: msg_not_found,
    Code.MSG_REPEATED: msg_repeated,
    Code.MSG_COMMAND: msg_command,
    Code.NOT_FRIENDS: not_friends,
    Code.BLOCKED: blocked,
}
"""How each is met: its scenario returns the answer, or its code."""
ELSEWHERE = {Code.MSG_FORBIDDEN: "test_webhooks.py"}
"""What takes a system of its own, and which tests have it."""


@pytest.mark.parametrize("expected", CODES, ids=lambda c: f"{c.value}-{c.name}")
def test_a_code_is_met(scene: Scene, expected: Code) -> None:
    answer = CODES[expected](scene)
    assert (answer if isinstance(answer, int) else code(answer)) == expected


def test_every_code_is_met_or_called_not_used() -> None:
    unused = not_used("code")
    assert not unused & (CODES.keys() | ELSEWHERE.keys())
    assert unused | CODES.keys() | ELSEWHERE.keys() == set(Code)
    for found, file in ELSEWHERE.items():
        assert f"Code.{found.name}" in (Path(__file__).parent / file).read_text()


def test_what_is_called_not_used_is_in_no_node() -> None:
    names = {Code(number).name for number in not_used("code")}
    for path in itertools.chain(*((ROOT / folder).glob("**/*.py") for folder in ("mesh", "nodes", "packs", "store"))):
        if path.name != "codes.py":
            assert not names & set(re.findall(r"\bCode\.(\w+)", path.read_text())), path


# ---- flags


def bits_of_answers(scene: Scene) -> None:
    """ACK is in each answer; what a client sends with it is no request. Reserved bits come back."""
    raw = scene.client()
    raw.request(t.LOGOUT, flags=ACK)
    for reserved in (0, 1 << 12, 1 << 62):
        pack_id = raw.request(t.PING, flags=reserved)
        answer = raw.pack()
        assert (answer.pack_id, answer.flags) == (pack_id, reserved | ACK)


def bits_of_messages(scene: Scene) -> None:
    """COUNTER counts, HIGH_PRIORITY is kept for who is away, DUP tells that a push may have come before."""
    a, b, alice, bob = scene.pair()
    session = single_session(alice, bob)
    for bits, count in ((0, 0), (COUNTER, 1), (COUNTER | HIGH_PRIORITY, 2)):
        assert code(a.text(bob, "x", f"m{bits}", bits)) == 0
        assert next_of(b, t.MSG_SINGLE_CHAT).flags == bits
        assert unread(b, session) == count
    assert [pack.pack_id for pack in priorities(b).msgs] == [f"m{COUNTER | HIGH_PRIORITY}"]
    assert code(a.text(bob, "x", "m0", DUP)) == 46
    assert next_of(b, t.MSG_SINGLE_CHAT).flags == DUP


def bits_of_controls(scene: Scene) -> None:
    a, b, _, bob = scene.pair()
    sent = send(a, bob, "first")
    assert [control(a, sent, OVERRIDE, "second"), control(a, sent, REVOKE)] == [0, 0]
    ((pack, message),) = stored(b, sent.session)
    assert pack.flags == COUNTER | flags.OVERRIDE | flags.REVOKE and message.content == ""


def bits_of_compression(scene: Scene) -> None:
    a, b, _, bob = scene.pair()
    packed = zlib.compress(encode_payload(s.MsgReq(to=bob, content="x" * 1000)))
    for number in range(2, 8):
        assert code(a.ask(t.MSG_SINGLE_CHAT, packed, flags=number << 6)) == Code.PROTOCOL
    assert code(a.ask(t.MSG_SINGLE_CHAT, packed, flags=flags.COMPRESS_ZLIB)) == 0
    pushed = next_of(b, t.MSG_SINGLE_CHAT)
    assert decode(pushed).content == "x" * 1000 and not pushed.flags & flags.COMPRESS_MASK


def bits_of_encryption(scene: Scene) -> None:
    raw = scene.client()
    assert flags.CRYPTO_MASK & AES
    for number in range(1, 8):
        assert code(raw.ask(t.PING, flags=number << 9)) == Code.PROTOCOL


FLAGS: dict[Callable[[Scene], None], set[str]] = {
    bits_of_answers: {"ACK"},
    bits_of_messages: {"COUNTER", "HIGH_PRIORITY", "DUP"},
    bits_of_controls: {"OVERRIDE", "REVOKE"},
    bits_of_compression: {"COMPRESS_MASK", "COMPRESS_ZLIB"},
    bits_of_encryption: {"CRYPTO_MASK"},
}


@pytest.mark.parametrize("check", FLAGS, ids=lambda f: f.__name__)
def test_header_bits(scene: Scene, check: Callable[[Scene], None]) -> None:
    check(scene)


def test_every_header_bit_has_a_test() -> None:
    assert set().union(*FLAGS.values()) == {name for name in vars(flags) if name.isupper()}


# ---- numbers inside payloads


def device_types(scene: Scene) -> set[int]:
    """Those of his friend that a user sees online; the reserved ones as well."""
    a, _, _, _ = scene.pair()
    user = scene.user()
    for number in range(1, 16):
        raw = scene.client(user, device_type=number)
    assert add(a, user) == 0
    refusals = [code(scene.system.connect().login(user, device_type=number)) for number in (-1, 0, 16)]
    assert refusals == [Code.CONN_IDENTITY] * 3
    answer = a.ask(t.PRESENCE_GET, x.PresenceGetReq(user_ids=[user]))
    assert answer.presences[0].device_types == list(range(1, 16)) and not raw.closed
    return set(answer.presences[0].device_types) & set(DeviceType)


def content_types(scene: Scene) -> set[int]:
    a, b, alice, bob = scene.pair()
    numbers = [*ContentType, 12, -1, 2**31 - 1]
    for number in numbers:
        assert code(a.ask(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content="x", content_type=number))) == 0
    pushed = [decode(next_of(b, t.MSG_SINGLE_CHAT)).content_type for _ in numbers]
    kept = [message.content_type for message in b.history(single_session(alice, bob))]
    assert pushed == numbers == kept[::-1]
    return set(pushed) & set(ContentType)


def control_commands(scene: Scene) -> set[int]:
    a, b, _, bob = scene.pair()
    sent = send(a, bob, "first")
    assert [control(a, sent, OVERRIDE, "second"), control(a, sent, REVOKE), control(a, sent, DELETE)] == [0, 0, 0]
    assert stored(b, sent.session) == []
    return {decode(next_of(b, t.MSG_CTRL)).command for _ in range(3)}


def sync_commands(scene: Scene) -> set[int]:
    """Each comes to a second device, or to the other side."""
    a, b, alice, bob = scene.pair()
    phone = scene.client(alice, device_type=DeviceType.IOS)
    found = set()

    def heard(raw: Raw, outcome: object) -> None:
        assert outcome == 0 or isinstance(outcome, str)
        found.add(decode(next_of(raw, t.SYNC_DATA_CMD)).command)

    heard(b, add(a, bob))
    group = create(a, bob)
    heard(b, group)
    heard(b, update(a, group, name="renamed"))
    heard(b, join(a, group, scene.user()))
    while phone.silent(0.1) is False:
        phone.take()
    heard(phone, accept(a, bob, yes=False))
    heard(phone, block(a, scene.user()))
    with scene.with_token() as lonely:
        scene.partial.kill("core-1")
        heard(lonely, 0)
    return found


def join_modes(scene: Scene) -> set[int]:
    """Whom each lets add somebody: the owner, a member, anybody himself."""
    allowed = {}
    for mode in JoinMode:
        owner, member, stranger = scene.user(), scene.user(), scene.user()
        o, m, raw = scene.client(owner), scene.client(member), scene.client(stranger)
        group = create(o, member, join_mode=mode)
        codes = [join(o, group, scene.user()), join(m, group, scene.user()), join(raw, group, stranger)]
        allowed[mode] = [outcome == 0 for outcome in codes]
        assert set(codes) <= {0, Code.GROUP_NO_PRIVILEGE}
    assert allowed[JoinMode.MEMBERS] == [True, True, False]
    assert allowed[JoinMode.OWNER] == [True, False, False]
    assert allowed[JoinMode.OPEN] == [True, True, True]
    return set(allowed)


ENUMS: dict[type[IntEnum], Callable[[Scene], set[int]]] = {
    DeviceType: device_types,
    ContentType: content_types,
    ControlCommand: control_commands,
    SyncCommand: sync_commands,
    JoinMode: join_modes,
}
"""What a client sees of each."""


@pytest.mark.parametrize("enum", ENUMS, ids=lambda e: e.__name__)
def test_numbers_inside_payloads(scene: Scene, enum: type[IntEnum]) -> None:
    seen, unused = ENUMS[enum](scene), not_used(enum.__name__)
    assert not seen & unused
    assert seen | unused == set(enum)


def test_every_enum_has_a_test() -> None:
    found = {each for each in vars(enums).values() if isinstance(each, type) and issubclass(each, IntEnum)}
    assert found - {IntEnum} == ENUMS.keys()
