"""Who may log in: the table [auth], tokens, and passwords.

Tokens are JWTs signed with HMAC-SHA256 by the integrator's backend, which shares the secret: `sub` is the user id,
`exp` is required. The algorithm is fixed here and never read from the token. Passwords are argon2id hashes; hashing
takes tens of milliseconds of CPU, so it runs in native threads, a bounded number at a time.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import jwt
import msgspec
from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from mesh.errors import ConfigError
from packs.ids import is_user_id

ALGORITHM = "HS256"
LEEWAY = 30
"""Seconds by which clocks may differ."""
SECRET_BYTES = 32
MAX_TOKEN = 4096
"""Characters; checked before anything is parsed."""

MODES = ("open", "password", "token")


class AuthSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How users prove who they are."""

    mode: str = "open"
    """"open": anybody is who he says (loopback only); "password": accounts of our own; "token": signed tokens."""
    token_secret_file: str = ""
    """File with the secret for tokens, at least 32 bytes; default: secrets/token in the data directory, made at the
    first start."""
    tries_per_minute: int = 20
    """Failed logins per account, and ten times as many per address (loopback excepted)."""

    limit_loopback: bool = False
    """Whether limits per address, also those of [node.broker], hold for clients on the broker's own machine too."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.mode not in MODES:
            yield "mode", f"must be one of {', '.join(MODES)}, not {self.mode!r}"
        if self.tries_per_minute < 1:
            yield "tries_per_minute", "must be at least 1"


class Tokens:
    """Signs and verifies tokens."""

    def __init__(self, settings: AuthSettings, data_dir: Path) -> None:
        self._secret = _read_secret(settings, data_dir)

    def sign(self, user: str, seconds: int) -> str:
        """A token for `user`, good for `seconds` from now."""
        issued = int(time.time())
        return jwt.encode({"sub": user, "iat": issued, "exp": issued + seconds}, self._secret, ALGORITHM)

    def user_of(self, token: str) -> str | None:
        """The user a token speaks for; None when it is forged, expired, or malformed."""
        if len(token) > MAX_TOKEN:
            return None
        try:
            claims = jwt.decode(
                token, self._secret, algorithms=[ALGORITHM], leeway=LEEWAY, options={"require": ["exp", "sub"]}
            )
        except (jwt.InvalidTokenError, ValueError):
            return None
        user = claims["sub"]
        return user if isinstance(user, str) and is_user_id(user) else None


def _read_secret(settings: AuthSettings, data_dir: Path) -> bytes:
    given = settings.token_secret_file
    path = Path(given) if given else data_dir / "secrets" / "token"
    if not given and not path.exists():
        _make_secret(path)
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"[auth] token_secret_file: cannot read {path}: {error.strerror}") from None
    if len(secret) < SECRET_BYTES:
        raise ConfigError(f"[auth] token_secret_file: {path} holds fewer than {SECRET_BYTES} bytes")
    return secret


def _make_secret(path: Path) -> None:
    """Make the secret; several processes may start at once, the first file wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"token.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(SECRET_BYTES) + "\n")
    try:
        os.link(fresh, path)
    except FileExistsError:
        return
    finally:
        fresh.unlink()


class Passwords:
    """Hashes and checks passwords, in native threads."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)
        self._threads = gevent.get_hub().threadpool
        self._nobody = ""

    def hash(self, password: str) -> str:
        """In a greenlet."""
        return str(self._threads.apply(self._hasher.hash, (password,)))

    def matches(self, password: str, found: str | None) -> bool:
        """Whether `password` has this hash. With None, an unknown account, it takes as long and is False."""
        if not self._nobody:
            self._nobody = self.hash(secrets.token_hex(16))
        return bool(self._threads.apply(self._check, (found or self._nobody, password))) and found is not None

    def _check(self, found: str, password: str) -> bool:
        try:
            return self._hasher.verify(found, password)
        except (VerificationError, InvalidHashError):
            return False
