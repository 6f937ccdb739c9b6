"""A load of controls: messages of a group that are overridden, revoked and deleted, by their sender and by the owner.

What became of a request is asked until it is known, as clients do it: with the same packId, marked DUP.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import gevent

from packs import structs as s
from packs import table as t
from packs.flags import COUNTER, DUP
from tests.controls import DELETE, OVERRIDE, REVOKE, Sent, control
from tests.groups import create
from tests.load_wire import OUTCOME_UNKNOWN
from tests.raw import Raw, code
from tests.waiting import wait_until

PAUSE = 0.02
KNOWN_SECONDS = 40.0
"""How long a request may be without an outcome while processes die."""
_ids = itertools.count(1)


class Changes:
    """Writes and changes messages of a group without pause. `connect(user)` gives a connection that is logged in."""

    def __init__(self, connect: Callable[[str], Raw], owner: str, member: str, rng: random.Random) -> None:
        self.changed: dict[tuple[str, int], list[tuple[int, str]]] = {}
        """What was done to each message, in order: command and who did it."""
        self._raws = {user: connect(user) for user in (owner, member)}
        self._owner, self._member = owner, member
        self._group = create(self._raws[owner], owner, member)
        self._rng = rng
        self._running = True
        self._greenlet = gevent.spawn(self._run)

    @property
    def count(self) -> int:
        return sum(map(len, self.changed.values()))

    def _run(self) -> None:
        while self._running:
            gevent.sleep(PAUSE)
            message = self._send()
            done: list[tuple[int, str]] = []
            for command in sorted(self._rng.sample((OVERRIDE, REVOKE, DELETE), self._rng.randint(0, 3)), key=_usual):
                user = self._owner if command == REVOKE and self._rng.random() < 0.5 else self._member
                self._control(user, message, command)
                done.append((command, user))
            self.changed[message.session, message.seq] = done

    def _send(self) -> Sent:
        raw, pack_id = self._raws[self._member], f"c{next(_ids)}"
        request = s.MsgReq(to=self._group, content="as it was sent", content_type=1)
        ack = _known(lambda flags: raw.ask(t.MSG_GROUP_CHAT, request, pack_id, flags | COUNTER))
        return Sent(ack, pack_id, unsure=True)

    def _control(self, user: str, message: Sent, command: int) -> None:
        raw, pack_id = self._raws[user], f"c{next(_ids)}"
        content = f"new 中文 {pack_id}" if command == OVERRIDE else ""

        def ask(flags: int) -> s.CommonErrorCode:
            return s.CommonErrorCode(code=control(raw, message, command, content, "", pack_id, flags))

        assert code(_known(ask)) == 0

    def stop(self) -> None:
        """End behind what is under way. Raises what went wrong."""
        self._running = False
        self._greenlet.get(timeout=KNOWN_SECONDS)


def _usual(command: int) -> int:
    return (OVERRIDE, REVOKE, DELETE).index(command)  # type: ignore[arg-type]


def _known(ask: Callable[[int], Any]) -> Any:
    """The answer to a request, asked again until its outcome is known. `ask(flags)` sends it."""
    answers: list[Any] = []

    def known() -> bool:
        answers.append(ask(DUP if answers else 0))
        return code(answers[-1]) not in OUTCOME_UNKNOWN

    wait_until(known, "the outcome of a request", KNOWN_SECONDS)
    return answers[-1]
