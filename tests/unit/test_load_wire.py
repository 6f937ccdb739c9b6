"""The load's own client goes red when the server breaks the protocol, and keeps to the protocol itself."""

from __future__ import annotations

from packs import structs as s
from packs import table as t
from packs.codec import encode_payload
from packs.flags import ACK, COUNTER, DUP
from packs.pack import VERSION, Pack
from packs.structs import Payload
from tests.load_wire import ANSWER_SECONDS, Wire


class Server:
    """The other end, told what to say. Time stands still unless a test moves it."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, str, int]] = []  # (type, packId, flags)
        self.delivered: list[tuple[int, str]] = []
        self.outcomes: list[int | None] = []
        self.time = 0.0
        self.wire = Wire("b", "a", self._write, lambda seq, text: self.delivered.append((seq, text)))
        self.log_in()

    def _write(self, pack_type: int, payload: Payload | bytes, pack_id: str, flags: int) -> None:
        self.requests.append((pack_type, pack_id, flags))

    def log_in(self) -> None:
        """A new connection, and an empty answer to the first pull."""
        self.wire.disconnected()
        self.requests = []
        self.wire.connected(self.time)
        self.page()

    def sent(self) -> list[tuple[str, bool]]:
        """(packId, DUP) of the messages since the last look."""
        found = [(p, bool(flags & DUP)) for pack_type, p, flags in self.requests if pack_type == t.MSG_SINGLE_CHAT]
        self.requests = []
        return found

    def send(self, text: str) -> str:
        self.wire.send(text, self.outcomes.append, self.time)
        return list(self.wire.unacked)[-1]

    def answer(self, pack_type: int, pack_id: str, response: Payload) -> None:
        self.wire.came(Pack(pack_type, VERSION, ACK, pack_id, encode_payload(response)), self.time)

    def ack(self, pack_id: str, seq: int = 0, prev: int = 0, code: int = 0) -> None:
        error_code = s.CommonErrorCode(code=code)
        self.answer(t.MSG_SINGLE_CHAT, pack_id, s.MsgAck(error_code=error_code, seq_id=seq, prev_seq_id=prev))

    def push(self, seq: int, prev: int, text: str, flags: int = 0) -> None:
        self.wire.came(self._pack(seq, prev, text, flags), self.time)

    def page(self, *entries: tuple[int, int, str]) -> None:
        """The answer to the pull that is under way, newest first."""
        pulls = [pack_id for pack_type, pack_id, _ in self.requests if pack_type == t.HISTORY_MSG_PULL]
        msgs = [self._pack(*entry) for entry in entries]
        self.answer(t.HISTORY_MSG_PULL, pulls[-1], s.HistoryMsgPullResp(session_id="SC_a_b", msgs=msgs))

    @staticmethod
    def _pack(seq: int, prev: int, text: str, flags: int = 0) -> Pack:
        message = s.MsgReq(session_id="SC_a_b", sender="a", to="b", content=text, seq_id=seq, prev_seq_id=prev)
        return Pack(t.MSG_SINGLE_CHAT, VERSION, flags | COUNTER, f"id-{text}", encode_payload(message))

    def wait(self, seconds: float) -> None:
        self.time += seconds
        self.wire.tick(self.time)


def test_a_good_server_is_green() -> None:
    server = Server()
    server.push(1, 0, "a:0")
    server.ack(server.send("b:0"), 2, 1)
    server.push(3, 2, "a:1")
    server.push(3, 2, "a:1", DUP)
    assert server.delivered == [(1, "a:0"), (3, "a:1")]
    assert server.outcomes == [2]
    assert server.wire.violations == []


def test_an_ack_that_overtakes_a_push_makes_no_pull() -> None:
    server = Server()
    server.requests = []
    server.ack(server.send("b:0"), 2, 1)
    server.push(1, 0, "a:0")
    server.wait(1.0)
    assert server.delivered == [(1, "a:0")]
    assert [pack_type for pack_type, _, _ in server.requests] == [t.MSG_SINGLE_CHAT]


def test_a_gap_is_pulled_page_by_page() -> None:
    server = Server()
    server.push(4, 3, "a:3")
    server.wait(1.0)
    server.page((4, 3, "a:3"), (3, 2, "a:2"))
    assert server.delivered == []
    server.page((2, 1, "a:1"), (1, 0, "a:0"))
    assert server.delivered == [(1, "a:0"), (2, "a:1"), (3, "a:2"), (4, "a:3")]
    assert server.wire.violations == []


def test_a_failed_message_stops_the_queue_and_all_is_resent_in_order() -> None:
    server = Server()
    ids = [server.send(f"b:{n}") for n in range(3)]
    assert server.sent() == [(i, False) for i in ids]
    server.ack(ids[0], 1)
    server.ack(ids[1], code=6)
    ids.append(server.send("b:3"))
    server.wait(1.0)
    assert server.sent() == []  # the third is still under way
    server.ack(ids[2], code=6)
    server.wait(1.0)
    assert server.sent() == [(ids[1], True), (ids[2], True), (ids[3], False)]
    server.ack(ids[1], 2, 1, code=46)
    server.ack(ids[2], 3, 2)
    server.ack(ids[3], 4, 3)
    assert server.outcomes == [1, 2, 3, 4]
    assert server.wire.violations == []


def test_a_new_connection_begins_with_what_has_no_ack() -> None:
    server = Server()
    first = server.send("b:0")
    server.wire.disconnected()
    second = server.send("b:1")
    server.requests = []
    server.wire.connected(server.time)
    assert server.sent() == [(first, True), (second, False)]


def test_a_refused_message_is_not_sent_again() -> None:
    server = Server()
    server.ack(server.send("b:0"), code=41)
    assert server.outcomes == [None]
    server.log_in()
    assert server.sent() == []


def test_one_push_too_many_is_red() -> None:
    server = Server()
    server.push(1, 0, "a:0")
    server.push(1, 0, "a:0")
    assert "pushed twice" in server.wire.violations[0]


def test_one_answer_too_many_is_red() -> None:
    server = Server()
    pack_id = server.send("b:0")
    server.ack(pack_id, 1)
    server.ack(pack_id, 1)
    assert "one more answer" in server.wire.violations[0]


def test_no_answer_is_red() -> None:
    server = Server()
    server.send("b:0")
    server.wait(ANSWER_SECONDS + 0.1)
    assert "no answer" in server.wire.violations[0]


def test_a_number_for_two_messages_is_red() -> None:
    server = Server()
    server.push(1, 0, "a:0")
    server.log_in()
    server.push(1, 0, "a:9", DUP)
    assert "denotes" in server.wire.violations[0]


def test_a_message_where_the_chain_said_there_is_none_is_red() -> None:
    server = Server()
    server.push(1, 0, "a:0")
    server.push(5, 1, "a:1")
    server.push(3, 1, "a:2")
    assert "chain" in server.wire.violations[0]


def test_a_message_of_others_is_red() -> None:
    server = Server()
    message = s.MsgReq(session_id="SC_b_c", sender="c", to="b", content="c:0", seq_id=1)
    server.wire.came(Pack(t.MSG_SINGLE_CHAT, VERSION, 0, "x", encode_payload(message)), 0.0)
    assert "not ours" in server.wire.violations[0]
