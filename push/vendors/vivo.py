"""vivo push. The name of its field for badges is unconfirmed, so it gets none."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from push.credential import Credential
from push.http import Reply
from push.model import Outcome, Push, VendorError, Verdict
from push.text import clip, number_of
from push.vendor import App, HttpVendor, Request, VendorSettings, code_table, http_outcome, seconds_left

TITLE, CONTENT, MAP_PAIRS, MAP_CHARACTERS, URL = 40, 100, 10, 1024, 1024
RENEW_SECONDS = 2 * 3600.0
"""Tokens are good for a day, and are to be renewed every one to two hours."""

CODES = code_table({
    Outcome.SKIPPED: "10311",
    Outcome.AUTH: "10000",
    Outcome.CONFIG: "10043 10045 10051 10082 10094 10096 10097 10104 10200-10206",
    Outcome.THROTTLED: "10072 10093",
    Outcome.QUOTA: "10070 10073 10252 10254",
    Outcome.BAD: "10054-10060 10065 10067 10085 10095 10103 10304-10306 10352 10353",
})  # fmt: skip
BAD_TOKEN = "10302"
NIGHT = "10071"
"""Operation messages (classification 0) are taken from 07:00 to 23:00 only."""
UNREGISTERED = (1, 2)
"""Status of an unknown token: never there, or uninstalled. 4: no test device of an app under review."""


class VivoSettings(VendorSettings, frozen=True, kw_only=True):
    """[push.app.NAME.vivo]"""

    app_id: int
    """The app's number."""
    app_key: str
    """The app's key."""
    app_secret: str
    """Secret: the AppSecret."""
    category: str = "IM"
    """Second-level category; it must agree with the classification. "" for none."""
    classification: int = 1
    """1 system messages, 0 operation."""
    test: bool = False
    """Push to test devices only, as apps under review must."""

    secrets = ("app_secret",)


class Vivo(HttpVendor):
    """One request per device."""

    name = "vivo"
    Settings = VivoSettings
    url = "https://api-push.vivo.com.cn"
    per_second = 3000.0
    wants_badge = False

    def __init__(self, app: App, settings: VivoSettings, secret: Callable[[str], str]) -> None:
        super().__init__(app, settings, secret)
        self._secret = secret(settings.app_secret).strip()
        self.credential = Credential(self._fetch, early=0)

    def _fetch(self) -> tuple[str, float]:
        settings, stamp = self.settings, int(time.time() * 1000)
        text = f"{settings.app_id}{settings.app_key}{stamp}{self._secret}"
        sign = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        body = {"appId": settings.app_id, "appKey": settings.app_key, "timestamp": stamp, "sign": sign}
        reply = self.api.post("/message/auth", msgspec.json.encode(body), {"content-type": "application/json"})
        found = reply.json()
        if str(found.get("result")) != "0" or "authToken" not in found:
            early = http_outcome(reply)
            outcome = early.outcome if early else CODES.get(str(found.get("result")), Outcome.CONFIG)
            if outcome is Outcome.AUTH:
                outcome = Outcome.CONFIG
            raise VendorError(outcome, f"token: {found.get('result', reply.status)}", reply.retry_after)
        return str(found["authToken"]), RENEW_SECONDS

    def build(self, pushes: Sequence[Push], credential: str) -> Request:
        ((token, n),) = pushes
        settings: VivoSettings = self.settings
        body: dict[str, Any] = {
            "appId": settings.app_id, "regId": token, "title": clip(n.title, TITLE) or "…",
            "content": clip(n.body, CONTENT) or "…", "notifyType": 4 if n.alert else 1,
            "timeToLive": seconds_left(n, time.time(), 60, 86_400),
            "skipType": 4 if n.url else 1, "clientCustomMap": _custom(n.collapse, n.extra),
            "classification": settings.classification, "requestId": n.id, "pushMode": int(settings.test),
            "notifyId": number_of(n.collapse or n.id), "foregroundShow": False,
        }  # fmt: skip
        if n.url:
            body["skipContent"] = n.url[:URL]
        if settings.category:
            body["category"] = settings.category
        headers = {"authToken": credential, "content-type": "application/json"}
        return Request("/message/send", headers, msgspec.json.encode(body))

    def judge(self, pushes: Sequence[Push], reply: Reply) -> list[Verdict]:
        if (early := http_outcome(reply)) is not None:
            return [early]
        found = reply.json()
        code, user = str(found.get("result", "")), found.get("invalidUser")
        status = user.get("status") if isinstance(user, dict) else None
        if code == BAD_TOKEN or (code == "0" and status is not None):
            if status in UNREGISTERED:
                return [Verdict(Outcome.DEAD, f"{code}/{status}")]
            # 4, or not said: an app under review gets this for every device that is no test device.
            return [Verdict(Outcome.SKIPPED if status == 3 else Outcome.CONFIG, f"{code}/{status}")]
        if code == "0":
            return [Verdict(Outcome.ACCEPTED, id=str(found.get("taskId", "")))]
        if code == NIGHT:
            return [Verdict(Outcome.THROTTLED, code, seconds_to_morning(time.time()))]
        return [Verdict(CODES.get(code, Outcome.UNKNOWN), code, reply.retry_after)]


def seconds_to_morning(clock: float) -> float:
    """Until the next seven o'clock in China; an hour at most, since nobody knows what the vendor's clock says."""
    return min(3600.0, 86_400 - (clock + 3600) % 86_400)


def _custom(session: str, extra: str) -> dict[str, str]:
    """Strings for the app: ten pairs and 1024 characters at most, what does not fit is left out."""
    found: dict[str, str] = {}
    pairs = {"session": session, **msgspec.json.decode(extra or "{}", type=dict[str, Any])}
    size = 0
    for key, value in pairs.items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if len(found) < MAP_PAIRS and size + len(key) + len(text) <= MAP_CHARACTERS:
            found[key] = text
            size += len(key) + len(text)
    return found
