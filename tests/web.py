"""A caller of the HTTP API: plain requests, and bytes on a socket for what no client library sends."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """An answer; `json` is None where the body is none."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def error(self) -> str:
        """The code of the error."""
        found: str = self.json["error"]["code"]
        return found


class Web:
    """One caller with a key."""

    def __init__(self, address: tuple[str, int], key: str = "", timeout: float = 15.0) -> None:
        self.address = address
        self.key = key
        self._timeout = timeout

    def ask(self, method: str, path: str, body: Any = None, raw: bytes | None = None, **headers: str) -> Reply:
        """One request on a connection of its own. `body` goes as JSON, `raw` as it is; `_` in header names is `-`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key and "Authorization" not in sent:
            sent["Authorization"] = f"Bearer {self.key}"
        data = raw
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(*self.address, timeout=self._timeout)
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        return self.ask("POST", path, body, **headers)

    def connect(self) -> Wire:
        """A socket to it."""
        return Wire(self.address)


class Wire:
    """A connection on which anything can be said."""

    def __init__(self, address: tuple[str, int], timeout: float = 10.0) -> None:
        self.sock = socket.create_connection(address, timeout)
        self._rest = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self) -> Reply | None:
        """The next answer; None when the connection is closed instead."""
        while b"\r\n\r\n" not in self._rest:
            if not self._more():
                return None
        head, _, rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        status, size = int(first.split()[1]), int(headers.get("content-length", 0))
        while len(rest) < size:
            self._rest = rest
            if not self._more():
                return None
            rest = self._rest
        self._rest = rest[size:]
        return Reply(status, headers, rest[:size])

    def _more(self) -> bool:
        try:
            data = self.sock.recv(65_536)
        except ConnectionResetError:
            return False
        self._rest += data
        return bool(data)

    def is_closed(self) -> bool:
        """Whether the other side has closed, once all was read; waits for it."""
        return self.reply() is None

    def close(self) -> None:
        self.sock.close()
