"""imesh's own protocol, in msgpack, over TCP or TLS."""

from __future__ import annotations

import socket
import ssl
import struct
import time

import msgspec

from bench.dialects import BATCH, RECV_BYTES, Peer, Took, dial
from packs import structs as s
from packs import table as t
from packs.codec import decode_payload, encode_payload
from packs.connection import ClientConnection
from packs.flags import ACK, COUNTER

PREFIX = 4
"""Bytes of a frame before its body."""
PAGE = 100
"""Messages asked for at once in history."""
_length = struct.Struct(">I").pack
_encode = msgspec.msgpack.Encoder().encode
_MESSAGES = (t.MSG_SINGLE_CHAT, t.MSG_GROUP_CHAT)


class _Header(msgspec.Struct, array_like=True, gc=False):
    type: int
    version: int
    flags: int
    pack_id: str
    payload: bytes


class _Ack(msgspec.Struct, rename="camel", gc=False):
    error_code: dict[str, object] = {}


class _Message(msgspec.Struct, gc=False):
    content: str = ""


_header = msgspec.msgpack.Decoder(_Header).decode
_ack = msgspec.msgpack.Decoder(_Ack).decode
_message = msgspec.msgpack.Decoder(_Message).decode


class Imesh:
    """A dialect; `tls` for connections by TLS."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.endpoint = "tcp" if tls is None else "tls"

    def register(self, address: tuple[str, int], users: list[str]) -> None:
        pass  # in open mode anybody is who he says

    def away(self, address: tuple[str, int], users: list[str]) -> None:
        pass  # everybody's messages are kept

    def connect(self, address: tuple[str, int], users: list[str], at_once: int = BATCH) -> list[Peer]:
        peers: list[Peer] = []
        login = ClientConnection()
        for i in range(0, len(users), at_once):
            fresh = [Peer(user, self._dial(address)) for user in users[i : i + at_once]]
            for peer in fresh:
                request = s.LoginReq(client_id=peer.user, device_type=5, device_id="bench")
                peer.sock.sendall(self._framed(login.request(t.LOGIN, request, "login")[PREFIX:]))
            for peer in fresh:
                if b"\xa4code\x00" not in peer.sock.recv(4096):
                    raise RuntimeError(f"login of {peer.user} failed")
            peers += fresh
        return peers

    def _dial(self, address: tuple[str, int]) -> socket.socket:
        sock = dial(address)
        return self._tls.wrap_socket(sock, server_hostname="localhost") if self._tls is not None else sock

    def acknowledge(self, peers: list[Peer]) -> None:
        pass  # every message is answered

    def group(self, peers: list[Peer], name: str) -> str:
        info = s.GroupChatInfo(name=name, member_limit=100_000)
        request = s.GroupChatCreateReq(group_info=info, member_ids=[peer.user for peer in peers[1:]])
        answer: s.GroupChatCreateResp = ask(peers[0].sock, t.GROUPCHAT_CREATE, request)
        return answer.group_id

    def single(self, peer: Peer, to: str, text: str) -> bytes:
        return self._framed(_body(t.MSG_SINGLE_CHAT, peer, to, text))

    def to_group(self, peer: Peer, group: str, text: str) -> bytes:
        return self._framed(_body(t.MSG_GROUP_CHAT, peer, group, text))

    def _framed(self, body: bytes) -> bytes:
        """A body as it is sent."""
        return _length(len(body) + PREFIX) + body

    def _bodies(self, peer: Peer, data: bytes) -> list[bytes]:
        """The bodies that these bytes complete."""
        found = []
        data = peer.rest + data
        start, end = 0, len(data)
        while end - start >= PREFIX:
            stop = start + int.from_bytes(data[start : start + PREFIX], "big")
            if stop > end:
                break
            found.append(data[start + PREFIX : stop])
            start = stop
        peer.rest = data[start:]
        return found

    def take(self, peer: Peer, data: bytes) -> Took:
        acked, refused, texts = 0, 0, []
        for body in self._bodies(peer, data):
            pack = _header(body)
            if pack.type not in _MESSAGES:
                continue
            if pack.flags & ACK:
                acked += 1
                refused += _ack(pack.payload).error_code.get("code") != 0
            else:
                texts.append(_message(pack.payload).content)
        return Took(acked, refused, texts)

    def counted(self, peer: Peer, data: bytes) -> int:
        data = peer.rest + data
        at, end, count = 0, len(data), 0
        while end - at >= 4:
            size = int.from_bytes(data[at : at + 4], "big")
            if end - at < size:
                break
            count += data[at + 5] == t.MSG_GROUP_CHAT
            at += size
        peer.rest = data[at:]
        return count

    def catch_up(self, address: tuple[str, int], users: list[str], messages: int) -> list[list[str]]:
        """As an app does it: log in, recent sessions (19), pages of the history of each (21), all users in step."""
        peers = self.connect(address, users, len(users))
        for peer in peers:
            request_of(peer.sock, t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0))
        recent: list[s.HotSessionResp] = [answer_of(peer.sock) for peer in peers]
        texts = []
        for peer, answer in zip(peers, recent, strict=True):
            unread = [_Unread(session.session_id, session.unread_count) for session in answer.sessions]
            texts.append((peer, unread))
        while wanting := [(peer, one) for peer, unread in texts if (one := next(filter(_Unread.more, unread), None))]:
            for peer, one in wanting:
                request_of(peer.sock, t.HISTORY_MSG_PULL, one.request())
            for peer, one in wanting:
                one.take(page_in(answer_of(peer.sock)))
        for peer in peers:
            peer.sock.close()
        return [[text for one in unread for text in reversed(one.texts)] for _, unread in texts]


class _Unread:
    """What is fetched of one session, newest first."""

    def __init__(self, session: str, count: int) -> None:
        self.texts: list[str] = []
        self._session, self._left, self._seq = session, count, 0

    def more(self) -> bool:
        return self._left > 0

    def request(self) -> s.HistoryMsgPullReq:
        return s.HistoryMsgPullReq(session_id=self._session, seq_id=self._seq, count=min(self._left, PAGE))

    def take(self, page: list[s.MsgReq]) -> None:
        self.texts += (message.content for message in page)
        self._left = self._left - len(page) if page else 0
        self._seq = page[-1].prev_seq_id if page else 0


def _body(pack_type: int, peer: Peer, to: str, text: str) -> bytes:
    payload = encode_payload(s.MsgReq(to=to, content=text, content_type=1))
    return _encode((pack_type, 1, COUNTER, f"{peer.user}-{peer.number}", payload))


def ask(sock: socket.socket, pack_type: int, payload: s.Payload):  # type: ignore[no-untyped-def]
    """A request and its answer, while nothing else is under way. Raises `RuntimeError` when it is refused."""
    request_of(sock, pack_type, payload)
    return answer_of(sock)


def request_of(sock: socket.socket, pack_type: int, payload: s.Payload) -> None:
    """Send a request."""
    sock.sendall(ClientConnection().request(pack_type, payload, f"{time.perf_counter()}", COUNTER))


def answer_of(sock: socket.socket):  # type: ignore[no-untyped-def]
    """The answer to the only request that is under way. Raises `RuntimeError` when it was refused."""
    machine = ClientConnection()
    while True:
        for pack in machine.receive(sock.recv(RECV_BYTES)):
            if pack.flags & ACK:
                answer = decode_payload(t.payload_struct(pack.type, response=True), pack.payload)
                code = answer.code if isinstance(answer, s.CommonErrorCode) else answer.error_code.code  # type: ignore[attr-defined]
                if code:
                    raise RuntimeError(f"{pack.type}: {answer}")
                return answer


def page_in(answer: s.HistoryMsgPullResp) -> list[s.MsgReq]:
    """The messages of a page of history, newest first."""
    return [decode_payload(s.MsgReq, pack.payload) for pack in answer.msgs]
