"""XMPP as ejabberd and Prosody speak it, written by hand: streams, SASL PLAIN, stanzas, acks (XEP-0198), rooms (MUC).

The server's acknowledgement of a message is that of stream management, asked for with each stanza: it says that the
server has handled the stanza. In a room a sender sees his own message come back, which stands for the acknowledgement.
"""

from __future__ import annotations

import base64
import re

from bench.dialects import BATCH, RECV_BYTES, Peer, Took, dial, until

HOST = "localhost"
ROOMS = f"conference.{HOST}"
PASSWORD = "bench"
_SM = "urn:xmpp:sm:3"
_STREAM = (f"<?xml version='1.0'?><stream:stream to='{HOST}' xmlns='jabber:client' "
           "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>").encode()  # fmt: skip
_FEATURES = b"</stream:features>"
_ASK = f"<r xmlns='{_SM}'/>".encode()
_END = b"</message>"
_events = re.compile(rb"<message\b([^>]*)>(.*?)</message>|<a\b[^>]*?\bh=['\"](\d+)['\"][^>]*>", re.DOTALL).finditer
_body = re.compile(rb"<body>([^<]*)</body>").search
_sender = re.compile(rb"from=['\"][^'\"/]*/([^'\"]*)['\"]").search


class Xmpp:
    """A dialect."""

    endpoint = "c2s"

    def register(self, address: tuple[str, int], users: list[str]) -> None:
        """In-band registration (XEP-0077)."""
        for i in range(0, len(users), BATCH):
            peers = [Peer(user, dial(address)) for user in users[i : i + BATCH]]
            for peer in peers:
                peer.sock.sendall(_STREAM)
            for peer in peers:
                until(peer, _FEATURES)
                fields = f"<username>{peer.user}</username><password>{PASSWORD}</password>"
                query = f"<query xmlns='jabber:iq:register'>{fields}</query>"
                peer.sock.sendall(f"<iq type='set' id='reg'>{query}</iq>".encode())
            for peer in peers:
                answer = until(peer, b"</iq>", b"/>")
                if b"result" not in answer:
                    raise RuntimeError(f"{peer.user} was not registered: {answer!r}")
                peer.sock.close()

    def away(self, address: tuple[str, int], users: list[str]) -> None:
        self.register(address, users)

    def connect(self, address: tuple[str, int], users: list[str], at_once: int = BATCH) -> list[Peer]:
        peers: list[Peer] = []
        for i in range(0, len(users), at_once):
            fresh = [Peer(user, dial(address)) for user in users[i : i + at_once]]
            self._log_in(fresh)
            for peer in fresh:
                peer.sock.sendall(b"<presence/>")
            peers += fresh
        return peers

    @staticmethod
    def _log_in(peers: list[Peer]) -> None:
        for peer in peers:
            peer.sock.sendall(_STREAM)
        for peer in peers:
            until(peer, _FEATURES)
            secret = base64.b64encode(f"\0{peer.user}\0{PASSWORD}".encode()).decode()
            auth = f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"
            peer.sock.sendall(auth.encode())
        for peer in peers:
            if b"<success" not in (answer := until(peer, b"<success", b"<failure")):
                raise RuntimeError(f"login of {peer.user} failed: {answer!r}")
            peer.sock.sendall(_STREAM)
        bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>b</resource></bind>"
        for peer in peers:
            until(peer, _FEATURES)
            peer.sock.sendall(f"<iq type='set' id='bind'>{bind}</iq>".encode())
        for peer in peers:
            until(peer, b"</iq>")

    def acknowledge(self, peers: list[Peer]) -> None:
        for peer in peers:
            peer.sock.sendall(f"<enable xmlns='{_SM}'/>".encode())
            until(peer, b"<enabled")

    def group(self, peers: list[Peer], name: str) -> str:
        room = f"{name}@{ROOMS}"
        for peer in peers:
            x = "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x>"
            peer.sock.sendall(f"<presence to='{room}/{peer.user}'>{x}</presence>".encode())
            until(peer, b"<subject")
        return room

    def single(self, peer: Peer, to: str, text: str) -> bytes:
        attributes = f"to='{to}@{HOST}' type='chat' id='{peer.number}'"
        return f"<message {attributes}><body>{text}</body></message>".encode() + _ASK

    def to_group(self, peer: Peer, group: str, text: str) -> bytes:
        return f"<message to='{group}' type='groupchat' id='{peer.number}'><body>{text}</body></message>".encode()

    def take(self, peer: Peer, data: bytes) -> Took:
        acked, refused, texts, end = 0, 0, [], 0
        data = peer.rest + data
        for event in _events(data):
            end = event.end()
            attributes, content, handled = event.groups()
            if handled is not None:
                acked, peer.count = acked + int(handled) - peer.count, int(handled)
            elif b"type='error'" in attributes or b'type="error"' in attributes:
                refused += 1
            elif (body := _body(content)) is not None:
                sender = _sender(attributes)
                if b"groupchat" in attributes and sender is not None and sender[1].decode() == peer.user:
                    acked += 1
                else:
                    texts.append(body[1].decode())
        peer.rest = data[end:]
        return Took(acked, refused, texts)

    def counted(self, peer: Peer, data: bytes) -> int:
        data = peer.rest + data
        peer.rest = data[max(data.rfind(_END) + len(_END), len(data) - len(_END) + 1) :] if _END in data else data[-9:]
        return data.count(_END)

    def catch_up(self, address: tuple[str, int], users: list[str], messages: int) -> list[list[str]]:
        """Log in and say that one is there: the server sends what it kept (XEP-0160)."""
        peers = self.connect(address, users, len(users))
        return [self._kept(peer, messages) for peer in peers]

    def _kept(self, peer: Peer, messages: int) -> list[str]:
        texts: list[str] = []
        while len(texts) < messages:
            try:
                data = peer.sock.recv(RECV_BYTES)
            except TimeoutError:
                break
            texts += self.take(peer, data).texts
            if not data:
                break
        peer.sock.close()
        return texts
