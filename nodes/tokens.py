"""Tokens: JWTs signed by the integrator's backend, with HMAC-SHA256 and a secret that we share, or with RSA and a key
of which we have the public half.

`sub` is the user id, `exp` is required, `monitor` (true) is the right to listen to sessions of others. The algorithm is
fixed by the topology and never read from the token.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mesh.errors import AppError, ConfigError
from nodes.auth import RS256, AuthSettings, read_secret
from nodes.contracts import Accepted
from packs.codes import Code
from packs.ids import is_user_id

RSA_BITS = 2048
"""Smallest RSA key."""
LEEWAY = 30
"""Seconds by which clocks may differ."""
MAX_TOKEN = 4096
"""Characters; checked before anything is parsed."""


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
