"""Accounts and logins."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from store.client import Client
from store.keys import USERS, Keys
from store.scripts import ADD_ACCOUNT, ENTER


class Users:
    """Accounts and logins in the hot store."""

    def __init__(self, writes: Client, reads: Client, keys: Keys, *, told: bool = False) -> None:
        """`told`: other systems are told of logins."""
        self._told = int(told)
        self._writes = writes
        self._reads = reads
        self._keys = keys

    def enter(
        self, logins: Sequence[tuple[str, int, bytes, int]], done: Callable[[list[int] | None, Exception | None], None]
    ) -> None:
        """Give each (user, device type, device as in `devices.record`, when his token was issued in s) its login
        number: strictly increasing, so that the highest is the newest; 0 when the account is disabled, -1 when the
        token is too old."""
        keys = self._keys
        args: list[Any] = [self._told]
        for user, device_type, device, issued in logins:
            args += (keys.account(user), keys.logins(user), keys.of_user("d", user), device_type, device, issued)
        self._writes.evaluate(done, ENTER, (f"{keys.user_tag(logins[0][0])}:stamp",), args)

    def numbers(
        self, logins: Sequence[tuple[str, int]], done: Callable[[list[int] | None, Exception | None], None]
    ) -> None:
        """The newest login number of each (user, device type), 0 for none."""
        if not logins:
            done([], None)
            return

        def read(replies: list[Any] | None, error: Exception | None) -> None:
            done(None if replies is None else [int(reply or 0) for reply in replies], error)

        self._reads.command_all(read, [("HGET", self._keys.logins(user), kind) for user, kind in logins])

    def exists(self, user: str, done: Callable[[bool | None, Exception | None], None]) -> None:
        """Whether there is an account of this name."""

        def read(reply: Any, error: Exception | None) -> None:
            done(None if error is not None else bool(reply), error)

        self._writes.command(read, "HEXISTS", self._keys.account(user), "password")

    def exist(self, users: Sequence[str]) -> list[bool]:
        """Whether there is an account of each of these names; one that was erased is not. In a greenlet."""
        commands = [("HEXISTS", self._keys.account(user), "password") for user in users]
        replies = self._reads.ask_all(commands)
        return [bool(reply) for reply in replies]

    def password_hash(self, user: str) -> str | None:
        """The password hash of an account, or None when there is no such account. In a greenlet."""
        found = self._reads.ask("HGET", self._keys.account(user), "password")
        return found.decode() if found is not None else None

    def add(self, user: str, password_hash: str, replace: bool, request: str = "") -> bool:
        """Make an account. False when it exists, `replace` is False, and `request` is not what made it. In a
        greenlet."""
        created = int(time.time() * 1000)
        args = (password_hash, created, "1" if replace else "0", request)
        outcome = self._writes.run(ADD_ACCOUNT, (self._keys.account(user),), args)
        if outcome == 1:
            self._writes.ask("ZADD", USERS, "NX", created, user)
        return bool(outcome)

    def account(self, user: str) -> tuple[int, bool, int]:
        """When an account was made (ms, 0: there is none), whether it is disabled, and the time (s) before which its
        tokens do not count. In a greenlet."""
        created, disabled, not_before = self._reads.ask(
            "HMGET", self._keys.account(user), "created", "disabled", "notBefore"
        )
        return int(created or 0), disabled is not None, int(not_before or 0)

    def page(self, start: int, count: int) -> list[tuple[str, int]]:
        """Accounts in order of creation, as (user, created ms). In a greenlet."""
        reply = self._reads.ask("ZRANGE", USERS, start, start + count - 1, "WITHSCORES")
        fields = iter(reply)
        return [(user.decode(), int(created)) for user, created in zip(fields, fields, strict=True)]

    def made_since(self, times: Sequence[int]) -> list[int]:
        """How many accounts were made from each of these times (ms) on to before the next, the last one excepted. In a
        greenlet."""
        commands = [("ZCOUNT", USERS, start, f"({end}") for start, end in pairwise(times)]
        return [int(reply) for reply in self._reads.ask_all(commands)]
