"""Things that are archived beside messages: what each is called, where it lies in Redis, and how it gets there again.

A change writes a *mark* into the log of its shard, in the script that makes it: the kind of thing and which one.
Whoever drains the log reads what the thing is *now* and writes that with the store's time, read before it: the newest
state counts, so marks may come twice, late and in any order. A rebuild writes the same states back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from store.client import Client
from store.errors import StoreUnavailable
from store.keys import PUSHING, USERS, Keys

Command = tuple[Any, ...]
Values = tuple[Any, ...]
INFO = ("name", "avatar", "owner", "desc", "limit", "mode", "created", "updated", "version", "handed")
PROFILE = ("name", "avatar", "mobile", "birthday")
ACCOUNT = ("password", "created", "disabled", "notBefore", "request")
QUEUES = "queues"
VERSION_GONE = 1
"""The lowest bit of a friendship's version says that there is none."""


class Pairs(NamedTuple):
    """How the sessions of two are called: of two users, and of an app and a user."""

    single: Callable[[str, str], str]
    notices: Callable[[str, str], str]


class Thing(NamedTuple):
    """One thing: its kind, and which one."""

    kind: str
    ids: tuple[bytes, ...]


class State(NamedTuple):
    """A thing as it was at `version` (µs); no `values`: it was gone."""

    kind: str
    ids: tuple[str, ...]
    values: Values | None
    version: int


class Kind(NamedTuple):
    """A kind of things. `read` are the commands whose replies `values` turns into what is archived, None: it is gone.
    `restore` are the commands that make it again; `keys` is the letter of the keys that hold them."""

    ids: int
    read: Callable[[Keys, Sequence[str]], list[Command]]
    values: Callable[[Sequence[Any]], Values | None]
    restore: Callable[[Keys, Pairs, Sequence[str], Values], list[Command]]
    letter: str
    of_users: bool = True


def things_of(kind: str, which: bytes) -> Thing:
    """The thing that a mark names. Raises `KeyError` or `ValueError` for a mark that names none."""
    parts = which.split(b"\0", KINDS[kind].ids - 1)
    if len(parts) != KINDS[kind].ids:
        raise ValueError("a mark without a name")
    for part in parts[:1] if kind == QUEUES else parts:
        part.decode()
    return Thing(kind, tuple(parts))


def digest(item: bytes) -> str:
    """What an item of a queue is known by."""
    return blake2b(item, digest_size=16).hexdigest()


def _text(found: bytes | None) -> str:
    return found.decode() if found is not None else ""


def _int(found: bytes | None) -> int:
    """A number of a hash, or a score, which Redis may write with an exponent."""
    if not found:
        return 0
    return int(found) if b"e" not in found and b"." not in found else int(float(found))


def _hash(key: str, values: dict[str, Any]) -> list[Command]:
    fields = [part for name, value in values.items() if value not in ("", None) for part in (name, value)]
    return [("HSET", key, *fields)] if fields else []


def _user(found: Sequence[Any]) -> Values | None:
    password, created, disabled, before, request = found[0]
    if password is None and disabled is None and before is None:
        return None
    return _text(password), _int(created), int(disabled is not None), _int(before), _text(request)


def _put_user(keys: Keys, _: Pairs, ids: Sequence[str], v: Values) -> list[Command]:
    fields = {"password": v[0], "created": v[1] or "", "disabled": "1" if v[2] else "", "notBefore": v[3] or "",
              "request": v[4]}  # fmt: skip
    account = _hash(keys.account(ids[0]), fields)
    return [*account, ("ZADD", USERS, v[1], ids[0])] if v[1] else account


def _profile(found: Sequence[Any]) -> Values | None:
    name, avatar, mobile, birthday = found[0]
    return None if name is None else (_text(name), _text(avatar), _text(mobile), _int(birthday))


def _put_profile(keys: Keys, _: Pairs, ids: Sequence[str], v: Values) -> list[Command]:
    return [("HSET", keys.of_user("i", ids[0]), *(part for pair in zip(PROFILE, v, strict=True) for part in pair))]


def _friend(found: Sequence[Any]) -> Values | None:
    stamp, version = found
    return None if stamp is None and version is None else (_int(stamp), _int(version))


def _put_friend(keys: Keys, pairs: Pairs, ids: Sequence[str], v: Values) -> list[Command]:
    user, friend = ids
    stamp, version = v
    meta = keys.meta(pairs.single(user, friend))
    commands: list[Command] = [("HSET", keys.of_user("v", user), friend, version), ("HSET", meta, "v", version)]
    if stamp:
        commands.append(("ZADD", keys.of_user("f", user), stamp, friend))
        if not version & VERSION_GONE:
            commands.append(("HSET", meta, f"f:{user}", "1"))
    return commands


def _put_block(keys: Keys, pairs: Pairs, ids: Sequence[str], _: Values) -> list[Command]:
    user, other = ids
    sessions = (pairs.single(user, other), pairs.notices(other, user))
    flags = [("HSET", keys.meta(session), f"b:{user}", "1") for session in sessions]
    return [("SADD", keys.of_user("b", user), other), *flags]


def _score(found: Sequence[Any]) -> Values | None:
    return None if found[0] is None else (_int(found[0]),)


def _put_attribute(keys: Keys, _: Pairs, ids: Sequence[str], v: Values) -> list[Command]:
    user, about, subject, name = ids
    # The list of the names is made of the values when all are there (`store/rebuild.py`).
    return [("HSET", keys.of_user(about, user), f"{subject}\0{name}", v[0])]


