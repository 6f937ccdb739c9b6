"""The table against the protocol's numbers, and what routes a request."""

from __future__ import annotations

import msgpack
import pytest

from packs import table
from packs.codec import PayloadError, encode_payload
from packs.codes import DESCRIPTIONS, Code, describe
from packs.ids import single_session
from packs.structs import CommonErrorCode, MsgControl, MsgReaded, MsgReq, Payload
from packs.table import TABLE, payload_struct, route_key

# number: request, response, push, owner, key; "-" is none. Struct names are those of the protocol.
PROTOCOL = """
10 Empty CommonErrorCode - broker user
11 LoginReq LoginResp - broker user
12 Empty CommonErrorCode - broker user
13 KickOut KickOutAck KickOut user user
14 MsgReq MsgAck MsgReq chat session
15 MsgReq MsgAck MsgReq group session
16 - MsgAck MsgReq chat user
17 MsgControl CommonErrorCode MsgControl msgop session
18 MsgReaded CommonErrorCode MsgReaded msgop session
19 HotSessionReq HotSessionResp - history user
20 MsgHighPrioritySyncReq MsgHighPrioritySyncResp - history user
21 HistoryMsgPullReq HistoryMsgPullResp - history session
22 SessionMonitor CommonErrorCode - broker user
23 SessionMonitor CommonErrorCode - broker user
24 Empty HotSessionResp - broker user
25 - - SyncDataReq - user
40 GroupChatSyncReq GroupChatSyncResp - group user
41 GroupChatCreateReq GroupChatCreateResp - group user
42 GroupChatJoinQuitReq CommonErrorCode - group group
43 GroupChatJoinQuitReq CommonErrorCode - group group
44 GroupChatDismissReq CommonErrorCode - group group
45 GroupChatCreatorUpdateReq CommonErrorCode - group group
46 GroupChatInfoUpdateReq CommonErrorCode - group group
47 GroupChatMemberGetReq GroupChatMemberGetResp - group group
51 FriendAddReq CommonErrorCode - user user
52 FriendDelReq CommonErrorCode - user user
53 FriendSyncReq FriendSyncResp - user user
54 UserInfoGetReq UserInfoGetResp - user user
55 UserInfoUpdateReq CommonErrorCode - user user
56 UserAttrSetReq CommonErrorCode - user user
57 UserAttrGetReq UserAttrGetResp - user user
58 SessionAttrSetReq CommonErrorCode - user user
60 BlockReq CommonErrorCode - user user
61 BlockReq CommonErrorCode - user user
62 Empty BlocklistResp - user user
63 Empty FriendRequestsResp - user user
64 FriendRequestAnswerReq CommonErrorCode - user user
65 PresenceGetReq PresenceResp - user user
66 PresenceSubscribeReq PresenceResp - broker user
67 PresenceUnsubscribeReq CommonErrorCode - broker user
68 - - PresencePush - user
69 Typing CommonErrorCode Typing user user
70 Empty DevicesResp - user user
71 PushRegisterReq CommonErrorCode - push user
72 PushUnregisterReq CommonErrorCode - push user
73 Empty PushRegistrationsResp - push user
75 SearchReq SearchResp - olap user
"""


def test_the_table_is_the_protocols() -> None:
    def name(struct: type[Payload] | None) -> str:
        return struct.__name__ if struct else "-"

    rows = [
        f"{number} {name(row.request)} {name(row.response)} {name(row.push)} {row.owner or '-'} {row.key}"
        for number, row in sorted(TABLE.items())
    ]
    assert rows == PROTOCOL.strip().splitlines()


def test_every_constant_is_the_number_of_the_row_of_that_name() -> None:
    assert {row.name: row.number for row in TABLE.values()} == {
        name: value for name, value in vars(table).items() if name.isupper() and isinstance(value, int)
    }


def test_every_answer_can_carry_a_code() -> None:
    for row in TABLE.values():
        if row.response is not None:
            assert row.response is CommonErrorCode or row.response().error_code == CommonErrorCode()


