"""The user node: who logs in, under which number, and accounts with built-in passwords. What users have to do with each
other is in the parts that it is put together from: see `nodes/social.py`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from mesh.dispatch import Incoming
from mesh.errors import AppError, Overloaded, Timeout
from mesh.limits import Buckets, address_key
from mesh.loop import post
from mesh.node import batch
from nodes import hot, publications
from nodes.auth import Passwords
from nodes.contracts import Accepted, Account, Login, User
from nodes.departures import Departures
from nodes.devices import DevicesNode, require_user
from nodes.friends import FriendsNode
from nodes.profiles import ProfilesNode
from nodes.typists import TypistsNode
from packs.codes import Code
from store.errors import StoreError

ADDRESS_FACTOR = 10
"""Tries per address are this many times those per account: many users may share an address."""
MAX_TOKEN_SECONDS = 366 * 24 * 3600


class UserNode(FriendsNode, ProfilesNode, DevicesNode, TypistsNode, User):
    """Logins and accounts, and what users have to do with each other."""

    def start(self) -> None:
        super().start()
        from nodes.tokens import Tokens  # here, as all other processes do without: half of it is cryptography, 30 ms

        self._tokens = Tokens(self._auth, self.process.topology.data_dir)
        self._passwords = Passwords()
        tries = self._auth.tries_per_minute
        self._by_account = Buckets(tries / 60, tries)
        self._by_address = Buckets(tries / 60 * ADDRESS_FACTOR, tries * ADDRESS_FACTOR)

    def serve(self) -> None:
        if hot.is_told(self.process):
            lost_after = self.process.topology.mesh.lost_after
            self.spawn(Departures(self._store.standing, self.process.fanout, lost_after, self.stats, self.log).run)

    # ---- login

    @batch(User.login)
    def _login(self, calls: Sequence[Incoming]) -> None:
        for call in calls:
            login: Login = call.args[0]
            try:
                self._check_tries(login)
                if self._auth.mode == "password":
                    self.pool.submit(self._check_password, (call, login), call.deadline)
                    continue
                accepted = Accepted(login.client_id, False, int(time.time()))
                if self._auth.mode == "token":
                    found = self._tokens.accepted(login.secret)
                    if found is None or found.user != login.client_id:
                        raise self._failed(login)
                    accepted = found
            except (AppError, Overloaded) as error:
                call.fail(error)
            else:
                call.reply(self._with_rights(accepted))

    def _with_rights(self, accepted: Accepted) -> Accepted:
        return accepted if accepted.user not in self._auth.monitors else accepted._replace(monitor=True)

    def _check_tries(self, login: Login) -> None:
        wait = self._by_account.wait(login.client_id)
        if address := address_key(login.address, self._auth.limit_loopback):
            wait = max(wait, self._by_address.wait(address))
        if wait > 0:
            self.stats.counts["logins.throttled"] += 1
            raise AppError(Code.REFUSED, "too many tries", retry_after=int(wait * 1000) + 1)

    def _failed(self, login: Login) -> AppError:
        self._by_account.take(login.client_id)
        if address := address_key(login.address, self._auth.limit_loopback):
            self._by_address.take(address)
        self.stats.counts["logins.failed"] += 1
        return AppError(Code.CONN_CREDENTIALS, "wrong user name or password")

    def _check_password(self, call: Incoming, login: Login) -> None:
        try:
            found = self._store.users.password_hash(login.client_id)
            good = self._passwords.matches(login.secret, found)
        except StoreError as error:
            post(call.fail, Timeout(str(error)))
            return
        if good:
            post(call.reply, self._with_rights(Accepted(login.client_id, False, int(time.time()))))
        else:
            post(call.fail, self._failed(login))

    @batch(User.enter)
    def _enter(self, calls: Sequence[Incoming]) -> None:
        for part in self._store.by_user(calls, lambda call: call.args[0]):
            self._enter_part(part)

    def _enter_part(self, calls: Sequence[Incoming]) -> None:
        def entered(numbers: list[int] | None, error: Exception | None) -> None:
            if numbers is None:
                for call in calls:
                    call.fail(Timeout(str(error)))
                return
            for call, number in zip(calls, numbers, strict=True):
                user, device_type, _, _ = call.args
                if number < 0:
                    call.fail(AppError(Code.CONN_CREDENTIALS, "the token counts no more: get a new one"))
                    continue
                if not number:
                    call.fail(AppError(Code.CONN_DENIED, "the account is disabled"))
                    continue
                self.publish(publications.USER + user, publications.kick(device_type, number))
                self.stir(user)
                call.reply(number)
            self.stats.counts["logins"] += len(calls)

        self._store.users.enter([call.args for call in calls], entered)

    @batch(User.newest)
    def _newest(self, calls: Sequence[Incoming]) -> None:
        for call in calls:
            self._store.users.numbers(call.args[0], _completion(call))

    # ---- accounts

    def add_account(self, user: str, password: str, replace: bool) -> bool:
        require_user(user)
        if not password:
            raise AppError(Code.PARAM, "the password is empty")
        return self._store.users.add(user, self._passwords.hash(password), replace)

    def accounts(self, start: int, count: int) -> tuple[tuple[str, int], ...]:
        return tuple(self._store.users.page(start, count))

    def register(self, user: str, password: str, request: str) -> bool:
        require_user(user)
        if not password or not request:
            raise AppError(Code.PARAM, "the password is empty")
        return self._store.users.add(user, self._passwords.hash(password), False, request)

    def account(self, user: str) -> Account:
        require_user(user)
        return Account(*self._store.users.account(user))

    def token(self, user: str, seconds: int) -> str:
        require_user(user)
        if not 1 <= seconds <= MAX_TOKEN_SECONDS:
            raise AppError(Code.PARAM, f"a token is good for 1 to {MAX_TOKEN_SECONDS} seconds")
        return self._tokens.sign(user, seconds)

    def describe(self) -> dict[str, Any]:
        return {"auth": self._auth.mode}


def _completion(call: Incoming) -> Any:
    def done(numbers: list[int] | None, error: Exception | None) -> None:
        if numbers is None:
            call.fail(Timeout(str(error)))
        else:
            call.reply(tuple(numbers))

    return done

