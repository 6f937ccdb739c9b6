"""API keys: who calls, and what he may.

A key is `imk_<id>_<secret>`. The secret is derived from the id and a master secret in a file, so the store holds
nothing that could be used. It is sent as it is,

    Authorization: Bearer imk_<id>_<secret>

or never leaves the caller, who signs each request with it:

    Authorization: HMAC-SHA256 key=<id>, timestamp=<unix s>, nonce=<8 to 64 of A-Z a-z 0-9 - _>, signature=<hex>

The signature is HMAC-SHA256 with the secret as key over six lines joined by newlines: method, path, query (as sent,
without `?`), SHA-256 of the body in hex, timestamp, nonce. A timestamp may be `SKEW_SECONDS` off; a nonce counts once.
"""

from __future__ import annotations

import hmac
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

import msgspec

from webapi.exchange import ApiError, Head

PREFIX = "imk"
SKEW_SECONDS = 300
NONCE_SECONDS = 2 * SKEW_SECONDS + 60
"""How long a nonce is remembered: longer than its timestamp is good."""
ALL = "*"
"""The scope that stands for all."""
BEARER, HMAC = "Bearer", "HMAC-SHA256"
_KEY = re.compile(r"imk_([a-z0-9]{4,32})_([A-Za-z0-9_-]{43})").fullmatch
_SIGNED = re.compile(
    r"HMAC-SHA256 key=([a-z0-9]{4,32}), ?timestamp=(\d{1,12}), ?nonce=([A-Za-z0-9_-]{8,64}), ?signature=([0-9a-f]{64})"
).fullmatch


class ApiKey(msgspec.Struct, frozen=True):
    """A key without its secret. Times in ms; `expires` 0: never."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created: int
    expires: int = 0
    per_second: float = 0
    """Requests; 0: what the server gives everybody."""

    def may(self, scope: str) -> bool:
        return scope in self.scopes or ALL in self.scopes


class Signature(NamedTuple):
    """What a signed request claims."""

    key: ApiKey
    timestamp: str
    nonce: str
    signature: str


class Secrets:
    """The secrets of keys."""

    def __init__(self, master: bytes) -> None:
        self._master = master

    def of(self, key_id: str) -> str:
        digest = hmac.digest(self._master, f"api key {key_id}".encode(), "sha256")
        return urlsafe_b64encode(digest).decode().rstrip("=")

    def whole(self, key_id: str) -> str:
        """The key as its owner gets it."""
        return f"{PREFIX}_{key_id}_{self.of(key_id)}"


class Authenticator:
    """Tells who calls. `find` looks a key up in memory."""

    def __init__(self, secrets: Secrets, find: Callable[[str], ApiKey | None]) -> None:
        self._secrets = secrets
        self._find = find

    def claimed(self, head: Head) -> ApiKey | Signature:
        """Who a request says that it comes from: proven for a bearer, to be checked with `check` for a signature.

        Raises `ApiError` 401.
        """
        text = head.headers.get("authorization", "")
        scheme, _, token = text.partition(" ")
        if scheme.lower() == "bearer":
            match = _KEY(token.strip())
            # An unknown id is as much work as a wrong secret, and looks the same.
            if match is not None and hmac.compare_digest(self._secrets.of(match[1]), match[2]):
                return self._live(match[1])
            raise _unauthorized("the key is wrong")
        match = _SIGNED(text)
        if match is not None:
            if abs(int(match[2]) - time.time()) > SKEW_SECONDS:
                raise _unauthorized(f"the timestamp is more than {SKEW_SECONDS} s off")
            return Signature(self._live(match[1]), match[2], match[3], match[4])
        raise _unauthorized("an API key is needed" if not text else f"Authorization is neither {BEARER} nor {HMAC}")

    def check(self, head: Head, body: bytes, signature: Signature) -> None:
        """Raises `ApiError` 401 when the signature is not that of this request."""
        secret = self._secrets.of(signature.key.id).encode()
        signed = sign(secret, head.method, head.path, head.query, body, signature.timestamp, signature.nonce)
        if not hmac.compare_digest(signed, signature.signature):
            raise _unauthorized("the signature is wrong")

    def _live(self, key_id: str) -> ApiKey:
        key = self._find(key_id)
        if key is None or (key.expires and key.expires <= time.time() * 1000):
            raise _unauthorized("the key is wrong")
        return key


def sign(secret: bytes, method: str, path: str, query: str, body: bytes, timestamp: str, nonce: str) -> str:
    """The signature of a request, in hex."""
    text = "\n".join((method, path, query, sha256(body).hexdigest(), timestamp, nonce))
    return hmac.new(secret, text.encode("latin-1"), "sha256").hexdigest()


def _unauthorized(text: str) -> ApiError:
    return ApiError(401, "unauthorized", text, headers=(("WWW-Authenticate", f"{BEARER}, {HMAC}"),))
