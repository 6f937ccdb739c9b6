"""Routes: what is served, declared at the methods that serve it.

    class Groups:
        @route("GET", "/v1/groups/{group}", scope="groups:read", summary="A group")
        def get(self, call: Call, group: GroupId) -> Group: ...

        @route("POST", "/v1/groups", scope="groups:write", status=201, summary="Make a group")
        def create(self, call: Call, body: NewGroup) -> Created: ...

The signature is the one definition that validates requests and makes the OpenAPI document: parameters named in the
path come from it, `query` is a Struct of query parameters, `body` what the JSON body must be, the result the answer.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec

from webapi.exchange import Answer, ApiError
from webapi.keys import ApiKey

F = TypeVar("F", bound=Callable[..., Any])
MUTATING = frozenset(("POST", "PUT", "PATCH", "DELETE"))
MAX_QUERY_FIELDS = 100
_PARAMETER = re.compile(r"\{(\w+)\}")
_WHERE = re.compile(r" - at `\$?\.?(.*)`$")
_NAMED = re.compile(r"(?:missing required|contains unknown) field `([^`]*)`")


class Declared(NamedTuple):
    """What `route` was given."""

    method: str
    path: str
    scope: str
    summary: str
    status: int
    tag: str
    mutating: bool
    errors: tuple[int, ...]
    any_type: bool


def route(
    method: str, path: str, *, summary: str, scope: str = "", status: int = 200, tag: str = "",
    mutating: bool | None = None, errors: tuple[int, ...] = (), any_type: bool = False,
) -> Callable[[F], F]:  # fmt: skip
    """Mark a method as the handler of a route.

    `scope`: what the caller's key must allow; "" = anybody, without a key. `mutating`: whether `Idempotency-Key` is
    taken (default: by the method). `errors`: statuses that this route may answer beside those that all may. `any_type`:
    the body is JSON whatever Content-Type says.
    """
    repeats = method in MUTATING if mutating is None else mutating
    declared = Declared(method, path, scope, summary, status, tag, repeats, errors, any_type)

    def mark(function: F) -> F:
        function.__route__ = declared  # type: ignore[attr-defined]
        return function

    return mark


class Call:
    """One request as its handler sees it."""

    __slots__ = ("again", "key", "open", "peer", "request_id", "seed")

    def __init__(self, request_id: str, key: ApiKey | None, seed: bytes, peer: str, again: bool = False) -> None:
        self.request_id = request_id
        self.key = key
        self.seed = seed
        """The same for every repeat of a request with an `Idempotency-Key`, else unique."""
        self.peer = peer
        self.again = again
        """This is a repeat, and what the first try did is not known: it may be done already."""
        self.open = False
        """To be set by a handler that succeeds, but not yet with all: a repeat shall run it again."""


class Route:
    """A route, ready to run."""

    def __init__(self, declared: Declared, handler: Callable[..., Any]) -> None:
        self.method, self.path = declared.method, declared.path
        self.declared = declared
        self.handler = handler
        self.names = tuple(_PARAMETER.findall(declared.path))
        hints = typing.get_type_hints(handler, include_extras=True)
        parameters = list(inspect.signature(handler).parameters)
        self.types = {name: hints[name] for name in self.names}
        self.query: type[msgspec.Struct] | None = hints.get("query")
        self.body: Any = hints.get("body")
        self.answer: Any = hints["return"]
        known = {"call", "query", "body", *self.names}
        if unknown := set(parameters) - known:
            raise TypeError(f"{declared.method} {declared.path}: {sorted(unknown)} come from nowhere")
        self.doc = inspect.getdoc(handler) or ""
        pattern = _PARAMETER.sub(r"([^/]+)", declared.path)
        self.matches = re.compile(pattern).fullmatch if self.names else None
        self._decode = msgspec.json.Decoder(self.body).decode if self.body is not None else None

    def arguments(self, path: tuple[str, ...], query: str, body: bytes) -> dict[str, Any]:
        """The handler's arguments, validated. Raises `ApiError` 400 with the field that is wrong."""
        found: dict[str, Any] = {}
        for name, text in zip(self.names, path, strict=True):
            found[name] = _convert(_unquoted(name, text), self.types[name], name)
        if self.query is not None:
            found["query"] = _convert(_fields(query, self.query), self.query, "")
        elif query:
            raise ApiError(400, "bad_request", "this route takes no query parameters", field=query.split("=")[0][:64])
        if self._decode is not None:
            found["body"] = _decoded(self._decode, body)
        elif body:
            raise ApiError(400, "bad_request", "this route takes no body", field="body")
        return found


