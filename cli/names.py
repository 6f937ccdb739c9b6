"""Names that a chat knows: friends, groups by what they are called, whoever wrote. Fetched in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from client.client import Client
from client.errors import ClientError
from client.groups import Group
from packs.ids import is_group_id, is_user_id


class Names:
    """Of one user. May be used from any thread."""

    def __init__(self, client: Client) -> None:
        self.renamed: Callable[[set[str]], None] = lambda groups: None
        """Called when these groups are called otherwise than before; set by whoever shows names."""
        self._client = client
        self._friends: tuple[str, ...] = ()
        self._groups: dict[str, Group] = {}
        self._met: dict[str, None] = {}
        self._fetchers = [_Fetcher(self._fetch_friends), _Fetcher(self._fetch_groups)]

    def start(self) -> None:
        """Begin to fetch."""
        for fetcher in self._fetchers:
            fetcher.start()

    def refresh(self, *what: str) -> None:
        """The "friends" or the "groups" are not as they were."""
        for name, fetcher in zip(("friends", "groups"), self._fetchers, strict=True):
            if name in what:
                fetcher.again()

    def close(self) -> None:
        for fetcher in self._fetchers:
            fetcher.close()

    def _fetch_friends(self) -> None:
        self._friends = tuple(friend.user for friend in self._client.friends.list())

    def _fetch_groups(self) -> None:
        self.fetch_groups()

    def fetch_groups(self) -> list[Group]:
        """All groups that one is in, as they are now. Raises `ClientError`."""
        groups = self._client.groups.list()
        before, self._groups = self._groups, {group.group_id: group for group in groups}
        changed = {g.group_id for g in groups if g.group_id not in before or before[g.group_id].name != g.name}
        if changed:
            self.renamed(changed)
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


class _Fetcher:
    """Fetches one thing in the background, at first and whenever it has changed."""

    def __init__(self, fetch: Callable[[], None]) -> None:
        self._fetch = fetch
        self._due = threading.Event()
        self._due.set()
        self._over = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="names", daemon=True).start()

    def again(self) -> None:
        self._due.set()

    def close(self) -> None:
        self._over = True
        self._due.set()

    def _run(self) -> None:
        while self._due.wait() and not self._over:
            self._due.clear()
            try:
                self._fetch()
            except ClientError:
                continue  # names are shown as ids; the next change asks again
