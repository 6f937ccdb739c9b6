"""Every payload struct in both codecs: what goes in comes out, what is wrong is refused with the right code."""

from __future__ import annotations

import inspect
import json
import typing
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packs import structs, structs_social
from packs.codec import JSON, MSGPACK, PayloadError, decode_payload, encode_error, encode_payload
from packs.codes import Code
from packs.flags import ACK
from packs.pack import Int32, Int64, Pack
from packs.structs import MAX_ITEMS, MsgAck, MsgReq, Payload, Request, missing
from packs.table import MSG_GROUP_CHAT, MSG_SINGLE_CHAT, TABLE

ALL = [
    cls
    for module in (structs, structs_social)
    for _, cls in inspect.getmembers(module, inspect.isclass)
    if issubclass(cls, Payload) and cls.__module__ == module.__name__ and cls not in (Payload, Request)
]
TEXT = st.text(max_size=20)
PACKS = st.builds(
    lambda type_, version, flags, pack_id, msg: Pack(type_, version, flags & ~ACK, pack_id, encode_payload(msg)),
    st.sampled_from((MSG_SINGLE_CHAT, MSG_GROUP_CHAT)),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 2**63 - 1),
    TEXT,
    st.deferred(lambda: payloads(MsgReq)),
)


def payloads(cls: type[Payload]) -> st.SearchStrategy[Any]:
    """Complete structs of this class with any legal values."""
    return st.builds(cls, **{name: values(hint) for name, hint in hints(cls).items()})


def hints(cls: type[Payload]) -> dict[str, Any]:
    types = typing.get_type_hints(cls, include_extras=True)
    return {name: types[name] for name in cls.__struct_fields__}


def values(hint: Any) -> st.SearchStrategy[Any]:
    if hint == Int32:
        return st.integers(-(2**31), 2**31 - 1)
    if hint == Int64:
        return st.integers(-(2**63), 2**63 - 1)
    if hint is str:
        return TEXT
    if hint is Pack:
        return PACKS
    if typing.get_origin(hint) is typing.Annotated:
        return values(typing.get_args(hint)[0])
    if typing.get_origin(hint) is list:
        return st.lists(values(typing.get_args(hint)[0]), max_size=3)
    if typing.get_origin(hint) is None:
        return payloads(hint)
    return st.one_of(
        *(values(arm) if arm is not msgspec.UnsetType else st.just(msgspec.UNSET) for arm in typing.get_args(hint))
    )


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_a_struct_survives_msgpack(cls: type[Payload], data: st.DataObject) -> None:
    value = data.draw(payloads(cls))
    assert msgspec.msgpack.decode(encode_payload(value), type=cls) == value


ROUTES = [(row.number, response) for row in TABLE.values() for response in (False, True)]


@pytest.mark.parametrize(("number", "response"), ROUTES)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_every_type_survives_json_and_back(number: int, response: bool, data: st.DataObject) -> None:
    row = TABLE[number]
    cls = row.response if response else row.request or row.push
    if cls is None:
        return
    value = data.draw(payloads(cls))
    pack = Pack(number, 1, ACK if response else 0, "p", encode_payload(value))
    body = JSON.encode(pack)
    assert json.loads(body)["packId"] == "p"
    back = JSON.decode(body)
    canonical = JSON.canonical(number, back.payload, response=response)
    assert msgspec.msgpack.decode(canonical, type=cls) == value
    assert MSGPACK.decode(MSGPACK.encode(pack)) == pack


def test_packs_inside_a_json_payload_are_objects() -> None:
    message = Pack(MSG_SINGLE_CHAT, 1, 4, "m1", encode_payload(MsgReq(sender="a", to="b", content="hi")))
    history = structs.HistoryMsgPullResp(session_id="SC_a_b", msgs=[message])
    body = json.loads(JSON.encode(Pack(21, 1, ACK, "p", encode_payload(history))))
    assert body["payload"] == {
        "errorCode": {"code": 0, "desc": ""},
        "sessionId": "SC_a_b",
        "msgs": [
            {
                "type": 14,
                "packId": "m1",
                "version": 1,
                "flags": 4,
                "payload": {"from": "a", "to": "b", "content": "hi"},
            }
        ],
    }


