"""The application: a table of routes behind keys, limits and idempotency. `webapi/__init__.py` shows the way."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, MutableMapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from mesh.limits import MAX_KEYS, Bucket
from mesh.loop import now
from webapi.cors import Cors
from webapi.exchange import Answer, ApiError, Head, Request, error_answer
from webapi.idempotency import Records, Repeatable
from webapi.keys import ApiKey, Authenticator, Signature
from webapi.routes import Call, Route, Table, as_answer

Log = Any
OWN_BURST_SECONDS = 2
"""A key with a rate of its own may ask at once what it may ask in so many seconds."""
_encode = msgspec.json.Encoder().encode


class Admitted(NamedTuple):
    """What is known of a request before its body is read."""

    route: Route | None  # None: a preflight
    path: tuple[str, ...]
    key: ApiKey | None
    signature: Signature | None
    request_id: str
    started: float


class Rates(NamedTuple):
    """What one key may ask: requests per second (0: no limit), and so many at once."""

    per_second: float
    burst: int


class Api:
    """Answers requests. `nonces(caller, nonce)` is whether a nonce is new; `translate` makes `ApiError` of errors that
    handlers let through, or returns None for a bug."""

    def __init__(
        self, routes: Sequence[Route], authenticator: Authenticator, records: Records,
        nonces: Callable[[str, str], bool], translate: Callable[[Exception], ApiError | None], rates: Rates, cors: Cors,
        counts: MutableMapping[str, int], took: Callable[[float], None], log: Log,
        open_routes: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        """`open_routes`: tags of routes that need no key, whatever they declare."""
        self.table = Table(routes)
        self._authenticator = authenticator
        self._records = records
        self._nonces = nonces
        self._translate = translate
        self._rates = rates
        self._cors = cors
        self._counts = counts
        self._took = took
        self._log = log
        self._open_routes = open_routes
        self._buckets: dict[str, Bucket] = {}
        self._start = os.urandom(6).hex()
        self._ids = itertools.count(1)

    # ---- on the hub

    def admit(self, head: Head) -> Admitted:
        """Route, method, credentials and rate. Raises `ApiError`."""
        started = now()
        found = self.table.find(head.path)
        if found is None:
            raise ApiError(404, "no_such_route", "there is nothing at this path")
        methods, path = found
        request_id = f"{self._start}{next(self._ids):08x}"
        route = methods.get(head.method)
        if route is None:
            if head.method == "OPTIONS" and self._cors.is_preflight(head):
                return Admitted(None, tuple(methods), None, None, request_id, started)
            allowed = ", ".join(methods)
            raise ApiError(405, "method_not_allowed", f"this path takes {allowed}", headers=(("Allow", allowed),))
        self._check_type(route, head)
        if not route.declared.scope or route.declared.tag in self._open_routes:
            return Admitted(route, path, None, None, request_id, started)
        claimed = self._authenticator.claimed(head)
        signature = claimed if isinstance(claimed, Signature) else None
        key = claimed.key if isinstance(claimed, Signature) else claimed
        if not key.may(route.declared.scope):
            raise ApiError(403, "missing_scope", f"the key lacks the scope {route.declared.scope}",
                           scope=route.declared.scope)  # fmt: skip
        if signature is None:  # else when it is known to be the key's
            self._take(key)
        return Admitted(route, path, key, signature, request_id, started)

    def _check_type(self, route: Route, head: Head) -> None:
        if route.body is None or route.declared.any_type:
            return
        kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(415, "unsupported_type", "the body must be JSON: Content-Type: application/json",
                           field="Content-Type")  # fmt: skip
        if head.headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, "unsupported_type", "compressed bodies are not taken", field="Content-Encoding")

    def _take(self, key: ApiKey) -> None:
        bucket = self._buckets.get(key.id)
        if bucket is None:
            if len(self._buckets) >= MAX_KEYS:
                self._buckets.clear()
            bucket = self._buckets[key.id] = self._bucket_of(key)
        if wait := bucket.take(now()):
            self._counts["requests.limited"] += 1
            raise ApiError(429, "rate_limited", "this key asks too much", retry_after=wait)

    def _bucket_of(self, key: ApiKey) -> Bucket:
        if key.per_second:
            return Bucket(key.per_second, max(1, int(OWN_BURST_SECONDS * key.per_second)))
        return Bucket(*self._rates)

    def refused(self, head: Head, error: ApiError) -> Answer:
        """The answer to a request whose head was refused."""
        self._counts[f"answers.{error.status}"] += 1
        return self._dressed(head, error_answer(error, f"{self._start}{next(self._ids):08x}"))

    # ---- in a greenlet

    def run(self, request: Request) -> Answer:
        """Answer a request; never raises."""
        head, admitted = request.head, request.admitted
        if admitted.route is None:
            return self._cors.preflight(head, admitted.path)
        try:
            answer = self._answer(head, admitted, request.body)
        except ApiError as error:
            answer = error_answer(error, admitted.request_id)
        except Exception as error:
            answer = self._failed(admitted, error)
        self._counts["requests"] += 1
        self._counts[f"answers.{answer.status}"] += 1
        self._took(now() - admitted.started)
        if not any(name == "X-Request-Id" for name, _ in answer.headers):
            answer = answer._replace(headers=(("X-Request-Id", admitted.request_id), *answer.headers))
        return self._dressed(head, answer)

    def _answer(self, head: Head, admitted: Admitted, body: bytes) -> Answer:
        route, key, signature = admitted.route, admitted.key, admitted.signature
        assert route is not None
        if signature is not None:
            self._authenticator.check(head, body, signature)
            self._take(signature.key)
            if not self._nonces(signature.key.id, signature.nonce):
                raise ApiError(401, "unauthorized", "the nonce was used before")
        arguments = route.arguments(admitted.path, head.query, body)
        caller = key.id if key is not None else ""
        given = head.headers.get("idempotency-key") if route.declared.mutating else None
        if given is None:
            call = Call(admitted.request_id, key, admitted.request_id.encode(), head.peer)
            return self._handled(route, call, arguments, admitted)
        repeatable = Repeatable(self._records, caller, given, head, body)
        kept = repeatable.before()
        if kept is not None:
            return kept
        call = Call(admitted.request_id, key, repeatable.seed, head.peer, repeatable.again)
        answer = self._handled(route, call, arguments, admitted)
        return repeatable.after(answer, call.open)

    def _handled(self, route: Route, call: Call, arguments: dict[str, Any], admitted: Admitted) -> Answer:
        try:
            return as_answer(route.handler(call, **arguments), route.declared.status, _encode)
        except ApiError as error:
            return error_answer(error, admitted.request_id)
        except Exception as error:
            return self._failed(admitted, error)

    def _failed(self, admitted: Admitted, error: Exception) -> Answer:
        known = self._translate(error)
        if known is None:
            self._log.error("a handler failed", request=admitted.request_id, exc_info=error)
            known = ApiError(500, "internal", "this is our mistake; the log has more under the request's id")
        return error_answer(known, admitted.request_id)

    def _dressed(self, head: Head, answer: Answer) -> Answer:
        origin = head.headers.get("origin")
        return answer if origin is None else self._cors.dress(origin, answer)


def unique(seed: bytes, what: str) -> str:
    """An id derived from a call's seed: the same for every repeat. 32 hex digits."""
    return blake2b(what.encode(), key=seed[:64], digest_size=16).hexdigest()
