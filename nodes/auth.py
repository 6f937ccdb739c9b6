"""Who may log in: the table [auth], tokens, and passwords.

Tokens are JWTs signed by the integrator's backend: with HMAC-SHA256 and a secret that we share, or with RSA and a key
of which we have the public half. `sub` is the user id, `exp` is required, `monitor` (true) is the right to listen to
sessions of others. The algorithm is fixed by the topology and never read from the token. Passwords are argon2id hashes;
hashing takes tens of milliseconds of CPU, so it runs in native threads, a bounded number at a time.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import jwt
import msgspec
from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mesh.errors import AppError, ConfigError
from nodes.contracts import Accepted
from packs.codes import Code
from packs.ids import is_user_id

HS256, RS256 = "HS256", "RS256"
RSA_BITS = 2048
"""Smallest RSA key."""
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
    token_algorithm: str = "HS256"
    """"HS256": tokens are signed with a secret; "RS256": with an RSA key that only your backend has."""
    token_secret_file: str = ""
    """HS256: file with the secret, at least 32 bytes; default: secrets/token in the data directory, made at the first
    start."""
    token_public_key_file: str = ""
    """RS256: PEM file with the public key, at least 2048 bits."""
    monitors: tuple[str, ...] = ()
    """Users who may listen to sessions of others (22-24), beside those whose token has the claim "monitor": true."""
    tries_per_minute: int = 20
    """Failed logins per account, and ten times as many per address (loopback excepted)."""

    limit_loopback: bool = False
    """Whether limits per address, also those of [node.broker], hold for clients on the broker's own machine too."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.mode not in MODES:
            yield "mode", f"must be one of {', '.join(MODES)}, not {self.mode!r}"
        if self.token_algorithm not in (HS256, RS256):
            yield "token_algorithm", f'must be "HS256" or "RS256", not "{self.token_algorithm}"'
        elif self.token_algorithm == RS256 and not self.token_public_key_file:
            yield "token_algorithm", '"RS256" needs token_public_key_file'
        for user in self.monitors:
            if not is_user_id(user):
                yield "monitors", f'"{user}" is no user id'
        if self.tries_per_minute < 1:
            yield "tries_per_minute", "must be at least 1"


class Tokens:
    """Signs and verifies tokens."""

    def __init__(self, settings: AuthSettings, data_dir: Path) -> None:
        self._algorithm = settings.token_algorithm
        self._key: Any
        if self._algorithm == RS256:
            self._key = _read_public_key(settings)
        else:
            self._key = read_secret(settings.token_secret_file, data_dir, "token", "[auth] token_secret_file")

    def sign(self, user: str, seconds: int) -> str:
        """A token for `user`, good for `seconds` from now. Raises `AppError` where only the backend can sign."""
        if self._algorithm == RS256:
            raise AppError(Code.PARAM, "tokens are RS256: your backend has the key that signs them, we do not")
        issued = int(time.time())
        return jwt.encode({"sub": user, "iat": issued, "exp": issued + seconds}, self._key, self._algorithm)

    def accepted(self, token: str) -> Accepted | None:
        """Whom a token speaks for; None when it is forged, expired, or malformed."""
        if len(token) > MAX_TOKEN:
            return None
        try:
            claims = jwt.decode(
                token, self._key, algorithms=[self._algorithm], leeway=LEEWAY, options={"require": ["exp", "sub"]}
            )
        except (jwt.InvalidTokenError, ValueError):
            return None
        user = claims["sub"]
        if not isinstance(user, str) or not is_user_id(user):
            return None
        issued = claims.get("iat", 0)  # the library has seen to it that it is a number
        return Accepted(user, claims.get("monitor") is True, int(issued))


def _read_public_key(settings: AuthSettings) -> RSAPublicKey:
    path = settings.token_public_key_file
    try:
        key = load_pem_public_key(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"[auth] token_public_key_file: cannot read {path}: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"[auth] token_public_key_file: {path} is no public key in PEM") from None
    if not isinstance(key, RSAPublicKey) or key.key_size < RSA_BITS:
        raise ConfigError(f"[auth] token_public_key_file: {path} is no RSA key of at least {RSA_BITS} bits")
    return key


def read_secret(given: str, data_dir: Path, name: str, setting: str) -> bytes:
    """The secret in the file `given`, or where that is empty in secrets/`name` of the data directory, where it is made
    when it is not there. Raises `ConfigError` that names `setting`."""
    path = Path(given) if given else data_dir / "secrets" / name
    if not given and not path.exists():
        _make_secret(path)
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path}: {error.strerror}") from None
    if len(secret) < SECRET_BYTES:
        raise ConfigError(f"{setting}: {path} holds fewer than {SECRET_BYTES} bytes")
    return secret


def _make_secret(path: Path) -> None:
    """Make a secret; several processes may start at once, the first file wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
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
