"""The user node's presence (65): who is online, with which devices, and who may know.

A subscription is presence: a user is online while brokers hold his topic here. With which devices, and since when not,
is in the store (`store/devices.py`), written when logins are numbered and when their connections end. A broker that
dies writes nothing; but its connection to us dies with it, and then its logins do not count.

Who watches a user (66) has his broker hold the topic `p:<user>`. Nothing is published about users whom nobody watches.
To the others' brokers goes only that something changed; they ask what it is now, for each of their viewers
(`nodes/watches.py`). So it does not matter which node says so, how often, or in which order: whoever asks after the
last change is told what is so, if he may know at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh.loop import Every, Later
from nodes import publications
from nodes.contracts import Watched, Whereabouts
from nodes.packs import Item, handles
from nodes.social import SocialNode, require_ids
from nodes.views import presence_of
from packs.structs_social import Presence, PresenceResp
from packs.table import PRESENCE_GET
from store.devices import Device, Sight

USERS_MAX = 200
"""Users asked about by one 65."""
FRIENDS_MAX = 1_000
"""Friends in the answer to a 65 without users, so that it fits a frame."""
SETTLE_SECONDS = 0.3
"""A topic that is given up may be held again at once: a link was re-made, somebody reconnected."""
LOOK_SECONDS = 1.0


class PresenceNode(SocialNode):
    """Presence of users."""

    def start(self) -> None:
        super().start()
        self._moved: set[str] = set()
        self._complete = False
        self.process.fanout.observe(publications.USER, self._moves)
        self._look = Every(LOOK_SECONDS, self._look_for_brokers)

    def stop(self) -> None:
        self._look.stop()
        super().stop()

    # ---- what changes

    def _moves(self, user: str, holders: int) -> None:
        """Brokers began or ceased to hold the topic of a user."""
        if not self.process.fanout.holders(publications.PRESENCE + user):
            return
        if not self._moved:
            Later(SETTLE_SECONDS, self._stir_moved)
        self._moved.add(user)

    def _stir_moved(self) -> None:
        moved, self._moved = self._moved, set()
        self.stir(*moved)

    def _look_for_brokers(self) -> None:
        """Once all brokers are known, who was only believed to be online is known to be away."""
        complete = self.process.fanout.complete
        if complete and not self._complete:
            self.stir(*self.process.fanout.topics(publications.PRESENCE))
        self._complete = complete

    # ---- what is so

    def presence(self, asked: tuple[Watched, ...]) -> tuple[Whereabouts, ...]:
        sights = self._store.devices.seen(asked)
        return tuple(self._whereabouts(watched.user, sight) for watched, sight in zip(asked, sights, strict=True))

    def _whereabouts(self, user: str, sight: Sight) -> Whereabouts:
        online = tuple(device.type for device in sight.devices if self.is_online(user, device))
        last_seen = 0 if online else max((last_seen_of(device) for device in sight.devices), default=0)
        return Whereabouts(online, last_seen, sight.visible)

    def is_online(self, user: str, device: Device) -> bool:
        """Whether the connection of a device stands."""
        fanout = self.process.fanout
        if device.left:
            return False
        if not fanout.complete:
            return True  # nobody else knows
        process, start, _ = device.connection.rsplit("/", 2)
        return fanout.holders(publications.USER + user) > 0 and fanout.is_connected(process, start)

    # ---- 65

    @handles(PRESENCE_GET)
    def _get_presence(self, item: Item) -> PresenceResp:
        me, asked = item.origin.user, item.message.user_ids
        if asked:
            return PresenceResp(presences=self._presences(me, require_ids(asked, USERS_MAX)))
        friends = self._store.friends.ids(me)
        holders, complete = self.process.fanout.holders, self.process.fanout.complete
        near = [friend for friend in friends if holders(publications.USER + friend) or not complete]
        return PresenceResp(presences=[row for row in self._presences(me, near[:FRIENDS_MAX]) if row.online])

    def _presences(self, viewer: str, users: Sequence[str]) -> list[Presence]:
        found = self.presence(tuple(Watched(user, (viewer,)) for user in users))
        return [presence_of(user, where, where.visible[0]) for user, where in zip(users, found, strict=True)]


def last_seen_of(device: Device) -> int:
    """When a device that is gone was last there (ms), as far as known."""
    return device.left or device.number // 1000
