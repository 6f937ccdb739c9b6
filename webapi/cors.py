"""CORS by a list of origins: pages from anywhere else cannot read answers."""

from __future__ import annotations

from collections.abc import Iterable

from webapi.exchange import Answer, Head

MAX_AGE_SECONDS = 600
HEADERS = "Authorization, Content-Type, Idempotency-Key"
EXPOSED = "X-Request-Id, Retry-After, Idempotency-Replayed"


class Cors:
    """`origins` as browsers send them: scheme, host, port."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)

    def is_preflight(self, head: Head) -> bool:
        headers = head.headers
        return headers.get("origin") in self._origins and "access-control-request-method" in headers

    def preflight(self, head: Head, methods: Iterable[str]) -> Answer:
        headers = (
            ("Access-Control-Allow-Methods", ", ".join(methods)),
            ("Access-Control-Allow-Headers", HEADERS),
            ("Access-Control-Max-Age", str(MAX_AGE_SECONDS)),
        )
        return self.dress(head.headers["origin"], Answer(204, headers=headers))

    def dress(self, origin: str, answer: Answer) -> Answer:
        """The answer, readable by pages of `origin` if it is on the list."""
        if origin not in self._origins:
            return answer
        more = (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"), ("Access-Control-Expose-Headers", EXPOSED))
        return answer._replace(headers=(*answer.headers, *more))
