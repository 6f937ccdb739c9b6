"""One HTTP/1.1 connection: bytes to requests and answers to bytes. On the hub, no greenlet.

Framing is llhttp's (`httptools`), the parser of Node.js, in its strict mode: it refuses conflicting, repeated and
malformed lengths, folded headers, bare CR and LF, blanks before colons. What it leaves open is refused here: versions
other than 1.0 and 1.1, transfer encodings other than `chunked`, a missing or repeated Host, Upgrade, CONNECT. After
anything malformed the connection is answered 400 and closed: what follows cannot be told from it.

Requests of one connection are answered one by one, in order. While one is with the application, what comes behind it is
not parsed and, but for one read, not read. So a client that pipelines costs no more memory than one that does not.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import httptools

from mesh.streams import Stream
from webapi.exchange import REASONS, Answer, ApiError, Head, Request, error_answer

if TYPE_CHECKING:
    from webapi.server import Server

SLICE = 4_096
"""Bytes that are parsed at once where heads may begin, so that few requests are made of them."""
SWALLOW = 65_536
"""A body up to this size is read and thrown away when its head was refused; a larger one costs the connection."""
CHUNK_OVERHEAD = 2
"""A body in chunks may be so many times as long on the wire as it is."""
REPEATABLE = frozenset(
    ("accept", "accept-encoding", "accept-language", "via", "forwarded", "x-forwarded-for", "cookie")
)
"""Headers that may come more than once and are joined; any other may not."""
WAITING, HEAD, BODY = "waiting", "head", "body"
_TARGET = re.compile(r"/[!-\"$-~]*").fullmatch  # no fragment, no blank
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Refused(Exception):
    """Ends the parsing of a connection; `error` is the answer."""

    def __init__(self, error: ApiError) -> None:
        self.error = error


class Connection(Stream):
    """A connection of a `Server`."""

    __slots__ = (
        "_admitted", "_body", "_body_size", "_busy", "_close_after", "_fresh", "_head", "_head_size", "_headers",
        "_keep_alive", "_parser", "_paused", "_pending", "_phase", "_ready", "_refusal", "_server", "_since",
        "_url", "_wire_size",
    )  # fmt: skip

    def __init__(self, server: Server, streams: Any, sock: Any, peer: str) -> None:
        super().__init__(streams, sock, peer)
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._pending = b""  # came while a request was being answered
        self._paused = False
        self._ready: list[Request | Answer] = []  # parsed, not yet begun
        self._busy = False  # one is with the application
        self._close_after = False  # nothing more is read; close when all is answered
        self._fresh = True  # nothing came yet
        self._since = streams.time
        self._admitted: Any = None
        self._refusal: ApiError | None = None
        self._head: Head | None = None
        self._phase = WAITING
        self._url = b""
        self._headers: dict[str, str] = {}
        self._head_size = self._wire_size = 0  # bytes on the wire, about
        self._body: list[bytes] = []
        self._body_size = 0
        self._keep_alive = False

    # ---- bytes in

    def received(self, data: bytes) -> None:
        if self._close_after:
            return
        self._pending = self._pending + data if self._pending else data
        self._parse()
        if self._pending and not self._paused and self.open:
            self._paused = True
            self.pause()

    def _parse(self) -> None:
        """Parse what is there, until there is a request to answer."""
        while self._pending and not (self._busy or self._close_after) and self.open:
            if self._phase is WAITING:
                self._phase, self._since, self._fresh = HEAD, self.streams.time, False
            data, self._pending = self._pending, b""
            if self._phase is HEAD and len(data) > SLICE:
                data, self._pending = data[:SLICE], data[SLICE:]
            if self._phase is HEAD:
                self._head_size += len(data)
            else:
                self._wire_size += len(data)
            try:
                self._parser.feed_data(data)
                if self._phase is HEAD and self._head_size > self._server.limits.head:
                    self._give_up(_too_large_a_head(self._server.limits.head))
            except httptools.HttpParserCallbackError as error:
                inner = error.__context__
                self._give_up(inner.error if isinstance(inner, _Refused) else _malformed(str(error)))
            except httptools.HttpParserError as error:
                self._give_up(_malformed(str(error)))
            self._next()

    def _give_up(self, error: ApiError) -> None:
        """Answer after what came before, then close."""
        self._server.counts["requests.malformed"] += 1
        self._forget_body()
        self._pending = b""
        self._ready.append(error_answer(error, self._server.new_id()))
        self._close_after = True

    # ---- the parser's callbacks

    def on_message_begin(self) -> None:
        self._forget_body()
        self._reset()
        self._phase, self._since = HEAD, self.streams.time

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not HEAD:
            return  # a trailer: of no interest, and never part of the head
        headers, key = self._headers, name.decode("latin-1").lower()
        if key in headers:
            if key not in REPEATABLE:
                raise _Refused(_malformed(f"the header {key[:64]} is repeated"))
            headers[key] += ", " + value.decode("latin-1")
        else:
            headers[key] = value.decode("latin-1")
        if len(headers) > self._server.limits.headers:
            raise _Refused(ApiError(431, "head_too_large", f"more than {self._server.limits.headers} header fields"))

    def on_headers_complete(self) -> None:
        limits, parser, headers = self._server.limits, self._parser, self._headers
        size = len(self._url) + sum(map(len, headers)) + sum(map(len, headers.values()))
        if size > limits.head:
            raise _Refused(_too_large_a_head(limits.head))
        self._phase, self._since = BODY, self.streams.time
        version = parser.get_http_version()
        length = _check_framing(version, headers, self._url)
        if parser.should_upgrade():
            raise _Refused(_malformed("no Upgrade and no CONNECT here"))
        path, _, query = self._url.decode("ascii").partition("?")
        self._head = head = Head(parser.get_method().decode(), path, query, headers, self.peer, length)
        self._keep_alive = bool(parser.should_keep_alive()) and not self._server.draining
        expect = headers.get("expect", "").lower()
        if length > limits.body:
            self._server.counts["requests.too_large"] += 1
            raise _Refused(_too_large(limits.body))
        if expect not in ("", "100-continue"):
            raise _Refused(ApiError(417, "expectation_failed", "the only expectation is 100-continue"))
        try:
            self._admitted = self._server.admit(head)
        except ApiError as error:
            self._refusal = error
            if length < 0 or length > SWALLOW or expect:
                raise _Refused(error) from None
        if expect and length and version == "1.1":
            self.write(_CONTINUE)

    def on_body(self, data: bytes) -> None:
        self._body_size += len(data)
        limit = self._server.limits.body
        if self._body_size > limit or self._wire_size > CHUNK_OVERHEAD * limit + SWALLOW:
            raise _Refused(_too_large(limit))
        if self._refusal is None:
            self._body.append(data)
            if not self._server.buffer(len(data)):
                raise _Refused(ApiError(503, "overloaded", "too many bodies are being received", retry_after=1))

    def on_message_complete(self) -> None:
        assert self._head is not None
        body = b"".join(self._body)
        refusal = self._refusal
        self._forget_body()
        if refusal is not None:
            self._ready.append(self._server.refused(self._head, refusal))
            self._close_after = not self._keep_alive
        else:
            self._ready.append(Request(self._head, self._admitted, body, self._keep_alive))
        self._reset()

    def _reset(self) -> None:
        self._phase = WAITING
        self._url = b""
        self._headers = {}
        self._head_size = self._wire_size = 0
        self._body = []
        self._body_size = 0
        self._refusal = None
        self._keep_alive = False

    def _forget_body(self) -> None:
        """What was buffered counts no more."""
        if self._body:
            self._server.buffer(-sum(map(len, self._body)))
            self._body = []

    # ---- answers out

    def _next(self) -> None:
        """Begin with the next request, answer what needs no application."""
        while self._ready and not self._busy and self.open:
            item = self._ready.pop(0)
            if isinstance(item, Answer):
                self._write(item, close=self._close_after and not self._ready)
            else:
                self._busy = True
                self._server.handle(item, lambda answer, request=item: self._answered(request, answer))  # type: ignore[misc]

    def _answered(self, request: Request, answer: Answer) -> None:
        self._busy = False
        if not self.open:
            return
        if not request.keep_alive or self._server.draining:
            self._ready.clear()
            self._close_after = True
        self._write(answer, close=self._close_after and not self._ready)
        if self._phase is WAITING:
            self._since = self.streams.time
        self._next()
        self._parse()
        if self._paused and not self._pending and self.open:
            self._paused = False
            self.resume()

    def _write(self, answer: Answer, *, close: bool) -> None:
        lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, '')}"]
        if answer.status not in (204, 304):
            if answer.body:
                lines.append(f"Content-Type: {answer.type}")
            lines.append(f"Content-Length: {len(answer.body)}")
        lines += [f"{name}: {value}" for name, value in answer.headers]
        if close:
            lines.append("Connection: close")
        lines.append(self._server.standing_headers())
        self.write("\r\n".join(lines).encode("latin-1") + answer.body)
        if close:
            self._since = self.streams.time
            self.finish("answered")

    # ---- the end

    def lost(self, reason: str) -> None:
        self._forget_body()
        self._ready.clear()
        self._pending = b""
        self._close_after = True
        self._server.lost(reason)

    def sweep(self, at: float) -> None:
        """Close when a deadline has passed."""
        limits = self._server.limits
        waited = at - self._since
        if self._busy:
            return
        if self._close_after:  # its last answer is on its way
            if waited > limits.idle_timeout:
                self.close("idle")
            return
        if self._phase is WAITING:
            if waited > (limits.head_timeout if self._fresh else limits.idle_timeout):
                self.close("idle")
        elif waited > (limits.head_timeout if self._phase is HEAD else limits.body_timeout):
            self._server.counts["requests.timed_out"] += 1
            self._give_up(ApiError(408, "request_timeout", f"the {self._phase} did not come in time"))
            self._next()

    def drain(self) -> None:
        """Close as soon as nothing is under way."""
        if not (self._busy or self._ready or self._close_after):
            self.close("draining")


def _check_framing(version: str, headers: dict[str, str], url: bytes) -> int:
    """The length of the body, -1 for chunks. Refuses what the parser lets pass."""
    if version not in ("1.0", "1.1"):
        raise _Refused(ApiError(505, "http_version", "HTTP/1.1 is spoken here"))
    if version == "1.1" and not headers.get("host"):
        raise _Refused(_malformed("Host is missing"))
    encoding = headers.get("transfer-encoding")
    if encoding is not None:
        if version == "1.0":
            raise _Refused(_malformed("HTTP/1.0 has no Transfer-Encoding"))
        if encoding.lower() != "chunked":
            raise _Refused(ApiError(501, "not_implemented", "the only transfer encoding is chunked"))
    if not _TARGET(url.decode("latin-1")):
        raise _Refused(_malformed("the target must be a path"))
    return -1 if encoding is not None else int(headers.get("content-length", 0))


def _malformed(text: str) -> ApiError:
    return ApiError(400, "malformed_request", f"this is no HTTP request: {text}")


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "body_too_large", f"a body has at most {limit} bytes", limit=limit)


def _too_large_a_head(limit: int) -> ApiError:
    return ApiError(431, "head_too_large", f"request line and headers have at most {limit} bytes")


def http_date() -> str:
    """Now, as a Date header has it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
