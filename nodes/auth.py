"""Who may log in: the table [auth], secrets in files, and passwords. Tokens are in `tokens.py`.

Passwords are argon2id hashes; hashing takes tens of milliseconds of CPU, so it runs in native threads, a bounded number
at a time.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import gevent
import msgspec
from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from mesh.errors import ConfigError
from packs.ids import is_user_id

HS256, RS256 = "HS256", "RS256"
SECRET_BYTES = 32

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
