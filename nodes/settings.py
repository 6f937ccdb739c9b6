"""The table [node.broker] of the topology."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

import msgspec

_ORIGIN = re.compile(r"https?://[a-z0-9.\-\[\]:]+").fullmatch
NO_ORIGIN = '"{}" is no origin: expected scheme://host[:port] in lower case'
LISTENS = ("listen", "tls_listen", "ws_listen", "wss_listen")
"""Settings that tell where clients connect."""


class BrokerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Client connections. Sizes in bytes, times in seconds."""

    listen: str = "127.0.0.1:7100"
    """TCP for clients, host:port; port 0 takes any free one (see `imesh status`)."""
    tls_listen: str = ""
    """TLS for clients, host:port; needs tls_certificate."""
    ws_listen: str = ""
    """WebSocket for clients, host:port."""
    wss_listen: str = ""
    """WebSocket over TLS, host:port; needs tls_certificate."""
    ws_origins: tuple[str, ...] = ()
    """Pages that browsers may connect from over WebSocket, as "https://app.example.com"; none: from any, but in the
    mode "open" from this machine's only."""
    tls_certificate: str = ""
    """PEM file with the certificate chain (and the key, unless tls_key names it)."""
    tls_key: str = ""
    """PEM file with the private key."""
    max_connections: int = 100_000
    """Connections of one broker process, at most."""
    max_frame: int = 640_000
    """Largest frame of a logged-in client."""
    write_buffer: int = 1_048_576
    """What may wait for one client; a slower reader is cut."""
    max_unanswered: int = 1_000
    """Requests of one connection under way at once (code 7)."""
    messages_per_second: float = 1_000.0
    """Messages (14, 15) of one user, with all his connections to one broker (code 7); 0 = no limit, as below."""
    message_burst: int = 5_000
    """So many at once."""
    requests_per_second: float = 1_000.0
    """Other requests of one user (code 7)."""
    request_burst: int = 5_000
    """So many at once."""
    connections_per_second: float = 200.0
    """New connections from one address, IPv6: from one /64 (closed at once); see [auth] limit_loopback."""
    connection_burst: int = 2_000
    """So many at once."""
    logins_per_second: float = 200.0
    """Logins from one address, good or bad (code 7)."""
    login_burst: int = 2_000
    """So many at once."""
    heartbeat: float = 25.0
    """Told to clients; two of them without a byte close the connection."""
    login_timeout: float = 10.0
    """From connecting to LOGIN."""
    frame_timeout: float = 30.0
    """From the first byte of a frame to its last."""
    read_interval: float = 0.004
    """Between two reads of client sockets while packs come fast (8 within it): saves CPU, costs latency; 0 = none."""

    def problems(self) -> Iterator[tuple[str, str]]:
        for key in LISTENS:
            value = getattr(self, key)
            if value or key == "listen":
                try:
                    parse_listen(value)
                except ValueError:
                    yield key, f"expected host:port, got {value!r}"
                if not value.endswith(":0") and value in [getattr(self, other) for other in LISTENS if other != key]:
                    yield key, f"{value} has another listener"
        for key in ("tls_listen", "wss_listen"):
            if getattr(self, key) and not self.tls_certificate:
                yield key, "needs tls_certificate"
        if not 20_000 <= self.max_frame <= 4_000_000:
            yield "max_frame", "must be from 20000 to 4000000"
        for origin in self.ws_origins:
            if not is_origin(origin):
                yield "ws_origins", NO_ORIGIN.format(origin)
        if self.write_buffer < self.max_frame:
            yield "write_buffer", "must be at least max_frame"
        for key in ("message", "request", "connection", "login"):
            if not 0 <= getattr(self, f"{key}s_per_second") <= 1_000_000:
                yield f"{key}s_per_second", "must be from 0 (no limit) to 1000000"
            if not 1 <= getattr(self, f"{key}_burst") <= 10_000_000:
                yield f"{key}_burst", "must be from 1 to 10000000"
        for key in ("heartbeat", "login_timeout", "frame_timeout"):
            if getattr(self, key) <= 0:
                yield key, "must be above 0"
        if not 0 <= self.read_interval <= 0.1:
            yield "read_interval", "must be from 0 to 0.1"


def is_origin(text: str) -> bool:
    """Whether this is an origin as browsers send it: scheme://host[:port]."""
    return _ORIGIN(text) is not None


def is_page_allowed(origin: str, listed: Collection[str], mode: str) -> bool:
    """Whether pages of an origin may connect, by `ws_origins` and `[auth] mode`. Any page that somebody here looks at
    reaches loopback, which is all that protects the mode "open"."""
    if listed or mode != "open":
        return not listed or origin in listed
    try:
        return is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False


def parse_listen(text: str) -> tuple[str, int]:
    """host:port or [v6]:port. Raises `ValueError`."""
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host:
        raise ValueError(text)
    number = int(port)
    if not 0 <= number <= 65535:
        raise ValueError(text)
    return host, number


def is_loopback(address: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