def test_answers_write_every_field_and_requests_only_what_is_set() -> None:
    assert msgpack.unpackb(encode_payload(MsgAck())) == {
        "errorCode": {"code": 0, "desc": ""},
        "sessionId": "",
        "seqId": 0,
        "timestamp": 0,
        "prevSeqId": 0,
    }
    assert msgpack.unpackb(encode_payload(MsgReq(sender="a", to="b"))) == {"from": "a", "to": "b"}
    assert msgpack.unpackb(encode_payload(structs.HotSessionReq(timestamp=0))) == {"timestamp": 0}
    assert msgpack.unpackb(encode_payload(structs.CommonErrorCode(code=7, retry_after=250))) == {
        "code": 7,
        "desc": "",
        "retryAfter": 250,
    }


@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: row.name)
def test_an_error_has_the_shape_of_the_types_response(row: Any) -> None:
    payload = msgpack.unpackb(encode_error(row.number, Code.REFUSED, retry_after=1500))
    error = payload.get("errorCode", payload)
    assert error == {"code": 7, "desc": "refused for now: try again later", "retryAfter": 1500}


def test_an_error_about_an_unknown_type_is_a_bare_code() -> None:
    assert msgpack.unpackb(encode_error(99, Code.PROTOCOL, "no")) == {"code": 1, "desc": "no"}
    body = json.loads(JSON.encode(Pack(99, 1, ACK, "p", encode_error(99, Code.PROTOCOL, "no"))))
    assert body["payload"] == {"code": 1, "desc": "no"}


# What a request must carry


COMPLETE: dict[type[Payload], dict[str, Any]] = {
    structs.MsgReq: {"to": "b"},
    structs.MsgControl: {"command": 0, "sessionId": "s", "packId": "p", "seqId": 0},
    structs.MsgReaded: {"sessionId": "s", "seqId": 0},
    structs.HotSessionReq: {"timestamp": 0},
    structs.MsgHighPrioritySyncReq: {"seqId": 0},
    structs.HistoryMsgPullReq: {"sessionId": "s", "seqId": 0},
    structs.SessionMonitor: {"sessionId": "s"},
    structs.GroupChatSyncReq: {"timestamp": 0},
    structs.GroupChatCreateReq: {"groupInfo": {"name": "n"}, "memberIds": []},
    structs.GroupChatJoinQuitReq: {"groupId": "g", "memberIds": ["a"]},
    structs.GroupChatDismissReq: {"groupId": "g"},
    structs.GroupChatCreatorUpdateReq: {"groupId": "g", "newCreatorId": "a"},
    structs.GroupChatInfoUpdateReq: {"groupInfo": {"groupId": "g"}},
    structs.GroupChatMemberGetReq: {"groupId": "g"},
    structs.FriendAddReq: {"friends": [{"friendId": "a"}]},
    structs.FriendDelReq: {"friends": [{"friendId": "a"}]},
    structs.FriendSyncReq: {"timestamp": 0},
    structs.UserInfoGetReq: {"userIds": ["a"]},
    structs.UserInfoUpdateReq: {"userInfo": {}},
    structs.UserAttrSetReq: {"attribute": {"friendId": "a", "attrName": "n", "attrValue": ""}},
    structs.UserAttrGetReq: {"friendId": "a"},
    structs.SessionAttrSetReq: {"sessionId": "s", "attrName": "n", "attrValue": ""},
    structs.Empty: {},
    structs.LoginReq: {},
    structs_social.KickOut: {"deviceType": 1, "deviceId": "d"},
    structs_social.BlockReq: {"userIds": ["a"]},
    structs_social.FriendRequestAnswerReq: {"friendId": "a", "accept": 1},
    structs_social.PresenceGetReq: {},
    structs_social.PresenceSubscribeReq: {"userIds": ["a"]},
    structs_social.PresenceUnsubscribeReq: {},
    structs_social.Typing: {"sessionId": "s"},
    structs_social.PushRegisterReq: {"serviceType": "apns", "token": "t"},
    structs_social.PushUnregisterReq: {},
    structs_social.SearchReq: {"text": "t"},
}


def without_one(payload: dict[str, Any]) -> typing.Iterator[tuple[dict[str, Any], str]]:
    """The payload with each of its fields taken out, and made empty where it must not be; with the field's name."""
    for name, value in payload.items():
        rest = {key: other for key, other in payload.items() if key != name}
        yield rest, name
        if value and isinstance(value, str | list):
            yield rest | {name: type(value)()}, name
        record = value[0] if isinstance(value, list) and value else value
        if isinstance(record, dict):
            for inner, inner_name in without_one(record):
                yield rest | {name: [inner] if isinstance(value, list) else inner}, inner_name


def test_every_request_struct_says_what_it_must_carry() -> None:
    assert {row.request for row in TABLE.values() if row.request} == set(COMPLETE)


