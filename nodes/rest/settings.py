"""The table [node.http] of the topology."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nodes.settings import NO_ORIGIN, is_origin, parse_listen


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP API. Sizes in bytes, times in seconds."""

    listen: str = "127.0.0.1:7180"
    """host:port; port 0 takes any free one (see `imesh status`); "" = not without TLS."""
    tls_listen: str = ""
    """TLS, host:port; needs tls_certificate."""
    tls_certificate: str = ""
    """PEM file with the certificate chain (and the key, unless tls_key names it)."""
    tls_key: str = ""
    """PEM file with the private key."""
    secret_file: str = ""
    """File with the secret that API keys are derived from, at least 32 bytes, the same on all hosts; default:
    secrets/api in the data directory, made at the first start."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call, as browsers send them: "https://app.example.com"."""
    classic_without_key: bool = False
    """True: the routes /msg/… and /friend/… need no key, for callers that know none. Loopback only."""
    requests_per_second: float = 2_000.0
    """Of one key that has no limit of its own (429); 0 = no limit."""
    request_burst: int = 5_000
    """So many at once."""
    max_body: int = 4_194_304
    """Largest body; a larger one is refused unread."""
    max_head: int = 16_384
    """Request line and headers."""
    max_connections: int = 20_000
    """Connections of one process."""
    head_timeout: float = 10.0
    """From the first byte of a request to the end of its head."""
    body_timeout: float = 60.0
    """From there to the end of its body."""
    idle_timeout: float = 75.0
    """Between two requests."""

    def problems(self) -> Iterator[tuple[str, str]]:
        for key in ("listen", "tls_listen"):
            if value := getattr(self, key):
                try:
                    parse_listen(value)
                except ValueError:
                    yield key, f"expected host:port, got {value!r}"
        if not self.listen and not self.tls_listen:
            yield "listen", "nothing to listen on"
        if self.tls_listen and not self.tls_certificate:
            yield "tls_listen", "needs tls_certificate"
        for origin in self.cors_origins:
            if not is_origin(origin):
                yield "cors_origins", NO_ORIGIN.format(origin)
        if self.requests_per_second < 0:
            yield "requests_per_second", "must be from 0 (no limit)"
        if self.request_burst < 1:
            yield "request_burst", "must be at least 1"
        if not 65_536 <= self.max_body <= 67_108_864:
            yield "max_body", "must be from 65536 to 67108864"
        if not 2_048 <= self.max_head <= 65_536:
            yield "max_head", "must be from 2048 to 65536"
        if not 1 <= self.max_connections <= 1_000_000:
            yield "max_connections", "must be from 1 to 1000000"
        for key in ("head_timeout", "body_timeout", "idle_timeout"):
            if not 0 < getattr(self, key) <= 3600:
                yield key, "must be above 0, at most 3600"
