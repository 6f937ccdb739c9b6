"""Users, friends, presence, and what their clients shall fetch again."""

from __future__ import annotations

import time
from typing import Any

from mesh.loop import Done
from nodes.auth import AuthSettings
from nodes.contracts import Watched, Whereabouts
from nodes.rest import wire
from nodes.rest.acting import Nodes
from nodes.rest.cursors import number_of
from nodes.rest.problems import is_open, problem_of
from store.profiles import Profile
from webapi.api import unique
from webapi.exchange import ApiError
from webapi.gather import gather
from webapi.routes import Call, route

PRESENCE_AT_ONCE = 100
FRIENDS_AT_ONCE = 32


class Users:
    """Routes of users."""

    def __init__(self, nodes: Nodes, auth: AuthSettings) -> None:
        self._nodes = nodes
        self._auth = auth

    @route("POST", "/v1/users", scope="users:write", status=201, tag="users", errors=(422,), summary="Make a user")
    def create(self, call: Call, body: wire.NewUser) -> wire.User:
        """Where the system keeps passwords (`[auth] mode = "password"`), an account; elsewhere users need none, and a
        profile is all that can be made."""
        if self._auth.mode == "password":
            if body.password is None:
                raise ApiError(422, "param", "this system keeps passwords: one is needed", field="password")
            if not self._nodes.user.register(body.user_id, body.password, unique(call.seed, "user")):
                raise ApiError(409, "user_exists", "there is a user of this id", field="user_id")
        elif body.password is not None:
            raise ApiError(422, "param", "this system keeps no passwords", field="password")
        if body.profile is not None:
            self._set_profile(body.user_id, body.profile)
        return self._user(body.user_id)

    @route("GET", "/v1/users", scope="users:read", tag="users", errors=(422,), summary="Accounts")
    def page(self, call: Call, query: wire.Page) -> wire.AccountPage:
        """Of a system that keeps passwords."""
        start = number_of(query.cursor)
        found = self._nodes.user.accounts(start, query.limit + 1)
        rows = [wire.Account(user, created) for user, created in found[: query.limit]]
        return wire.AccountPage(rows, str(start + query.limit) if len(found) > query.limit else "")

    @route("GET", "/v1/users/{user}", scope="users:read", tag="users", errors=(422,), summary="A user")
    def get(self, call: Call, user: wire.UserId) -> wire.User:
        return self._user(user)

    @route("PATCH", "/v1/users/{user}", scope="users:write", tag="users", errors=(422,), summary="Change a user")
    def change(self, call: Call, user: wire.UserId, body: wire.UserChange) -> wire.User:
        """Disabling him or raising his not-before ends his connections at once."""
        node = self._nodes.user
        self._require(user)
        if body.password is not None:
            if self._auth.mode != "password":
                raise ApiError(422, "param", "this system keeps no passwords", field="password")
            node.add_account(user, body.password, True)
        if body.profile is not None:
            self._set_profile(user, body.profile)
        if body.disabled is not None:
            node.disable(user, body.disabled)
        if body.not_before is not None:
            node.not_before(user, body.not_before)
        return self._user(user)

    @route("POST", "/v1/users/{user}/tokens", scope="tokens:write", status=201, tag="users", errors=(422,),
           mutating=False, summary="A token for a client's login")  # fmt: skip
    def token(self, call: Call, user: wire.UserId, body: wire.TokenWish) -> wire.Token:
        """Counts where `[auth] mode = "token"`, and we have the secret that signs. Takes no `Idempotency-Key`: nothing
        changes, and no token is kept."""
        token = self._nodes.user.token(user, body.seconds)
        return wire.Token(token, int((time.time() + body.seconds) * 1000))

    @route("POST", "/v1/users/{user}/kick", scope="users:write", tag="users", errors=(422,),
           summary="End a user's connections")  # fmt: skip
    def kick(self, call: Call, user: wire.UserId, body: wire.Kick) -> wire.Done:
        """He may log in again. `done` is false when he never logged in so."""
        return wire.Done(self._nodes.user.kick(user, body.device_type))

    @route("GET", "/v1/users/{user}/devices", scope="users:read", tag="users", summary="The devices of a user")
    def devices(self, call: Call, user: wire.UserId) -> wire.Devices:
        return wire.Devices([wire.Device(*device) for device in self._nodes.user.devices(user)])

    def _require(self, user: str) -> None:
        if self._auth.mode == "password" and not self._nodes.user.account(user).created:
            raise ApiError(404, "no_such_user", "there is no such user")

    def _user(self, user: str) -> wire.User:
        account = self._nodes.user.account(user)
        if self._auth.mode == "password" and not account.created:
            raise ApiError(404, "no_such_user", "there is no such user")
        (found,) = self._nodes.user.profiles((user,))
        return wire.User(
            user, found.name, found.avatar, found.mobile, found.birthday, account.disabled, account.not_before
        )

    def _set_profile(self, user: str, given: wire.Profile) -> None:
        (before,) = self._nodes.user.profiles((user,))
        changes = {name: value for name in before._fields if (value := getattr(given, name)) is not None}
        self._nodes.user.set_profile(user, Profile(**{**before._asdict(), **changes}))