@pytest.mark.parametrize("cls", COMPLETE, ids=lambda cls: cls.__name__)
def test_a_missing_or_empty_required_field_is_code_2(cls: type[Payload]) -> None:
    assert missing(decode_payload(cls, msgpack.packb(COMPLETE[cls]))) is None
    for payload, name in without_one(COMPLETE[cls]):
        with pytest.raises(PayloadError) as refused:
            decode_payload(cls, msgpack.packb(payload))
        assert (refused.value.code, refused.value.desc) == (Code.PARAM, f"missing {name}")


@pytest.mark.parametrize("cls", [row.response for row in TABLE.values() if row.response], ids=lambda cls: cls.__name__)
def test_an_answer_is_complete_with_anything_missing(cls: type[Payload]) -> None:
    assert decode_payload(cls, b"") == cls()


# What is refused

EXT = msgpack.ExtType(5, b"x")
WRONG: dict[type, tuple[Any, ...]] = {
    int: ("1", 1.5, 1.0, float("nan"), None, True, [], {}, b"1", EXT, 2**63, -(2**31) - 1),
    str: (1, 1.5, float("nan"), None, True, [], {}, b"x", EXT),
    list: (1, "x", None, {}, b"x", EXT, [EXT], [None], [[]], [1.5], {"a": 1}),
    dict: (1, "x", None, [], b"x", EXT, [[]]),
}


