"""A connection of a user of whom is known what must reach him: each push once, messages of a session in order."""

from __future__ import annotations

from typing import Any

from packs import table as t
from packs.enums import SyncCommand
from packs.flags import ACK, DUP
from packs.pack import Pack
from tests.model import Control, Read, Seen, Sync, Told, What
from tests.raw import Raw, decode

PUSH_SECONDS = 5.0
"""How long after an answer a push may come."""
HINT = Sync(SyncCommand.RESYNC)


class Due:
    """A push that a connection is to get."""

    def __init__(self, told: Told) -> None:
        self.what = told.what
        self.must = told.must
        self.repeat = not told.must and isinstance(told.what, Seen | Control)
        """It comes with DUP, for a request that was sent again."""


class Connection:
    """A device that is logged in."""

    def __init__(self, raw: Raw, user: str, device_type: int) -> None:
        self.raw, self.user, self.device_type = raw, user, device_type
        self._due: list[Due] = []

    def expect(self, told: Told) -> None:
        self._due.append(Due(told))

    def settle(self) -> None:
        """All that must come has come; so has what lies there."""
        self.raw.sock.settimeout(PUSH_SECONDS)
        while missing := [due.what for due in self._due if due.must]:
            try:
                pack = self.raw.receive()
            except TimeoutError:
                raise AssertionError(f"{self} did not get {missing}") from None
            self._take(pack)
        self._take_all(0.0005)

    def quiet(self, seconds: float = 0.02) -> None:
        """Nothing comes any more but what may."""
        self._take_all(seconds)

    def _take_all(self, seconds: float) -> None:
        while not self.raw.silent(seconds):
            self._take(self.raw.receive())

    def kicked_out(self) -> None:
        """It gets 13 and is closed."""
        rest = self.raw.rest()
        assert rest, f"{self} was closed without a word"
        for pack in rest[:-1]:
            self._take(pack)
        assert rest[-1].type == t.KICKOUT, rest[-1]
        kicked = decode(rest[-1])
        assert (kicked.error_code.code, kicked.device_type) == (22, self.device_type), kicked
        self.raw.close()

    def _take(self, pack: Pack | None) -> None:
        """Something was pushed: it is due, or it is a hint to resync, which stands for all that is."""
        assert pack is not None, f"{self} was closed by the server"
        assert not pack.flags & ACK, f"{self} got an answer that nobody waits for: {pack}"
        what = what_is(pack)
        if what == HINT:
            for due in self._due:
                due.must = False
            return
        repeat = bool(pack.flags & DUP)
        for due in sorted(self._due, key=lambda due: not due.must):  # stable: what need not come waits
            if due.what == what and due.repeat == repeat:
                self._due.remove(due)
                return
            if not repeat and not due.repeat and isinstance(what, Seen) and _is_in(due.what, what.session):
                assert not due.must, f"{self} got {what} before {due.what}"
        raise AssertionError(f"{self} got {pack} which is {what}; due: {[due.what for due in self._due]}")

    def __repr__(self) -> str:
        return f"<{self.user} device {self.device_type} {self.raw.codec.name}>"


def _is_in(what: What, session: str) -> bool:
    """Is it a message of this session?"""
    return isinstance(what, Seen) and what.session == session


def what_is(pack: Pack) -> What:
    """A pack that was pushed or kept, in the words of the model."""
    payload: Any = decode(pack)
    if pack.type in (t.MSG_SINGLE_CHAT, t.MSG_GROUP_CHAT):
        return seen(pack)
    if pack.type == t.MSG_CTRL:
        return Control(
            pack.pack_id, payload.command, payload.session_id, payload.pack_id, payload.seq_id, payload.content,
            payload.operator_id,
        )  # fmt: skip
    if pack.type == t.MSG_READ:
        return Read(pack.pack_id, payload.session_id, payload.seq_id, payload.user_id)
    assert pack.type == t.SYNC_DATA_CMD, f"nobody asked for {pack}"
    return Sync(payload.command, payload.content)


def seen(pack: Pack) -> Seen:
    """A message that was pushed, or that lies in a list."""
    m = decode(pack)
    assert m.timestamp == m.seq_id // 1000, m
    return Seen(
        pack.type, pack.pack_id, pack.flags & ~DUP, m.session_id, m.seq_id, m.prev_seq_id, m.sender, m.to, m.content
    )
