"""Where Redis is, from the URL of the topology.

    redis://[user:password@]host[:port][/db]                one server; rediss:// the same over TLS
    unix:///path[?db=N]                                     one server, on a unix socket
    redis+sentinel://[user:password@]host[:port],…/name[/db]   the master of this name, of which these sentinels know
    redis+cluster://[user:password@]host[:port],…           a Redis Cluster, found through any of these servers

`rediss+sentinel://` and `rediss+cluster://` use TLS for all connections. Options behind a `?`, for TLS: `ca` (a PEM
file of those who may sign the server's certificate; without it, those that this machine trusts), `cert` and `key` (PEM
files of our own certificate, where the server asks for one); for sentinels: `sentinel_user`, `sentinel_password`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
REDIS_PORT, SENTINEL_PORT = 6379, 26379
TLS_OPTIONS = ("ca", "cert", "key")
SENTINEL_OPTIONS = ("sentinel_user", "sentinel_password")


class TlsFiles(NamedTuple):
    """PEM files for a connection over TLS, "" for none."""

    ca: str
    cert: str
    key: str


class Address(NamedTuple):
    """Where one Redis listens and as whom to log in."""

    path: str  # unix socket, or ""
    host: str
    port: int
    username: str
    password: str
    db: int
    tls: TlsFiles | None = None

    def __repr__(self) -> str:  # no password in logs
        scheme = "redis" if self.tls is None else "rediss"
        return f"unix://{self.path}" if self.path else f"{scheme}://{self.host}:{self.port}/{self.db}"

    def at(self, host: str, port: int) -> Address:
        """The same login on another server."""
        return self._replace(host=host, port=port)


class SentinelAddress(NamedTuple):
    """The master `name` of which `sentinels` know; `master` is how to log in there, its place left out."""

    sentinels: tuple[Address, ...]
    name: str
    master: Address

    def __repr__(self) -> str:
        return f"redis+sentinel://{_places(self.sentinels)}/{self.name}"


class ClusterAddress(NamedTuple):
    """A Redis Cluster with these servers, among others perhaps."""

    seeds: tuple[Address, ...]

    def __repr__(self) -> str:
        return f"redis+cluster://{_places(self.seeds)}"


AnyAddress = Address | SentinelAddress | ClusterAddress


def parse_url(url: str) -> AnyAddress:
    """Read a URL as above. Raises `ValueError` with a text for whoever wrote it, never with a password."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        close = get_close_matches(scheme, SCHEMES, 1) if separator else []
        hint = f' (did you mean "{close[0]}://"?)' if close else ""
        raise ValueError(f"expected {', '.join(f'{s}://' for s in SCHEMES)}{hint}")
    parts = urlsplit(url)
    kind = scheme.partition("+")[2]
    tls = scheme.startswith("rediss")
    allowed: tuple[str, ...] = ("db",) if scheme == "unix" else TLS_OPTIONS if tls else ()
    if kind == "sentinel":
        allowed += SENTINEL_OPTIONS
    options = _options(parts, allowed)
    user, password = _login(parts)
    if scheme == "unix":
        if not parts.path:
            raise ValueError("expected unix:///path, with the path of a socket")
        return Address(parts.path, "", 0, user, password, _database(options.get("db", "")))
    files = _files(options) if tls else None
    port = SENTINEL_PORT if kind == "sentinel" else REDIS_PORT
    places = [_place(place, port, scheme) for place in parts.netloc.rpartition("@")[2].split(",")]
    path = parts.path.strip("/")
    if kind == "sentinel":
        name, _, db = path.partition("/")
        if not name:
            raise ValueError(f"expected {scheme}://host,host/name: the name of the master is missing")
        login = options.get("sentinel_user", ""), options.get("sentinel_password", "")
        sentinels = tuple(Address("", host, number, *login, 0, files) for host, number in places)
        return SentinelAddress(sentinels, unquote(name), Address("", "", 0, user, password, _database(db), files))
    if kind == "cluster":
        if path not in ("", "0"):
            raise ValueError(f"a Redis Cluster has no databases: leave out /{path}")
        return ClusterAddress(tuple(Address("", host, number, user, password, 0, files) for host, number in places))
    if len(places) > 1:
        raise ValueError(f"{scheme}:// takes one host; several are for {scheme}+sentinel:// or {scheme}+cluster://")
    return Address("", *places[0], user, password, _database(path), files)


def _login(parts: SplitResult) -> tuple[str, str]:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return unquote(user), unquote(password)


def _place(text: str, port: int, scheme: str) -> tuple[str, int]:
    """host[:port], the host perhaps an IPv6 address in brackets."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        number = rest.removeprefix(":")
    else:
        host, _, number = text.partition(":")
    if not host:
        raise ValueError(f"expected {scheme}://host[:port]: a host is missing")
    if number and not (number.isascii() and number.isdigit() and 0 < int(number) < 65_536):
        raise ValueError(f'the port of {host} must be from 1 to 65535, not "{number}"')
    return host, int(number or port)


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError(f'the database must be a number, not "{text}"')
    return int(text or 0)


def _options(parts: SplitResult, allowed: tuple[str, ...]) -> dict[str, str]:
    found = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in found:
        if name not in allowed:
            there = f"there are {', '.join(allowed)}" if allowed else "there are none"
            raise ValueError(f'unknown option "{name}" for {parts.scheme}://; {there}')
    return found


def _files(options: Mapping[str, str]) -> TlsFiles:
    for name in TLS_OPTIONS:
        file = options.get(name, "")
        if file and not os.path.isabs(file):
            raise ValueError(f"{name}: give the whole path of the file, not {file}")
        if file and not os.access(file, os.R_OK):
            raise ValueError(f"{name}: there is no readable file {file}")
    if options.get("key") and not options.get("cert"):
        raise ValueError("key: it belongs to a certificate; give cert too")
    return TlsFiles(*(options.get(name, "") for name in TLS_OPTIONS))


def _places(addresses: tuple[Address, ...]) -> str:
    return ",".join(f"{a.host}:{a.port}" for a in addresses)