class Table:
    """All routes, found by method and path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = list(routes)
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: dict[int, list[tuple[Any, dict[str, Route]]]] = {}
        for each in self.routes:
            if each.matches is None:
                methods = self._exact.setdefault(each.path, {})
            else:
                methods = self._of_pattern(each)
            if each.method in methods:
                raise TypeError(f"{each.method} {each.path} is served twice")
            methods[each.method] = each

    def _of_pattern(self, each: Route) -> dict[str, Route]:
        assert each.matches is not None
        same = self._patterns.setdefault(each.path.count("/"), [])
        for matches, methods in same:
            if matches.__self__.pattern == each.matches.__self__.pattern:  # type: ignore[attr-defined]
                return methods
        methods = {}
        same.append((each.matches, methods))
        return methods

    def find(self, path: str) -> tuple[dict[str, Route], tuple[str, ...]] | None:
        """The routes of a path by method, and the parameters in it as they were sent; None: there is no such path."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact, ()
        for matches, methods in self._patterns.get(path.count("/"), ()):
            match = matches(path)
            if match is not None:
                return methods, match.groups()
        return None


def routes_of(*groups: object) -> list[Route]:
    """The routes that methods of these objects declare, in the order in which they are written."""
    found = []
    for group in groups:
        for name in vars(type(group)):
            handler = getattr(group, name)
            declared = getattr(handler, "__route__", None)
            if declared is not None:
                found.append(Route(declared, handler))
    return found


def _unquoted(name: str, text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ApiError(400, "bad_request", f"{name} is no UTF-8", field=name) from None


def _fields(query: str, struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Query parameters by name; those of list type may come several times."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict",
                          max_num_fields=MAX_QUERY_FIELDS)  # fmt: skip
    except ValueError:
        raise ApiError(400, "bad_request", "the query cannot be read", field="query") from None
    lists = _lists(struct)
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in lists:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise ApiError(400, "bad_request", f"{name} is there twice", field=name[:64])
        else:
            found[name] = value
    return found


@cache
def _lists(struct: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(
        f.encode_name for f in msgspec.structs.fields(struct)
        if isinstance(msgspec.inspect.type_info(f.type), msgspec.inspect.ListType)
    )  # fmt: skip


def _convert(value: Any, wanted: Any, name: str) -> Any:
    try:
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error, name) from None


def _decoded(decode: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error, "") from None
    except msgspec.DecodeError as error:
        raise ApiError(400, "bad_json", f"the body is no JSON: {str(error)[:200]}", field="body") from None
    except (UnicodeDecodeError, RecursionError, ValueError):
        raise ApiError(400, "bad_json", "the body is no JSON that can be read", field="body") from None


def _invalid(error: msgspec.ValidationError, name: str) -> ApiError:
    """The refusal that names the field."""
    text = str(error)
    where, text = _WHERE.search(text), _WHERE.sub("", text)
    field = where[1] if where is not None and where[1] != "" else ""
    if (named := _NAMED.search(text)) is not None:
        field = f"{field}.{named[1]}" if field else named[1]
    return ApiError(400, "bad_request", text[:300], field=(name or field or "body")[:128])


def as_answer(value: Any, status: int, encode: Callable[[Any], bytes]) -> Answer:
    """What a handler returned, as an answer."""
    if isinstance(value, Answer):
        return value
    return Answer(status, b"" if value is None else encode(value))
