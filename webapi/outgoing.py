"""POST to addresses that somebody else chose: guarded, bounded, signed as standardwebhooks.com has it.

Only addresses of the public Internet are asked, unless that is allowed: the name is looked up once, every address that
it has is checked, and the connection goes to a checked one, so that a name cannot change its mind in between. No
redirects, no proxies of the environment, at most `MAX_BODY` of an answer, one deadline for all of it.

    webhook-id          the event; the same when it is sent again
    webhook-timestamp   seconds since the epoch, of this try
    webhook-signature   v1,<base64 of HMAC-SHA256 of "id.timestamp.body">
"""

from __future__ import annotations

import hmac
import http.client
import ipaddress
import socket
import ssl
import time
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import urlsplit

import gevent

MAX_BODY = 65_536


class Refused(Exception):
    """Nothing was sent: the address may not be asked."""


class Failed(Exception):
    """No answer came, or one that cannot be read."""


class Reply(NamedTuple):
    """An answer."""

    status: int
    body: bytes


def problem_of_url(url: str) -> str:
    """What is wrong with the URL of an endpoint, "" for nothing."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        return f"expected https://host/path, got {url!r}"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "a URL of an endpoint has no user, password or fragment"
    if not all("!" <= c <= "~" for c in url):
        return "only visible ASCII"
    return ""


def is_public(address: str) -> bool:
    """Whether an address is one of the public Internet, and no other in disguise."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is None and parsed.teredo is not None:
            return False
        if inner is None and parsed in ipaddress.IPv6Network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(parsed.packed[12:])
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast


def sign(secret: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    digest = hmac.digest(secret, f"{event_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{b64encode(digest).decode()}"


class Outgoing:
    """One endpoint. Connections are kept; any number of greenlets may post at once."""

    def __init__(self, url: str, secret: bytes, *, seconds: float, private: bool = False, ca_file: str = "") -> None:
        """`seconds` for one request, all in all. `private`: addresses that are not public, and http, may be asked.
        Raises `OSError` for a bad `ca_file`."""
        parts = urlsplit(url)
        self._secret = secret
        self._seconds = seconds
        self._private = private
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context(cafile=ca_file or None) if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls is not None else 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._idle: list[http.client.HTTPConnection] = []

    def post(self, event_id: str, body: bytes) -> Reply:
        """Send an event. Raises `Refused` and `Failed`."""
        connection = self._idle.pop() if self._idle else None
        try:
            with gevent.Timeout(self._seconds, _Late()):
                if connection is not None:
                    try:
                        return self._exchange(connection, event_id, body)
                    except (OSError, http.client.HTTPException):
                        connection.close()  # it was closed meanwhile; an event may arrive twice
                connection = self._connect()
                return self._exchange(connection, event_id, body)
        except _Late:
            self._drop(connection)
            raise Failed(f"no answer within {self._seconds:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._drop(connection)
            raise Failed(f"{type(error).__name__}: {error}"[:200]) from None

    @staticmethod
    def _drop(connection: http.client.HTTPConnection | None) -> None:
        if connection is not None:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        address = self._address()
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._seconds)
        sock = socket.create_connection((address, self._port), self._seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = sock if self._tls is None else self._tls.wrap_socket(sock, server_hostname=self._host)
        return connection

    def _address(self) -> str:
        if self._tls is None and not self._private:
            raise Refused("plain http is for private addresses only")
        found = [str(row[4][0]) for row in socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)]
        if not found:
            raise Failed(f"{self._host} has no address")
        if not self._private and (bad := [address for address in found if not is_public(address)]):
            raise Refused(f"{self._host} is {bad[0]}, which is not public")
        return found[0]

    def _exchange(self, connection: http.client.HTTPConnection, event_id: str, body: bytes) -> Reply:
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json", "User-Agent": "imesh", "webhook-id": event_id,
            "webhook-timestamp": str(timestamp), "webhook-signature": sign(self._secret, event_id, timestamp, body),
        }  # fmt: skip
        connection.request("POST", self._path, body, headers)
        response = connection.getresponse()
        found = response.read(MAX_BODY + 1)
        if len(found) > MAX_BODY:
            connection.close()
            raise Failed(f"the answer has more than {MAX_BODY} bytes")
        if response.isclosed() and not response.will_close:
            self._idle.append(connection)
        else:
            connection.close()
        return Reply(response.status, found)

    def close(self) -> None:
        """Close what is kept."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()


class _Late(BaseException):
    """The deadline passed; not an `Exception`, so that nothing between here and there takes it for its own."""
