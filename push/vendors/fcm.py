"""Google FCM, HTTP v1."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import jwt
import msgspec

from push.credential import Credential
from push.http import Reply
from push.model import Notification, Outcome, Push, VendorError, Verdict
from push.text import clip_bytes, key_of, number_of
from push.vendor import App, HttpVendor, Request, VendorSettings, fitted, http_outcome, seconds_left

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ERROR_TYPE = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
MAX_BODY = 3900
"""Of 4096 bytes that count, some for the names of the fields."""
TITLE_BYTES, TEXT_BYTES = 400, 2000
MAX_TTL = 2_419_200
RESERVED = ("from", "gcm", "message_type", "collapse_key")
RESERVED_PREFIXES = ("google", "gcm.")


class FcmSettings(VendorSettings, frozen=True, kw_only=True):
    """[push.app.NAME.fcm]"""

    service_account: str
    """Secret: the JSON file of a service account with the right to send messages."""
    channel_id: str = ""
    """Notification channel of the app; it must exist there."""
    priority: str = "HIGH"
    """"HIGH" or "NORMAL"."""
    click_action: str = ""
    """Intent filter that a tap starts; the url of a message is in its data."""

    secrets = ("service_account",)


class Fcm(HttpVendor):
    """One request per device."""

    name = "fcm"
    Settings = FcmSettings
    url = "https://fcm.googleapis.com"
    per_second = 10_000.0  # 600,000 a minute and project

    def __init__(self, app: App, settings: FcmSettings, secret: Callable[[str], str]) -> None:
        super().__init__(app, settings, secret)
        try:
            account = msgspec.json.decode(secret(settings.service_account), type=dict[str, Any])
            self._email, self._key = account["client_email"], account["private_key"]
            self._token_uri, self._project = account["token_uri"], account["project_id"]
        except (msgspec.MsgspecError, KeyError) as error:
            raise ValueError(f"service_account: not the JSON of a service account ({error})") from None
        self._oauth = self.api_at(self._token_uri)
        self.credential = Credential(self._fetch, early=300)

    def _fetch(self) -> tuple[str, float]:
        issued = int(time.time())
        claims = {"iss": self._email, "scope": SCOPE, "aud": self._token_uri, "iat": issued, "exp": issued + 3600}
        try:
            assertion = jwt.encode(claims, self._key, algorithm="RS256")
        except Exception as error:
            raise VendorError(Outcome.CONFIG, f"service account key: {type(error).__name__}") from None
        form = urlencode({"grant_type": GRANT, "assertion": assertion}).encode()
        reply = self._oauth.post("", form, {"content-type": "application/x-www-form-urlencoded"})
        found = reply.json()
        if reply.status != 200 or "access_token" not in found:
            outcome = Outcome.SERVER if reply.status >= 500 or reply.status == 429 else Outcome.CONFIG
            raise VendorError(outcome, f"token: {found.get('error') or reply.status}", reply.retry_after)
        return str(found["access_token"]), float(found.get("expires_in", 3600))

    def build(self, pushes: Sequence[Push], credential: str) -> Request:
        ((token, n),) = pushes
        n = n._replace(title=clip_bytes(n.title, TITLE_BYTES), body=clip_bytes(n.body, TEXT_BYTES))
        n = fitted(n, MAX_BODY, lambda n: msgspec.json.encode([n.title, n.body, _data(n)]))
        settings: FcmSettings = self.settings
        shown: dict[str, Any] = {"tag": str(number_of(n.collapse or n.id))}
        if n.badge >= 0:
            shown["notification_count"] = n.badge
        for key, value in (("channel_id", settings.channel_id), ("click_action", settings.click_action)):
            if value:
                shown[key] = value
        if not n.alert:
            shown["notification_priority"] = "PRIORITY_LOW"
        android: dict[str, Any] = {
            "ttl": f"{seconds_left(n, time.time(), 0, MAX_TTL)}s",
            "priority": settings.priority if n.alert else "NORMAL",
            "notification": shown,
        }
        if self.app.package:
            android["restricted_package_name"] = self.app.package
        text = {"title": n.title, "body": n.body}
        message = {"token": token, "notification": text, "data": _data(n), "android": android, "apns": _apns(n)}
        headers = {"authorization": f"Bearer {credential}", "content-type": "application/json"}
        return Request(
            f"/v1/projects/{self._project}/messages:send", headers, msgspec.json.encode({"message": message})
        )

    def judge(self, pushes: Sequence[Push], reply: Reply) -> list[Verdict]:
        if reply.status == 200:
            return [Verdict(Outcome.ACCEPTED, id=str(reply.json().get("name", "")).rpartition("/")[2])]
        error = reply.json().get("error")
        if not isinstance(error, dict):
            return [http_outcome(reply) or Verdict(Outcome.UNKNOWN, f"http {reply.status}")]
        return [_judged(reply, error)]

    def close(self) -> None:
        super().close()
        self._oauth.close()


def _judged(reply: Reply, error: Mapping[str, Any]) -> Verdict:
    details = [d for d in error.get("details", ()) if isinstance(d, dict)]
    codes = [d.get("errorCode") for d in details if d.get("@type") == ERROR_TYPE]
    code = str(codes[0] if codes else error.get("status", reply.status))
    text = str(error.get("message", "")).lower()
    fields = [v.get("field") for d in details for v in d.get("fieldViolations", ()) if isinstance(v, dict)]
    if code == "UNREGISTERED":
        return Verdict(Outcome.DEAD, code)
    if code == "INVALID_ARGUMENT":
        dead = "message.token" in fields or "registration token" in text
        return Verdict(Outcome.DEAD if dead else Outcome.BAD, code)
    if code == "SENDER_ID_MISMATCH":
        return Verdict(Outcome.DEAD, code)
    if code in ("THIRD_PARTY_AUTH_ERROR", "PERMISSION_DENIED"):
        return Verdict(Outcome.CONFIG, code)
    if reply.status == 401:
        return Verdict(Outcome.AUTH, code)
    if reply.status == 429:
        return Verdict(Outcome.THROTTLED, code, reply.retry_after)
    if reply.status >= 500:
        return Verdict(Outcome.SERVER, code, reply.retry_after)
    return Verdict(Outcome.UNKNOWN, code)


def _apns(n: Notification) -> dict[str, Any]:
    """For iPhones whose app registers with FCM."""
    aps: dict[str, Any] = {"sound": "default"} if n.alert else {}
    if n.badge >= 0:
        aps["badge"] = n.badge
    return {"headers": {"apns-collapse-id": key_of(n.collapse or n.id, 24)}, "payload": {"aps": aps}}


def _data(n: Notification) -> dict[str, str]:
    """Strings only, and none of the names that FCM keeps for itself."""
    found: dict[str, str] = {}
    for key, value in msgspec.json.decode(n.extra or "{}", type=dict[str, Any]).items():
        if key not in RESERVED and not key.startswith(RESERVED_PREFIXES):
            found[key] = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return found | {k: v for k, v in (("session", n.collapse), ("url", n.url)) if v}
