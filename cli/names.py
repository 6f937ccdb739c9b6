"""Names that a chat knows: friends, groups by what they are called, whoever wrote. Fetched in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from client.client import Client
from client.errors import ClientError
from client.groups import Group
from packs.ids import is_group_id, is_user_id


class Names:
    """Of one user. May be used from any thread."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._friends: tuple[str, ...] = ()
        self._groups: dict[str, Group] = {}
        self._met: dict[str, None] = {}
        self._wanted: set[str] = set()
        self._changed = threading.Condition()
        self._over = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to fetch."""
        self._thread = threading.Thread(target=self._fetch, name="names", daemon=True)
        self._thread.start()
        self.refresh("friends", "groups")

    def refresh(self, *what: str) -> None:
        """Something is not as it was."""
        with self._changed:
            self._wanted.update(what)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()

    def _fetch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._over)
                if self._over:
                    return
                what = self._wanted.pop()
            try:
                if what == "friends":
                    self._friends = tuple(friend.user for friend in self._client.friends.list())
                else:
                    self.fetch_groups()
            except ClientError:
                continue  # names are shown as ids; the next change asks again

    def fetch_groups(self) -> list[Group]:
        """All groups that one is in, as they are now. Raises `ClientError`."""
        groups = self._client.groups.list()
        self._groups = {group.group_id: group for group in groups}
        return groups

    def meet(self, users: Iterable[str]) -> None:
        """People who said something or were named."""
        for user in users:
            self._met[user] = None

    def title(self, name: str) -> str:
        """What a user or group is called."""
        group = self._groups.get(name)
        return group.name if group is not None else name

    def find(self, name: str) -> str | None:
        """The id that a name stands for: an id itself, or what exactly one group is called."""
        called = [group.group_id for group in self._groups.values() if group.name == name]
        if len(called) == 1 and name not in self._met and name not in self._friends:
            return called[0]
        return name if is_user_id(name) or is_group_id(name) else None

    def beginning_with(self, start: str) -> list[str]:
        """For completion."""
        titles = [group.name for group in self._groups.values() if " " not in group.name]
        return sorted({name for name in (*self._friends, *self._met, *titles) if name.startswith(start)})
