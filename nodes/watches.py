"""Who watches whose presence at this broker (66 to 68). A watch belongs to its connection and ends with it.

A watched user's topic `p:<user>` is held here. What comes on it, and any loss of publications, says only: ask again.
That is done a moment later, for many users at once, and a connection is told what differs from what it was told before.
Of two answers the one that was asked for later counts; who may know is decided by whoever answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mesh.contract import start
from mesh.loop import Later
from nodes.contracts import Watched, Whereabouts
from nodes.publications import PRESENCE
from nodes.views import presence_of
from packs.codec import decode_payload, encode_error, encode_payload
from packs.codes import Code
from packs.errors import PayloadError
from packs.ids import is_user_id
from packs.pack import Pack
from packs.structs import SUCCESS
from packs.structs_social import Presence, PresencePush, PresenceResp, PresenceSubscribeReq, PresenceUnsubscribeReq
from packs.table import PRESENCE_PUSH, PRESENCE_SUBSCRIBE, PRESENCE_UNSUBSCRIBE

if TYPE_CHECKING:
    from nodes.broker import BrokerNode
    from nodes.client import Client

TYPES = frozenset((PRESENCE_SUBSCRIBE, PRESENCE_UNSUBSCRIBE))
WATCHES_MAX = 500
"""Users that one connection may watch."""
GATHER_SECONDS = 0.2
"""How long changes are gathered before they are asked about."""
ASK_USERS = 200
"""Users asked about in one call."""
RETRY_SECONDS = 1.0

Answered = Callable[[bytes | None, Exception | None], None]


class _Told:
    """What a connection knows of a user: the view that was asked for last, whenever its answer came."""

    __slots__ = ("due", "number", "view")

    def __init__(self) -> None:
        self.number = 0  # of the question that brought the view
        self.view: Presence | None = None
        self.due = 0  # answers to 66 that will tell it; until then nothing is pushed

    def learn(self, number: int, view: Presence) -> bool:
        """Whether this view is another than the one before, and not older."""
        if number < self.number:
            return False
        before, self.number, self.view = self.view, number, view
        return view != before


class Watches:
    """Watches of one broker."""

    def __init__(self, broker: BrokerNode) -> None:
        self._broker = broker
        self._watchers: dict[str, set[Client]] = {}  # user -> connections that watch him
        self._told: dict[Client, dict[str, _Told]] = {}  # what each knows of whom it watches
        self._questions = 0
        self._stirred: set[str] = set()
        self._timer: Later | None = None

    @property
    def users(self) -> int:
        """Users that are watched here."""
        return len(self._watchers)

    # ---- 66, 67

    def request(self, client: Client, pack: Pack, payload: bytes, answered: Answered) -> None:
        """A request of a client about its watches."""
        try:
            if pack.type == PRESENCE_SUBSCRIBE:
                self._begin(client, decode_payload(PresenceSubscribeReq, payload).user_ids, answered)
                return
            message = decode_payload(PresenceUnsubscribeReq, payload)
            self._end(client, message.user_ids or list(self._told.get(client, ())))
            answered(encode_payload(SUCCESS), None)
        except PayloadError as error:
            answered(encode_error(pack.type, error.code, error.desc), None)

    def _begin(self, client: Client, users: list[str], answered: Answered) -> None:
        assert client.origin is not None
        viewer = client.origin.user
        users = list(dict.fromkeys(users))
        if not all(map(is_user_id, users)):
            raise PayloadError(Code.PARAM, "a user id is malformed")
        told = self._told.get(client, {})
        if len(told.keys() | set(users)) > WATCHES_MAX:
            raise PayloadError(Code.PARAM, f"a connection watches at most {WATCHES_MAX} users")
        told = self._told.setdefault(client, told)
        new = [user for user in users if user not in told]
        for user in new:
            told[user] = _Told()
            self._watchers.setdefault(user, set()).add(client)
        views = [told[user] for user in users]
        for view in views:
            view.due += 1
        # Held before it is asked what is so: whatever changes after the answer is heard of.
        self._broker.process.fanout.subscribe(
            [PRESENCE + user for user in new],
            lambda whole: self._ask_first(viewer, users, views, answered),
            late=lambda: self.stirred(users),
        )

    def _ask_first(self, viewer: str, users: list[str], views: list[_Told], answered: Answered) -> None:
        self._questions += 1
        number = self._questions

        def came(found: tuple[Whereabouts, ...] | None, error: Exception | None) -> None:
            for told in views:
                told.due -= 1
            if found is None:
                answered(None, error)
                self.stirred(users)
                return
            for user, told, where in zip(users, views, found, strict=True):
                told.learn(number, presence_of(user, where, where.visible[0]))
            presences = [told.view for told in views if told.view is not None]
            answered(encode_payload(PresenceResp(presences=presences)), None)

        start(self._broker.user.presence, came, tuple(Watched(user, (viewer,)) for user in users))

    def _end(self, client: Client, users: Iterable[str]) -> None:
        told = self._told.get(client, {})
        gone = [user for user in dict.fromkeys(users) if user in told]
        for user in gone:
            del told[user]
            watchers = self._watchers[user]
            watchers.discard(client)
            if not watchers:
                del self._watchers[user]
        if not told:
            self._told.pop(client, None)
        self._broker.process.fanout.unsubscribe([PRESENCE + user for user in gone])

    def leave(self, client: Client) -> None:
        """The connection is nobody's any more."""
        if client in self._told:
            self._end(client, list(self._told[client]))

    # ---- 68

    def published(self, user: str, items: Sequence[Any]) -> None:
        """Something changed with a watched user."""
        self.stirred([user])

    def stirred(self, users: Iterable[str] | None = None) -> None:
        """Ask soon how it is with these users; None: with all."""
        watched = self._watchers.keys()
        self._stirred |= watched if users is None else watched & set(users)
        if self._stirred and self._timer is None:
            self._timer = Later(GATHER_SECONDS, self._ask)

    def _ask(self) -> None:
        self._timer = None
        stirred, self._stirred = list(self._stirred), set()
        for i in range(0, len(stirred), ASK_USERS):
            self._ask_about(stirred[i : i + ASK_USERS])

    def _ask_about(self, users: list[str]) -> None:
        asked = []
        for user in users:
            viewers = {client.origin.user for client in self._watchers.get(user, ()) if client.origin is not None}
            if viewers:
                asked.append(Watched(user, tuple(viewers)))

        def came(found: tuple[Whereabouts, ...] | None, error: Exception | None) -> None:
            if found is None:
                Later(RETRY_SECONDS, self.stirred, users)
                return
            self._tell(number, zip(asked, found, strict=True))

        if asked:
            self._questions += 1
            number = self._questions
            start(self._broker.user.presence, came, tuple(asked))

    def _tell(self, number: int, found: Iterable[tuple[Watched, Whereabouts]]) -> None:
        """Tell connections what is new to them."""
        news: dict[Client, list[Presence]] = {}
        for (user, viewers), where in found:
            views = {v: presence_of(user, where, may) for v, may in zip(viewers, where.visible, strict=True)}
            for client in self._watchers.get(user, ()):
                view = views.get(client.origin.user) if client.origin is not None else None
                told = self._told[client][user]
                if view is not None and told.learn(number, view) and not told.due:
                    news.setdefault(client, []).append(view)
        for client, presences in news.items():
            self._broker.push(client, PRESENCE_PUSH, encode_payload(PresencePush(presences=presences)))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.stop()
