"""Apple APNs: HTTP/2, one request per device on few connections."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import jwt
import msgspec

from mesh.loop import Every
from push.credential import Credential
from push.http import Reply
from push.http2 import Http2
from push.model import Notification, Outcome, Push, Verdict
from push.text import clip_bytes, key_of
from push.vendor import App, Request, Vendor, VendorSettings, code_table, fitted

PRODUCTION, SANDBOX = "https://api.push.apple.com", "https://api.sandbox.push.apple.com"
MAX_BODY = 4096
TITLE_BYTES, BODY_BYTES = 400, 2400
MAX_TTL = 30 * 86_400
TOKEN_SECONDS, TOKEN_LEAST = 2700.0, 1200.0
"""A token is used for 45 minutes: Apple refuses those older than an hour, and more than one in 20 minutes."""
CONNECTIONS = 2
LOOK_SECONDS = 10.0

REASONS = code_table({
    Outcome.DEAD: "Unregistered ExpiredToken BadDeviceToken DeviceTokenNotForTopic",
    Outcome.AUTH: "ExpiredProviderToken",
    Outcome.CONFIG: "InvalidProviderToken MissingProviderToken Forbidden BadCertificate BadCertificateEnvironment "
                    "BadTopic MissingTopic TopicDisallowed InvalidPushType",
    Outcome.THROTTLED: "TooManyProviderTokenUpdates",
    Outcome.BUSY: "TooManyRequests",  # to one device
    Outcome.BAD: "PayloadTooLarge PayloadEmpty BadCollapseId BadExpirationDate BadMessageId BadPriority "
                 "DuplicateHeaders MissingDeviceToken BadPath MethodNotAllowed",
    Outcome.SERVER: "InternalServerError ServiceUnavailable Shutdown IdleTimeout",
})  # fmt: skip


class ApnsSettings(VendorSettings, frozen=True, kw_only=True):
    """[push.app.NAME.apns]"""

    key: str
    """Secret: the .p8 file of a signing key."""
    key_id: str
    """Its id: ten characters."""
    team_id: str
    """Ten characters."""
    topic: str = ""
    """Bundle id; "": the app's package."""
    sandbox: bool = False
    """Apps built for development have their tokens there."""
    sound: str = "default"
    """Sound in the app's bundle."""
    concurrency: int = 500
    """Calls under way at once."""

    secrets = ("key",)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        for key in ("key_id", "team_id"):
            if len(getattr(self, key)) != 10:
                yield key, "has ten characters"


class Apns(Vendor):
    """One request per device."""

    name = "apns"
    Settings = ApnsSettings
    url = PRODUCTION
    tokens = r"[0-9a-f]{16,512}"  # stands in a path
    per_second = 5000.0
    server_pause = 900.0  # Apple asks for 15 minutes after a 5xx
    token_least: ClassVar[float] = TOKEN_LEAST

    def __init__(self, app: App, settings: ApnsSettings, secret: Callable[[str], str]) -> None:
        super().__init__(app, settings, secret)
        self._key = secret(settings.key)
        parts = urlsplit(settings.url or (SANDBOX if settings.sandbox else PRODUCTION))
        self.http = Http2(
            parts.hostname or "", parts.port or 443, ca_file=settings.ca_file, connections=CONNECTIONS,
            seconds=settings.timeout,
        )  # fmt: skip
        self._authority = parts.netloc
        self._topic = settings.topic or app.package
        try:
            self._sign()
        except Exception as error:
            raise ValueError(f"key: not a signing key ({type(error).__name__})") from None
        self.credential = Credential(self._sign, early=0, least_age=self.token_least)
        self._looking = Every(LOOK_SECONDS, self.http.look)

    def _sign(self) -> tuple[str, float]:
        claims = {"iss": self.settings.team_id, "iat": int(time.time())}
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self.settings.key_id}), TOKEN_SECONDS

    def _headers(self, push: Push, credential: str) -> list[tuple[str, str]]:
        token, n = push
        expires = min(int(n.expires), int(time.time()) + MAX_TTL)
        headers = [
            (":method", "POST"), (":scheme", "https"), (":authority", self._authority), (":path", f"/3/device/{token}"),
            ("authorization", f"bearer {credential}"), ("apns-topic", self._topic), ("apns-push-type", "alert"),
            ("apns-id", apns_id(n)), ("apns-expiration", str(expires)), ("apns-priority", "10" if n.alert else "5"),
        ]  # fmt: skip
        if n.collapse:
            headers.append(("apns-collapse-id", key_of(n.collapse, 24)))
        return headers

    def _body(self, n: Notification) -> bytes:
        n = n._replace(title=clip_bytes(n.title, TITLE_BYTES), body=clip_bytes(n.body, BODY_BYTES))
        return self._encode(fitted(n, MAX_BODY, self._encode))

    def _encode(self, n: Notification) -> bytes:
        aps: dict[str, Any] = {"alert": {"title": n.title, "body": n.body}, "mutable-content": 1}
        if n.badge >= 0:
            aps["badge"] = n.badge
        if n.collapse:
            aps["thread-id"] = n.collapse
        if n.alert and self.settings.sound:
            aps["sound"] = self.settings.sound
        own = {k: v for k, v in (("session", n.collapse), ("url", n.url)) if v}
        extra = msgspec.json.decode(n.extra, type=dict[str, Any]) if n.extra else {}
        return msgspec.json.encode({**extra, **own, "aps": aps})

    def attempt(self, pushes: Sequence[Push], credential: str) -> list[Verdict]:
        (push,) = pushes
        reply = self.http.post(self._headers(push, credential), self._body(push.notification))
        return [self.judged(reply)]

    @staticmethod
    def judged(reply: Reply) -> Verdict:
        """What an answer means."""
        if reply.status == 200:
            return Verdict(Outcome.ACCEPTED, id=reply.headers.get("apns-id", ""))
        found = reply.json()
        reason = str(found.get("reason", ""))
        outcome = REASONS.get(reason)
        if outcome is None:
            by_status = {410: Outcome.DEAD, 413: Outcome.BAD, 429: Outcome.THROTTLED}
            outcome = by_status.get(reply.status, Outcome.SERVER if reply.status >= 500 else Outcome.UNKNOWN)
        stamp = found.get("timestamp", 0)
        since = stamp if reply.status == 410 and isinstance(stamp, int) else 0
        return Verdict(outcome, reason or f"http {reply.status}", reply.retry_after, since=since)

    def preview(self, push: Push) -> Request:
        headers = dict(self._headers(push, "CREDENTIAL"))
        return Request(headers[":path"], headers, self._body(push.notification))

    def close(self) -> None:
        self._looking.stop()
        self.http.close()


def apns_id(n: Notification) -> str:
    """The notification's id as a UUID: the same for every try."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, n.id))