class Friends:
    """Routes of friends."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    @route("GET", "/v1/users/{user}/friends", scope="friends:read", tag="friends", errors=(422,),
           summary="The friends of a user")  # fmt: skip
    def page(self, call: Call, user: wire.UserId, query: wire.Page) -> wire.FriendPage:
        found = [row for row in sorted(self._nodes.user.friends(user)) if row[0] > query.cursor]
        page = [wire.Friend(friend, remark) for friend, remark in found[: query.limit]]
        return wire.FriendPage(page, page[-1].user_id if len(found) > len(page) else "")

    @route("POST", "/v1/users/{user}/friends", scope="friends:write", tag="friends", errors=(422,),
           summary="Make users friends")  # fmt: skip
    def add(self, call: Call, user: wire.UserId, body: wire.NewFriends) -> wire.ItemResults:
        """Whoever consents. Each has his own result."""
        add: Any = self._nodes.user.add_friends

        def start(_: int, friend: wire.NewFriend, done: Done) -> None:
            args = (user, ((friend.user_id, friend.remark),))
            add.caller.start(add.service, add.method, args, done)

        outcomes = gather(body.friends, FRIENDS_AT_ONCE, start)
        rows = zip(body.friends, outcomes, strict=True)
        results = [_result(friend.user_id, error) for friend, (_, error) in rows]
        call.open = any(is_open(result.status) for result in results)
        return wire.ItemResults(results)

    @route("DELETE", "/v1/users/{user}/friends/{friend}", scope="friends:write", tag="friends", errors=(422,),
           summary="End a friendship")  # fmt: skip
    def delete(self, call: Call, user: wire.UserId, friend: wire.UserId) -> wire.Done:
        """On both sides. Who is no friend need not be removed."""
        self._nodes.user.delete_friends(user, (friend,))
        return wire.Done()


class People:
    """Routes of presence and sync commands."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    @route("GET", "/v1/users/{user}/presence", scope="presence:read", tag="presence", summary="Where a user is")
    def one(self, call: Call, user: wire.UserId) -> wire.Presence:
        (found,) = self._nodes.user.presence((Watched(user, ()),))
        return _presence(user, found)

    @route("POST", "/v1/presence/query", scope="presence:read", tag="presence", mutating=False,
           summary="Where up to 1,000 users are")  # fmt: skip
    def many(self, call: Call, body: wire.UserList) -> wire.Presences:
        rows: list[wire.Presence] = []
        for i in range(0, len(body.users), PRESENCE_AT_ONCE):
            some = body.users[i : i + PRESENCE_AT_ONCE]
            found = self._nodes.user.presence(tuple(Watched(user, ()) for user in some))
            rows += [_presence(user, where) for user, where in zip(some, found, strict=True)]
        return wire.Presences(rows)

    @route("POST", "/v1/sync", scope="sync:write", status=202, tag="sync", errors=(422,),
           summary="Tell clients to fetch something again")  # fmt: skip
    def sync(self, call: Call, body: wire.Sync) -> wire.Done:
        """To all devices that are online now; not stored. Commands below 100 are the protocol's."""
        self._nodes.user.sync(tuple(body.users), body.command, body.content, unique(call.seed, "sync"))
        return wire.Done()


def _result(user: str, error: Exception | None) -> wire.ItemResult:
    if error is None:
        return wire.ItemResult(user, 200)
    problem = problem_of(error)
    if problem is None:
        raise error
    return wire.ItemResult(user, problem.status, problem.problem())


def _presence(user: str, where: Whereabouts) -> wire.Presence:
    return wire.Presence(user, bool(where.device_types), list(where.device_types), where.last_seen)
