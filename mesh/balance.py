"""Which instance of a service gets a call. Pure: no sockets, the clock is an argument.

Calls with a key go to the instance that wins the rendezvous hash for it, so each key has one owner in steady state and
a leaving instance moves only its own keys. Calls without a key go to the instance in this process, else to the less
loaded of two drawn at random. An instance that fails `EJECT_AFTER` times in a row by timing out is passed over for a
while, then probed with one call; the last usable instance is never passed over.
"""

from __future__ import annotations

import random
from hashlib import blake2b
from math import inf
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from mesh.calls import Lane

EJECT_AFTER = 5
"""Timeouts in a row until an instance is ejected."""
EJECT_SECONDS = 1.0
"""First ejection, in seconds; doubled each time that the probe fails."""
EJECT_SECONDS_MAX = 30.0
SLOTS = 1024
"""Keys are hashed to slots and slots to instances, so that the hash per call stays cheap."""


class Instance:
    """One node of a service in one process, as this process sees it."""

    __slots__ = (
        "_ejections", "_failures", "_probing", "ejected_until", "lanes", "outstanding", "process", "state", "target",
        "troubled", "up",
    )  # fmt: skip

    def __init__(self, process: str, target: Any) -> None:
        self.process = process
        self.target = target  # how to reach it: mesh.peer.Peer, or the local mesh.dispatch.Dispatcher
        self.up = False  # its link answers
        self.state = "starting"
        self.outstanding = 0  # calls sent and not yet answered
        self.lanes: dict[Lane, None] = {}  # lanes that are pinned to it
        self.ejected_until = 0.0
        self.troubled = False  # a call timed out since the last answer
        self._failures = 0
        self._ejections = 0
        self._probing = False

    def open_for_new(self, time: float) -> bool:
        """Whether new calls should go to it."""
        if not self.up or self.state != "serving":
            return False
        return self.ejected_until == 0.0 or (time >= self.ejected_until and not self._probing)

    def chosen(self, time: float) -> None:
        """A call goes there: the first one after an ejection is the probe."""
        if self.ejected_until and time >= self.ejected_until:
            self._probing = True

    def succeeded(self) -> bool:
        """An answer came, the first since a timeout. Returns whether this ends an ejection."""
        self.troubled = False
        self._failures = 0
        if self.ejected_until == 0.0:
            return False
        self.ejected_until, self._ejections, self._probing = 0.0, 0, False
        return True

    def timed_out(self, time: float) -> bool:
        """A call timed out. Returns whether the instance is ejected by it."""
        self.troubled = True
        self._failures += 1
        if not self._probing and self._failures < EJECT_AFTER:
            return False
        seconds = min(EJECT_SECONDS * 2**self._ejections, EJECT_SECONDS_MAX)
        self._ejections += 1
        self._failures, self._probing = 0, False
        self.ejected_until = time + seconds
        return True

    def reset(self) -> None:
        """A new process took its place."""
        self.troubled = False
        self._failures = self._ejections = 0
        self.ejected_until, self._probing = 0.0, False


class Pool:
    """The instances of one service."""

    def __init__(self, service: str, seed: int | None = None) -> None:
        self.service = service
        self.instances: list[Instance] = []
        self._owners: dict[int, Instance] = {}
        self._probe_at = inf  # when the next ejection ends
        self._random = random.Random(seed)

    def changed(self) -> None:
        """To be called whenever an instance came, went, or changed its state."""
        self._owners.clear()
        self._probe_at = min((i.ejected_until for i in self.instances if i.ejected_until), default=inf)

    def choose(self, key: str | None, time: float) -> Instance | None:
        """The instance for a new call, or None when none is open."""
        if len(self.instances) == 1:  # the usual case; to hash or to draw costs as much as all else of a call
            only = self.instances[0]
            if only.up and only.state == "serving" and not only.ejected_until:
                return only
        if key is not None:
            return self._owner(key, time)
        candidates = self._candidates(time)
        if not candidates:
            return None
        for instance in candidates:
            if instance.target.local:
                return instance
        first = self._random.choice(candidates)
        second = self._random.choice(candidates)
        chosen = first if first.outstanding <= second.outstanding else second
        chosen.chosen(time)
        return chosen

    def _owner(self, key: str, time: float) -> Instance | None:
        if time >= self._probe_at:
            self._owners.clear()
            self._probe_at = inf
        slot = crc32(key.encode()) % SLOTS
        owner = self._owners.get(slot)
        if owner is None or owner.ejected_until:
            owner = self._elect(slot, time)
            if owner is None:
                return None
            if owner.ejected_until:
                owner.chosen(time)
            self._owners[slot] = owner
        return owner

    def _elect(self, slot: int, time: float) -> Instance | None:
        return max(self._candidates(time), key=lambda i: _weight(i.process, slot), default=None)

    def _candidates(self, time: float) -> list[Instance]:
        """Open instances; without any, ejected ones; without those, draining ones (the whole system is stopping)."""
        return (
            [i for i in self.instances if i.open_for_new(time)]
            or [i for i in self.instances if i.up and i.state == "serving"]
            or [i for i in self.instances if i.up and i.state == "draining"]
        )


def _weight(process: str, slot: int) -> bytes:
    return blake2b(f"{process}/{slot}".encode(), digest_size=8).digest()
