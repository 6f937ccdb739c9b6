"""The base of all vendors. One more vendor is one more file in `vendors/`:

class Acme(HttpVendor):
    name = "acme"                                    # service type of registrations, table [push.app.NAME.acme]
    Settings = AcmeSettings                          # its keys
    def build(self, pushes, credential): ...         # the request
    def judge(self, pushes, reply): ...              # what the answer means, one verdict for each push
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

import msgspec

from push.credential import Credential
from push.model import Notification, Outcome, Push, VendorError, Verdict
from push.text import clip_bytes

if TYPE_CHECKING:
    from push.http import Api, Reply


LEAST_BODY = 100
"""Bytes of a text that are shown at least, whatever else a notification carries."""


class VendorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that all vendors have. Secrets are `file:PATH` or `env:NAME`."""

    url: str = ""
    """Where the vendor listens, when not at the usual place."""
    ca_file: str = ""
    """PEM file with the authorities to trust; "": the system's."""
    per_second: float = 0.0
    """Calls per second at most; 0: what the vendor allows everybody."""
    concurrency: int = 64
    """Calls under way at once."""
    timeout: float = 10.0
    """Seconds that a call may take."""

    secrets: ClassVar[tuple[str, ...]] = ()
    """Keys that name secrets."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.url:
            parts = urlsplit(self.url)
            loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
            if not parts.hostname or (parts.scheme != "https" and not (parts.scheme == "http" and loopback)):
                yield "url", f"expected https://host[:port], got {self.url!r}"
        if not 0 <= self.per_second <= 1_000_000:
            yield "per_second", "must be from 0 to 1000000"
        if not 1 <= self.concurrency <= 1000:
            yield "concurrency", "must be from 1 to 1000"
        if not 0.1 <= self.timeout <= 60:
            yield "timeout", "must be from 0.1 to 60"
        for key in self.secrets:
            value = getattr(self, key)
            if value and not value.startswith(("file:", "env:")):
                yield key, "a secret does not stand here: name a file (file:PATH) or a variable (env:NAME)"


class App(NamedTuple):
    """An app whose users get pushes: its table's name and its package (bundle id)."""

    name: str
    package: str


class Request(NamedTuple):
    """A call to a vendor, as `imesh push preview` shows it too."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Vendor:
    """One vendor for one app. Every method may block its greenlet."""

    name: ClassVar[str] = ""
    Settings: ClassVar[type[VendorSettings]] = VendorSettings
    url: ClassVar[str] = ""
    tokens: ClassVar[str] = r"[!-+\-.-~]{1,4096}"
    """What device tokens look like: visible ASCII, and no comma, which divides them in lists."""
    batch: ClassVar[int] = 1
    """Pushes in one call, at most."""
    per_second: ClassVar[float] = 500.0
    """Calls that the vendor allows everybody."""
    wants_badge: ClassVar[bool] = True
    """Whether it shows a badge."""
    server_pause: ClassVar[float] = 1.0
    """Seconds before the first retry after its server failed; each further pause is twice as long."""
    resends_lost: ClassVar[bool] = True
    """Whether a push without an answer is sent again: shown twice at most where the vendor can tell or replaces."""

    def __init__(self, app: App, settings: Any, secret: Callable[[str], str]) -> None:
        """`secret` gets the text that a `file:` or `env:` value stands for. Raises `ValueError` for unusable ones."""
        self.app = app
        self.settings = settings
        self.credential: Credential | None = None

    def shared(self, push: Push) -> Hashable:
        """What pushes in one call have in common; None when each has its own."""
        return None

    def send(self, pushes: Sequence[Push]) -> list[Verdict]:
        """Push to some devices, at most `batch`, alike in `shared`: one verdict each. An expired credential is renewed
        and the call made once more."""
        try:
            verdicts, used = self._attempt(pushes)
            expired = self.credential is not None and any(v.outcome is Outcome.AUTH for v in verdicts)
            if expired and self.credential.reject(used):  # type: ignore[union-attr]
                verdicts, _ = self._attempt(pushes)
        except VendorError as error:
            verdicts = [error.verdict] * len(pushes)
        if verdicts[0].outcome is Outcome.SPLIT:
            half = len(pushes) // 2
            return self.send(pushes[:half]) + self.send(pushes[half:])
        return [v._replace(outcome=Outcome.CONFIG) if v.outcome is Outcome.AUTH else v for v in verdicts]

    def _attempt(self, pushes: Sequence[Push]) -> tuple[list[Verdict], str]:
        used = self.credential.value() if self.credential is not None else ""
        return self.attempt(pushes, used), used

    def attempt(self, pushes: Sequence[Push], credential: str) -> list[Verdict]:
        """Make the call. Raises `VendorError` when all of it shares a fate."""
        raise NotImplementedError

    def preview(self, push: Push) -> Request:
        """The call as it would be made, without the credential."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of connections."""


