"""The API keys of a process: in memory, read again within a second of a change."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import msgspec

from mesh.errors import AppError
from packs.codes import Code
from store.api import ApiStore
from store.errors import StoreError
from webapi.keys import ALL, ApiKey, Secrets

LOOK_SECONDS = 1.0
ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
ID_LENGTH = 12
MAX_NAME = 64
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ApiKey).decode


class Keyring:
    """Keys by id. What blocks is for greenlets."""

    def __init__(self, store: ApiStore, secrets_of: Secrets, scopes: Callable[[], frozenset[str]]) -> None:
        self._store = store
        self._secrets = secrets_of
        self._scopes = scopes
        self._keys: dict[str, ApiKey] = {}
        self._version = -1

    def find(self, key_id: str) -> ApiKey | None:
        """A key, from memory."""
        return self._keys.get(key_id)

    def look(self) -> None:
        """Read the keys again if they changed. While the store is away, those known stay."""
        try:
            if self._store.version() != self._version:
                self._load()
        except StoreError:
            return

    def _load(self) -> None:
        version, rows = self._store.rows()
        self._keys = {key_id: _decode(row) for key_id, row in rows.items()}
        self._version = version

    def all(self) -> list[ApiKey]:
        """All keys, oldest first, from the store."""
        self._load()
        return sorted(self._keys.values(), key=lambda key: (key.created, key.id))

    def create(self, name: str, scopes: tuple[str, ...], seconds: int, per_second: float) -> str:
        """Make a key; the whole key. Raises `AppError`."""
        known = self._scopes()
        if unknown := [scope for scope in scopes if scope not in known and scope != ALL]:
            raise AppError(Code.PARAM, f"unknown scope {unknown[0]!r}; there are: {ALL}, {', '.join(sorted(known))}")
        if not scopes:
            raise AppError(Code.PARAM, "a key without a scope may do nothing")
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            raise AppError(Code.PARAM, f"a name has 1 to {MAX_NAME} printable characters")
        if seconds < 0 or not 0 <= per_second <= 1_000_000:
            raise AppError(Code.PARAM, "seconds and rate are not negative")
        created = int(time.time() * 1000)
        key_id = "".join(secrets.choice(ID_CHARACTERS) for _ in range(ID_LENGTH))
        key = ApiKey(key_id, name, scopes, created, created + seconds * 1000 if seconds else 0, per_second)
        self._store.put(key_id, _encode(key))
        self._load()
        return self._secrets.whole(key_id)

    def revoke(self, key_id: str) -> bool:
        """End a key; False when there is none."""
        there = self._store.remove(key_id)
        self._load()
        return there