def _group(found: Sequence[Any]) -> Values | None:
    texts, numbers = found[0][:4], found[0][4:9]
    if found[0][8] is None:
        return None
    return (*map(_text, texts), *map(_int, numbers), _text(found[0][9]))


def _put_group(keys: Keys, _: Pairs, ids: Sequence[str], v: Values) -> list[Command]:
    info = dict(zip(INFO, v, strict=True))
    handed = info.pop("handed")
    fields = [part for pair in info.items() for part in pair] + (["handed", handed] if handed else [])
    return [("HSET", keys.group_info(ids[0]), *fields)]


def _position(found: Sequence[Any]) -> Values | None:
    if found[0] is None:
        return None
    seq, _, n = found[0].partition(b":")
    return int(seq), int(n)


def _tokens(found: Sequence[Any]) -> Values | None:
    return (msgspec.msgpack.encode(found[0]),) if found[0] else None


def _put_tokens(keys: Keys, _: Pairs, ids: Sequence[str], v: Values) -> list[Command]:
    fields = msgspec.msgpack.decode(v[0], type=list[bytes])
    return [("HSET", keys.of_user("k", ids[0]), *fields), ("SET", PUSHING, "1")]


KINDS: dict[str, Kind] = {
    "users": Kind(1, lambda k, i: [("HMGET", k.account(i[0]), *ACCOUNT)], _user, _put_user, "u"),
    "profiles": Kind(1, lambda k, i: [("HMGET", k.of_user("i", i[0]), *PROFILE)], _profile, _put_profile, "i"),
    "friends": Kind(
        2, lambda k, i: [("ZSCORE", k.of_user("f", i[0]), i[1]), ("HGET", k.of_user("v", i[0]), i[1])],
        _friend, _put_friend, "v",
    ),
    "blocks": Kind(
        2, lambda k, i: [("SISMEMBER", k.of_user("b", i[0]), i[1])], lambda found: () if found[0] else None,
        _put_block, "b",
    ),
    "requests": Kind(
        2, lambda k, i: [("ZSCORE", k.of_user("q", i[0]), i[1])], _score,
        lambda k, _, i, v: [("ZADD", k.of_user("q", i[0]), v[0], i[1])], "q",
    ),
    "attributes": Kind(
        4, lambda k, i: [("HGET", k.of_user(i[1], i[0]), f"{i[2]}\0{i[3]}")],
        lambda found: None if found[0] is None else (_text(found[0]),), _put_attribute, "as",
    ),
    "user_groups": Kind(
        2, lambda k, i: [("ZSCORE", k.my_groups(i[0]), i[1])], _score,
        lambda k, _, i, v: [("ZADD", k.my_groups(i[0]), v[0], i[1])], "g",
    ),
    "tokens": Kind(1, lambda k, i: [("HGETALL", k.of_user("k", i[0]))], _tokens, _put_tokens, "k"),
    "chat_groups": Kind(
        1, lambda k, i: [("HMGET", k.group_info(i[0]), *INFO)], _group, _put_group, "i", of_users=False
    ),
    "members": Kind(
        2, lambda k, i: [("ZSCORE", k.members(i[0]), i[1])], _score,
        lambda k, _, i, v: [("ZADD", k.members(i[0]), v[0], i[1])], "p", of_users=False,
    ),
    "positions": Kind(
        2, lambda k, i: [("HGET", k.meta(i[0]), f"r:{i[1]}")], _position,
        lambda k, _, i, v: [("HSET", k.meta(i[0]), f"r:{i[1]}", f"{v[0]}:{v[1]}")], "m", of_users=False,
    ),
    QUEUES: Kind(
        2, lambda k, i: [("ZSCORE", k.priority(i[0]), i[1])], _score,
        lambda k, _, i, v: [("ZADD", k.priority(i[0]), v[0], v[1])], "hc",
    ),
}  # fmt: skip
"""By the name of their table."""


def read(client: Client, keys: Keys, things: Sequence[Thing]) -> list[State | None]:
    """What things are now, in a greenlet; None where the server, one of a Cluster, does not answer. The time is read
    first: a change that is seen here and not yet marked is of a later time, so its mark writes it again. Raises
    `StoreError`."""
    commands: list[Command] = [("TIME",)]
    counts = []
    for thing in things:
        ids: list[Any] = [part.decode() for part in thing.ids[:1]]
        ids += [part if thing.kind == QUEUES else part.decode() for part in thing.ids[1:]]
        asked = KINDS[thing.kind].read(keys, ids)
        counts.append(len(asked))
        commands += asked
    clock, *replies = client.ask_each(commands)
    if isinstance(clock, StoreUnavailable):
        raise clock
    seconds, micros = clock
    version = int(seconds) * 1_000_000 + int(micros)
    states: list[State | None] = []
    at = 0
    for thing, count in zip(things, counts, strict=True):
        found = replies[at : at + count]
        at += count
        if any(isinstance(reply, Exception) for reply in found):
            states.append(None)
        else:
            states.append(State(thing.kind, *_archived(thing, KINDS[thing.kind].values(found)), version))
    return states


def _archived(thing: Thing, values: Values | None) -> tuple[tuple[str, ...], Values | None]:
    """Ids and values as the tables have them: an item of a queue is known by its digest."""
    if thing.kind != QUEUES:
        return tuple(part.decode() for part in thing.ids), values
    owner, item = thing.ids
    return (owner.decode(), digest(item)), None if values is None else (*values, item)