class HttpVendor(Vendor):
    """A vendor with an HTTP/1.1 interface."""

    def __init__(self, app: App, settings: Any, secret: Callable[[str], str]) -> None:
        super().__init__(app, settings, secret)
        self.api = self.api_at(settings.url or self.url)

    def api_at(self, url: str) -> Api:
        """Another address of the vendor, with the same settings."""
        from push.http import Api  # here, as reading a topology does without: urllib3 takes 30 ms

        s = self.settings
        return Api(url, ca_file=s.ca_file, connections=s.concurrency, seconds=s.timeout)

    def build(self, pushes: Sequence[Push], credential: str) -> Request:
        """The request that pushes these."""
        raise NotImplementedError

    def judge(self, pushes: Sequence[Push], reply: Reply) -> list[Verdict]:
        """What the answer means, one verdict for each. May raise `VendorError` instead."""
        raise NotImplementedError

    def attempt(self, pushes: Sequence[Push], credential: str) -> list[Verdict]:
        return self.judge(pushes, self.api.post(*_swapped(self.build(pushes, credential))))

    def preview(self, push: Push) -> Request:
        return self.build([push], "CREDENTIAL")

    def close(self) -> None:
        self.api.close()


def _swapped(request: Request) -> tuple[str, bytes, Mapping[str, str]]:
    return request.path, request.body, request.headers


def of_all(pushes: Sequence[Push], outcome: Outcome, reason: str, retry_after: float) -> list[Verdict]:
    """The same verdict for all of a call; a dead token among several is one of them, not all."""
    if outcome is Outcome.DEAD and len(pushes) > 1:
        outcome = Outcome.SPLIT
    return [Verdict(outcome, reason, retry_after)] * len(pushes)


Codes = Mapping[Outcome, str]
"""Outcome -> the vendor's codes for it, divided by blanks; `a-b` is a range of numbers."""


def code_table(codes: Codes) -> dict[str, Outcome]:
    """Code -> outcome."""
    table: dict[str, Outcome] = {}
    for outcome, text in codes.items():
        for word in text.split():
            first, dash, last = word.partition("-")
            if dash and first:
                table.update({str(n): outcome for n in range(int(first), int(last) + 1)})
            else:
                table[word] = outcome
    return table


def http_outcome(reply: Reply) -> Verdict | None:
    """What the status alone says of a vendor whose verdict stands in the body: None when that must be read."""
    if reply.status == 429:
        return Verdict(Outcome.THROTTLED, "http 429", reply.retry_after)
    if reply.status >= 500:
        return Verdict(Outcome.SERVER, f"http {reply.status}", reply.retry_after)
    if reply.status == 401 and not reply.json():
        return Verdict(Outcome.AUTH, "http 401")
    if not reply.json():
        return Verdict(Outcome.UNKNOWN, f"http {reply.status} without JSON")
    return None


def fitted(n: Notification, most: int, encode: Callable[[Notification], bytes]) -> Notification:
    """The notification, so that `encode` makes at most `most` bytes of it where that can be: with a shorter text, then
    without what the app gets beside it."""
    over = len(encode(n)) - most
    if over <= 0:
        return n
    n = n._replace(body=clip_bytes(n.body, max(LEAST_BODY, len(n.body.encode()) - over - 8)))
    if len(encode(n)) > most:
        n = n._replace(extra="")
    if len(encode(n)) > most:
        n = n._replace(url="")
    return n


def seconds_left(n: Notification, time: float, least: int, most: int) -> int:
    """The time to live in seconds, within the vendor's limits."""
    return max(least, min(most, int(n.expires - time)))
