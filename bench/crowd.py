"""A generator of group load: one group, many connections of its members, some of whom write without pause.

Senders keep `window` messages each unanswered. Everybody's messages are counted; a few watch, and check that each
message comes once and in order, and how long it took.
"""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from bench.pairs import RECV_BYTES, TEXT_BYTES, Peer, connect
from packs import structs as s
from packs import table as t
from packs.codec import decode_payload, encode_payload
from packs.connection import ClientConnection
from packs.flags import ACK, COUNTER
from packs.frames import FrameReader

WATCHERS = 8
IDS_PER_REQUEST = 9_000
"""Ids in one request that adds members."""
QUIET_SECONDS = 0.5
"""Without a byte for so long, everything has come."""
_length = struct.Struct(">I").pack
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, int, str, bytes]).decode


@dataclass
class Result:
    """What one run saw."""

    sent: int = 0
    acked: int = 0
    delivered: int = 0
    wrong: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


class Crowd:
    """One group: members online, and as many that are not as `members` says."""

    def __init__(self, address: tuple[str, int], name: str, online: int, members: int) -> None:
        self.users = [f"{name}m{n}" for n in range(online)]
        self.peers = connect(address, self.users)
        self._seen: dict[int, int] = {}  # watcher -> the number of the last message
        self._tails = {peer.sock.fileno(): b"" for peer in self.peers}
        self._readers: dict[int, FrameReader] = {}
        self._epoll = select.epoll()
        self._by_fd = {peer.sock.fileno(): peer for peer in self.peers}
        self._result = Result()
        self._more = False
        self._senders: Sequence[Peer] = ()
        owner = self.peers[0]
        absent = [f"{name}absent{n}" for n in range(members - online)]
        request = s.GroupChatCreateReq(
            group_info=s.GroupChatInfo(name=name, member_limit=max(members, 1)), member_ids=self.users[1:]
        )
        self.group: str = self._ask(owner, t.GROUPCHAT_CREATE, request).group_id
        started = time.perf_counter()
        self.slowest_join = 0.0
        for i in range(0, len(absent), IDS_PER_REQUEST):
            begun = time.perf_counter()
            joined = s.GroupChatJoinQuitReq(group_id=self.group, member_ids=absent[i : i + IDS_PER_REQUEST])
            self._ask(owner, t.GROUPCHAT_JOIN, joined)
            self.slowest_join = max(self.slowest_join, time.perf_counter() - begun)
        self.filled_in = time.perf_counter() - started
        for peer in self.peers:
            peer.sock.setblocking(False)
            self._epoll.register(peer.sock.fileno(), select.EPOLLIN)
        self._drain()

    def _ask(self, peer: Peer, pack_type: int, payload: s.Payload) -> s.Payload:
        """A request and its answer, while nothing else is under way."""
        machine = ClientConnection()
        peer.sock.sendall(machine.request(pack_type, payload, f"{time.perf_counter()}"))
        while True:
            for pack in machine.receive(peer.sock.recv(RECV_BYTES)):
                if pack.flags & ACK:
                    answer = decode_payload(t.payload_struct(pack.type, response=True), pack.payload)
                    code = answer.code if isinstance(answer, s.CommonErrorCode) else answer.error_code.code  # type: ignore[attr-defined]
                    if code:
                        raise RuntimeError(f"{pack_type}: {answer}")
                    return answer

    def closed_loop(self, senders: int, window: int, seconds: float) -> Result:
        """`senders` members keep `window` messages each unanswered for `seconds`."""
        self._start(senders)
        started = time.perf_counter()
        for peer in self._senders:
            for _ in range(window):
                self._send(peer)
            self._flush(peer)
        self._more = True
        while (now := time.perf_counter()) < started + seconds:
            self._poll(started + seconds - now)
        return self._finish(started)

    def open_loop(self, rate: float, seconds: float) -> Result:
        """One member sends `rate` messages a second for `seconds`."""
        self._start(1)
        started = time.perf_counter()
        while (now := time.perf_counter()) < started + seconds:
            while self._result.sent < (now - started) * rate:
                self._send(self._senders[0])
            self._flush(self._senders[0])
            self._poll(min(0.001, 1 / rate))
        return self._finish(started)

    def _start(self, senders: int) -> None:
        self._result = Result()
        self._senders = self.peers[:senders]
        self._readers = {p.sock.fileno(): FrameReader() for p in self.peers[:senders] + self.peers[-WATCHERS:]}

    def _finish(self, started: float) -> Result:
        result = self._result
        result.seconds = time.perf_counter() - started
        self._more = False
        self._drain()
        result.delivered -= result.acked
        missing = result.sent * (len(self.peers) - 1) - result.delivered
        result.wrong += abs(missing)
        return result

    def _send(self, peer: Peer) -> None:
        peer.number += 1
        text = f"{time.perf_counter():.6f}".rjust(TEXT_BYTES)
        payload = encode_payload(s.MsgReq(to=self.group, content=text, content_type=1))
        body = _encode((t.MSG_GROUP_CHAT, 1, COUNTER, f"{peer.user}-{peer.number}", payload))
        peer.out.append(_length(len(body) + 4) + body)
        self._result.sent += 1

    def _flush(self, peer: Peer) -> None:
        if peer.out:
            data, peer.out = b"".join(peer.out), []
            peer.sock.sendall(data)

    def _poll(self, seconds: float) -> bool:
        events = self._epoll.poll(seconds, 1024)
        for fd, _ in events:
            try:
                data = self._by_fd[fd].sock.recv(RECV_BYTES)
            except BlockingIOError:
                continue
            if not data:
                raise RuntimeError("a connection was closed")
            reader = self._readers.get(fd)
            if reader is None:
                self._counted(fd, data)
            else:
                self._read(self._by_fd[fd], reader.feed(data))
        return bool(events)

    def _counted(self, fd: int, data: bytes) -> None:
        """Frames of somebody who only counts."""
        data = self._tails[fd] + data
        at, end, count = 0, len(data), 0
        while end - at >= 4:
            size = int.from_bytes(data[at : at + 4], "big")
            if end - at < size:
                break
            count += data[at + 5] == t.MSG_GROUP_CHAT
            at += size
        self._tails[fd] = data[at:]
        self._result.delivered += count

    def _read(self, peer: Peer, bodies: list[bytes]) -> None:
        now, result = time.perf_counter(), self._result
        for body in bodies:
            pack_type, _, flags, _, payload = _decode(body)
            if pack_type != t.MSG_GROUP_CHAT:
                continue
            result.delivered += 1
            if flags & ACK:
                result.acked += 1
                if decode_payload(s.MsgAck, payload).error_code.code:
                    result.wrong += 1
                if self._more:
                    self._send(peer)
                continue
            message = decode_payload(s.MsgReq, payload)
            if message.seq_id <= self._seen.get(id(peer), 0):
                result.wrong += 1
            self._seen[id(peer)] = message.seq_id
            result.latencies.append(now - float(message.content))
        self._flush(peer)

    def _drain(self) -> None:
        quiet = time.perf_counter() + QUIET_SECONDS
        while time.perf_counter() < quiet:
            if self._poll(0.05):
                quiet = time.perf_counter() + QUIET_SECONDS

    def close(self) -> None:
        for peer in self.peers:
            peer.sock.close()
        self._epoll.close()
