"""MQTT 5 at QoS 1, written by hand: a topic per user and per group. Receivers acknowledge, as QoS 1 demands."""

from __future__ import annotations

from collections.abc import Iterator

from bench.dialects import BATCH, RECV_BYTES, Peer, Took, dial

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK = 1, 2, 3, 4, 8, 9
_QOS1, _NO_LOCAL = 1, 4
_REFUSED = 0x80
_KEPT_SECONDS = 3600
_PACKET_IDS = 65_535


class Mqtt:
    """A dialect."""

    endpoint = "mqtt"

    def register(self, address: tuple[str, int], users: list[str]) -> None:
        pass  # anonymous clients are let in

    def away(self, address: tuple[str, int], users: list[str]) -> None:
        for peer in self._connect(address, users, kept=True):
            self._subscribe(peer, f"u/{peer.user}")
            self._subscribed(peer)
            peer.sock.close()

    def connect(self, address: tuple[str, int], users: list[str], at_once: int = BATCH) -> list[Peer]:
        peers: list[Peer] = []
        for i in range(0, len(users), at_once):
            fresh = self._connect(address, users[i : i + at_once], kept=False)
            for peer in fresh:
                self._subscribe(peer, f"u/{peer.user}")
            for peer in fresh:
                self._subscribed(peer)
            peers += fresh
        return peers

    @staticmethod
    def _connect(address: tuple[str, int], users: list[str], kept: bool) -> list[Peer]:
        peers = [Peer(user, dial(address)) for user in users]
        properties = b"\x05\x11" + _KEPT_SECONDS.to_bytes(4, "big") if kept else b"\0"
        for peer in peers:
            head = _string("MQTT") + bytes((5, 0 if kept else 2)) + b"\0\0" + properties
            peer.sock.sendall(_packet(_CONNECT << 4, head + _string(peer.user)))
        for peer in peers:
            answer = peer.sock.recv(4096)
            if answer[0] >> 4 != _CONNACK or answer[3]:
                raise RuntimeError(f"login of {peer.user} failed: {answer!r}")
            peer.rest = answer[2 + answer[1] :]  # a kept session's messages may follow at once
        return peers

    @staticmethod
    def _subscribe(peer: Peer, topic: str) -> None:
        peer.sock.sendall(_packet(_SUBSCRIBE << 4 | 2, b"\0\1\0" + _string(topic) + bytes((_QOS1 | _NO_LOCAL,))))

    @staticmethod
    def _subscribed(peer: Peer) -> None:
        if (answer := peer.sock.recv(4096))[0] >> 4 != _SUBACK:
            raise RuntimeError(f"{peer.user} did not subscribe: {answer!r}")

    def acknowledge(self, peers: list[Peer]) -> None:
        pass  # QoS 1 does

    def group(self, peers: list[Peer], name: str) -> str:
        for peer in peers:
            self._subscribe(peer, f"g/{name}")
            self._subscribed(peer)
        return f"g/{name}"

    def single(self, peer: Peer, to: str, text: str) -> bytes:
        return self._publish(peer, f"u/{to}", text)

    def to_group(self, peer: Peer, group: str, text: str) -> bytes:
        return self._publish(peer, group, text)

    @staticmethod
    def _publish(peer: Peer, topic: str, text: str) -> bytes:
        number = (peer.number - 1) % _PACKET_IDS + 1
        return _packet(_PUBLISH << 4 | _QOS1 << 1, _string(topic) + number.to_bytes(2, "big") + b"\0" + text.encode())

    def take(self, peer: Peer, data: bytes) -> Took:
        acked, refused, texts = 0, 0, []
        for kind, body in _packets(peer, data):
            if kind == _PUBACK:
                acked += 1
                refused += len(body) > 2 and body[2] >= _REFUSED
            elif kind == _PUBLISH:
                texts.append(self._received(peer, body).decode())
        return Took(acked, refused, texts)

    @staticmethod
    def _received(peer: Peer, body: bytes) -> bytes:
        """The payload; its acknowledgement waits in `peer.out`."""
        at = 2 + int.from_bytes(body[:2], "big")
        peer.out.append(b"\x40\x02" + body[at : at + 2])
        return body[at + 3 + body[at + 2] :]

    def counted(self, peer: Peer, data: bytes) -> int:
        count = 0
        for kind, body in _packets(peer, data):
            if kind == _PUBLISH:
                count += 1
                self._received(peer, body)
        return count

    def catch_up(self, address: tuple[str, int], users: list[str], messages: int) -> list[list[str]]:
        """Connect to the session that was kept; the server sends its messages."""
        return [self._kept(peer, messages) for peer in self._connect(address, users, kept=True)]

    def _kept(self, peer: Peer, messages: int) -> list[str]:
        texts = self.take(peer, b"").texts
        peer.flush()
        while len(texts) < messages:
            try:
                data = peer.sock.recv(RECV_BYTES)
            except TimeoutError:
                break
            texts += self.take(peer, data).texts
            peer.flush()
            if not data:
                break
        peer.sock.close()
        return texts


def _string(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _packet(first: int, body: bytes) -> bytes:
    size, length = b"", len(body)
    while True:
        length, low = divmod(length, 128)
        size += bytes((low | 0x80 if length else low,))
        if not length:
            return bytes((first,)) + size + body


def _packets(peer: Peer, data: bytes) -> Iterator[tuple[int, bytes]]:
    """All whole packets as kind and body; the rest stays with the peer."""
    data = peer.rest + data
    at, end = 0, len(data)
    while end - at >= 2:
        size, digit, shift = 0, at + 1, 0
        while digit < end and data[digit] & 0x80:
            size |= (data[digit] & 0x7F) << shift
            digit, shift = digit + 1, shift + 7
        if digit >= end or digit + 1 + (size | data[digit] << shift) > end:
            break
        start = digit + 1
        stop = start + (size | data[digit] << shift)
        yield data[at] >> 4, data[start:stop]
        at = stop
    peer.rest = data[at:]