def wrong_values(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is list:
        return WRONG[list]
    if typing.get_origin(hint) is not None:
        return wrong_values(typing.get_args(hint)[0])
    if hint is int:
        return WRONG[int]
    return WRONG[str] if hint is str else WRONG[dict]


def fields_of_wrong_type(cls: type[Payload]) -> typing.Iterator[tuple[str, Any]]:
    for (attribute, hint), wire_name in zip(hints(cls).items(), cls.__struct_encode_fields__, strict=True):
        for value in wrong_values(hint):
            if value == -(2**31) - 1 and hints(cls)[attribute] == Int64:
                continue
            yield wire_name, value


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_a_field_of_the_wrong_type_is_code_42(cls: type[Payload]) -> None:
    for name, value in fields_of_wrong_type(cls):
        with pytest.raises(PayloadError) as refused:
            decode_payload(cls, msgpack.packb({name: value}))
        assert refused.value.code == Code.MSG_FORMAT, (name, value)
        assert len(refused.value.desc) < 60


@pytest.mark.parametrize(("number", "response"), ROUTES)
def test_a_json_field_of_the_wrong_type_is_code_42(number: int, response: bool) -> None:
    row = TABLE[number]
    cls = row.response if response else row.request or row.push
    for name, value in fields_of_wrong_type(cls) if cls else ():
        if isinstance(value, bytes | msgpack.ExtType) or value == [EXT]:
            continue
        text = json.dumps({name: value}).encode()
        with pytest.raises(PayloadError) as refused:
            JSON.canonical(number, text, response=response)
        assert refused.value.code == Code.MSG_FORMAT, text


DEEP = 200_000
HOSTILE_MSGPACK = {
    "deep arrays": b"\x91" * DEEP,
    "deep arrays in an unknown field": b"\x81\xa1x" + b"\x91" * DEEP + b"\x01",
    "deep maps in an unknown field": b"\x81\xa1x" + b"\x81\xa1x" * DEEP + b"\x01",
    "deep arrays in a known field": b"\x81\xa8mentions" + b"\x91" * DEEP + b"\x01",
    "map length lies": b"\xdf\xff\xff\xff\xff",
    "map length lies, some follows": b"\xdf\xff\xff\xff\xff\xa1x\x01",
    "array length lies": b"\x81\xa8mentions\xdd\xff\xff\xff\xff",
    "string length lies": b"\x81\xa2to\xdb\xff\xff\xff\xff" + b"x" * 100,
    "unknown bin length lies": b"\x81\xa1x\xc6\xff\xff\xff\xff",
    "too many items": b"\x81\xa8mentions\xdd" + (MAX_ITEMS + 1).to_bytes(4, "big") + b"\xa0" * (MAX_ITEMS + 1),
    "invalid UTF-8": b"\x81\xa2to\xa2\xff\xfe",
    "surrogate in UTF-8": b"\x81\xa2to\xa3\xed\xa0\x80",
    "key is an int": b"\x81\x01\xa1b",
    "key is nil": b"\x81\xc0\xa1b",
    "key is bin": b"\x81\xc4\x02to\xa1b",
    "key is an array": b"\x81\x90\xa1b",
    "uint64 above int64": b"\x81\xa5seqId\xcf" + b"\xff" * 8,
    "NaN": b"\x81\xa5seqId\xcb\x7f\xf8" + b"\x00" * 6,
    "ext": b"\x81\xa2to\xd6\xff\x00\x00\x00\x00",
    "not a map": b"\x95\x01\x02\x03\x04\x05",
    "nil": b"\xc0",
    "reserved byte": b"\xc1",
    "trailing bytes": b"\x80\x80",
}


@pytest.mark.parametrize("name", HOSTILE_MSGPACK)
def test_hostile_msgpack_is_code_42(name: str) -> None:
    with pytest.raises(PayloadError) as refused:
        decode_payload(MsgReq, HOSTILE_MSGPACK[name])
    assert refused.value.code == Code.MSG_FORMAT


HOSTILE_JSON = {
    "deep arrays": b"[" * DEEP,
    "deep arrays in an unknown field": b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects in an unknown field": b'{"x":' * DEEP + b"1" + b"}" * DEEP,
    "too many items": b'{"mentions":[' + b'"",' * MAX_ITEMS + b'""]}',
    "invalid UTF-8": b'{"to":"\xff"}',
    "lone surrogate": b'{"to":"\\ud800"}',
    "lone surrogate, text follows": b'{"to":"\\udc00abcdefgh"}',
    "huge int": b'{"seqId":' + b"9" * 5000 + b"}",
    "int above int64": b'{"seqId":9223372036854775808}',
    "float for int": b'{"seqId":1e3}',
    "infinite": b'{"seqId":1e999}',
    "NaN": b'{"seqId":NaN}',
    "null": b"null",
    "array": b"[]",
    "text": b'"{}"',
    "trailing bytes": b"{} {}",
    "cut": b'{"to":"b"',
    "blank": b" ",
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_json_is_code_42(name: str) -> None:
    with pytest.raises(PayloadError) as refused:
        JSON.canonical(MSG_SINGLE_CHAT, HOSTILE_JSON[name])
    assert refused.value.code == Code.MSG_FORMAT


def test_unknown_fields_are_ignored_and_json_drops_them() -> None:
    assert decode_payload(MsgReq, msgpack.packb({"to": "b", "x": EXT, "y": {"z": [1.5, b""]}})) == MsgReq(to="b")
    assert JSON.canonical(MSG_SINGLE_CHAT, b'{"to":"b","x":[{}]}') == encode_payload(MsgReq(to="b"))


def test_of_a_repeated_key_the_last_counts_in_every_reader() -> None:
    assert decode_payload(MsgReq, b"\x82\xa2to\xa1a\xa2to\xa1b").to == "b"
    assert decode_payload(MsgReq, JSON.canonical(MSG_SINGLE_CHAT, b'{"to":"a","to":"b"}')).to == "b"


def test_an_error_names_our_fields_and_nothing_of_the_input() -> None:
    with pytest.raises(PayloadError) as refused:
        decode_payload(structs.FriendAddReq, msgpack.packb({"friends": [{"friendId": "a"}, {"friendId": 5}]}))
    assert refused.value.desc == "bad friends[1].friendId"


FULL = MsgReq(session_id="SC_a_b", sender="a", to="b", content="ü" * 40, mentions=["*"], content_type=300)


def test_a_payload_cut_anywhere_is_code_42() -> None:
    payload = encode_payload(FULL)
    text = msgspec.json.encode(FULL)
    for end in range(1, len(payload)):
        with pytest.raises(PayloadError) as refused:
            decode_payload(MsgReq, payload[:end])
        assert refused.value.code == Code.MSG_FORMAT
    for end in range(1, len(text)):
        with pytest.raises(PayloadError):
            JSON.canonical(MSG_SINGLE_CHAT, text[:end])


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60), st.sampled_from(ALL), st.sampled_from(list(TABLE)))
def test_noise_raises_nothing_but_our_errors(noise: bytes, cls: type[Payload], number: int) -> None:
    for payload in (noise, b"\x81" + noise, encode_payload(FULL)[:-10] + noise):
        try:
            decode_payload(cls, payload)
        except PayloadError:
            pass
    for text in (noise, b"{" + noise + b"}", b'{"to":"' + noise + b'"}'):
        try:
            encode_payload(decode_payload(MsgReq, JSON.canonical(number, text)))
        except PayloadError:
            pass