def test_a_type_that_the_table_lacks_has_the_structs_of_an_error_about_it() -> None:
    assert payload_struct(99, response=True) is CommonErrorCode
    assert payload_struct(99, response=False)() == table.TABLE[table.PING].request()


ROUTES = [
    (14, MsgReq(sender="bob", to="al_ice", content="x" * 200), "SC_al~ice_bob"),
    (14, MsgReq(session_id="nonsense", to="bob"), "SC_bob_bob"),
    (15, MsgReq(sender="bob", to="GC_1", session_id="GC_2"), "GC_1"),
    (17, MsgControl(command=1, session_id="SC_bob_alice", pack_id="p", seq_id=1), "SC_alice_bob"),
    (18, MsgReaded(session_id="GC_1", seq_id=1), "GC_1"),
    (18, MsgReaded(session_id="BM_app_bob", seq_id=1), "BM_app_bob"),
]


@pytest.mark.parametrize(("type_", "payload", "key"), ROUTES)
def test_session_types_are_routed_by_their_session(type_: int, payload: Payload, key: str) -> None:
    assert route_key(type_, encode_payload(payload), "bob") == key


def test_both_ends_of_a_single_chat_have_one_key() -> None:
    keys = {route_key(14, encode_payload(MsgReq(to=to)), me) for me, to in (("a_", "a.b"), ("a.b", "a_"))}
    assert keys == {single_session("a_", "a.b")}


def test_other_types_are_routed_by_the_user_and_their_payload_is_not_read() -> None:
    for row in TABLE.values():
        if row.key == "user":
            assert route_key(row.number, b"\xc1", "bob") == "bob"


@pytest.mark.parametrize(
    ("type_", "payload", "code"),
    [
        (14, {}, Code.PARAM),
        (14, {"to": ""}, Code.PARAM),
        (14, {"to": "a b"}, Code.PARAM),
        (14, {"to": "a\n"}, Code.PARAM),
        (14, {"to": "ä"}, Code.PARAM),
        (14, {"to": 5}, Code.MSG_FORMAT),
        (14, {"to": "a", "sessionId": None}, Code.MSG_FORMAT),
        (15, {"to": "bob"}, Code.PARAM),
        (17, {"to": "bob"}, Code.PARAM),
        (18, {"sessionId": "SC_a"}, Code.PARAM),
        (21, {"sessionId": "XX_1"}, Code.PARAM),
        (99, {}, Code.PROTOCOL),
    ],
)
def test_a_bad_key_is_refused(type_: int, payload: dict[str, object], code: Code) -> None:
    with pytest.raises(PayloadError) as refused:
        route_key(type_, msgpack.packb(payload), "bob")
    assert refused.value.code == code


@pytest.mark.parametrize(
    "payload", [b"\xc1", b"\x81", b"\x95", b"\x81\xa1x" + b"\x91" * 200_000, b"\x81\xa2to\xa1\xff"]
)
def test_an_unreadable_payload_is_not_routed(payload: bytes) -> None:
    with pytest.raises(PayloadError) as refused:
        route_key(14, payload, "bob")
    assert refused.value.code == Code.MSG_FORMAT


def test_an_empty_payload_has_no_key() -> None:
    with pytest.raises(PayloadError) as refused:
        route_key(14, b"", "bob")
    assert (refused.value.code, refused.value.desc) == (Code.PARAM, "bad to")


def test_every_code_is_described() -> None:
    assert set(DESCRIPTIONS) == set(Code)
    assert all(text.isascii() and 0 < len(text) < 80 for text in DESCRIPTIONS.values())
    assert describe(2) == DESCRIPTIONS[Code.PARAM]
    assert describe(4) == "code 4"


def test_the_codes_are_the_protocols() -> None:
    assigned = {*range(4), *range(5, 12), *range(20, 29), *range(30, 37), *range(40, 48), *range(50, 53), 60, 61}
    assert {int(code) for code in Code} == assigned
