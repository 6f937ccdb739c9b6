"""OPPO push."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from push.credential import Credential
from push.http import Reply
from push.model import Outcome, Push, VendorError, Verdict
from push.text import clip, number_of, plain
from push.vendor import App, HttpVendor, Request, VendorSettings, code_table, http_outcome, of_all, seconds_left

TITLE, CONTENT, URL, PARAMETERS = 50, 128, 2000, 4000
MAX_TTL = 10 * 86_400
MAX_BADGE = 99_999

CODES = code_table({
    Outcome.DEAD: "10000",
    Outcome.AUTH: "11 29",
    Outcome.CONFIG: "14 15 16 17 18 19 20 21 22 23 24 26 27 28 30 59 67",
    Outcome.THROTTLED: "-2 13 55",
    Outcome.QUOTA: "33",
    Outcome.BAD: "12 25 31 40 41",
    Outcome.ACCEPTED: "0 32",  # 32: it was sent before
    Outcome.SERVER: "-1",
})  # fmt: skip


class OppoSettings(VendorSettings, frozen=True, kw_only=True):
    """[push.app.NAME.oppo]"""

    app_key: str
    """The app's key."""
    master_secret: str
    """Secret: the MasterSecret (not the AppSecret)."""
    channel_id: str = ""
    """Notification channel, in the app and in OPPO's console."""
    category: str = "IM"
    """Category of the messages, "" for none."""
    notify_level: int = 2
    """1 in the bar, 2 on the lock screen too, 16 with banner and sound; needs a category."""
    template_id: str = ""
    """Approved template for private messages, which these must name."""
    template_title: str = ""
    """The template's parameter for the title, "" when it has none."""
    template_body: str = "content"
    """The template's parameter for the text, "" when it has none."""

    secrets = ("master_secret",)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.notify_level not in (1, 2, 16):
            yield "notify_level", "must be 1, 2 or 16"


class Oppo(HttpVendor):
    """Up to 1000 devices, each with a notification of its own."""

    name = "oppo"
    Settings = OppoSettings
    url = "https://api.push.oppomobile.com"
    batch = 1000
    per_second = 5000.0

    def __init__(self, app: App, settings: OppoSettings, secret: Callable[[str], str]) -> None:
        super().__init__(app, settings, secret)
        self._secret = secret(settings.master_secret).strip()
        self.credential = Credential(self._fetch, early=3600)

    def _fetch(self) -> tuple[str, float]:
        stamp = str(int(time.time() * 1000))
        sign = hashlib.sha256(f"{self.settings.app_key}{stamp}{self._secret}".encode()).hexdigest()
        form = urlencode({"app_key": self.settings.app_key, "timestamp": stamp, "sign": sign}).encode()
        reply = self.api.post("/server/v1/auth", form, {"content-type": "application/x-www-form-urlencoded"})
        found = reply.json()
        data = found.get("data")
        if str(found.get("code")) != "0" or not isinstance(data, dict) or "auth_token" not in data:
            early = http_outcome(reply)
            outcome = early.outcome if early else CODES.get(str(found.get("code")), Outcome.CONFIG)
            if outcome in (Outcome.AUTH, Outcome.ACCEPTED):
                outcome = Outcome.CONFIG
            raise VendorError(outcome, f"token: {found.get('code', reply.status)}", reply.retry_after)
        return str(data["auth_token"]), 86_400.0

    def build(self, pushes: Sequence[Push], credential: str) -> Request:
        messages = [self._message(push) for push in pushes]
        one = len(messages) == 1
        name, value = ("message", messages[0]) if one else ("messages", messages)
        form = {"auth_token": credential, name: msgspec.json.encode(value).decode()}
        path = "unicast" if one else "unicast_batch"
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return Request(f"/server/v1/message/notification/{path}", headers, urlencode(form).encode())

    def _message(self, push: Push) -> dict[str, Any]:
        n, settings = push.notification, self.settings
        shown: dict[str, Any] = {
            "app_message_id": n.id, "title": clip(n.title, TITLE) or "…", "style": 2,
            "content": clip(n.body, CONTENT) or "…", "off_line": True,
            "off_line_ttl": seconds_left(n, time.time(), 1, MAX_TTL), "notify_id": number_of(n.collapse or n.id),
            "action_parameters": _parameters(n.collapse, n.extra),
            "click_action_type": 5 if n.url else 0,
        }  # fmt: skip
        if n.url:
            shown["click_action_url"] = n.url[:URL]
        if settings.channel_id:
            shown["channel_id"] = settings.channel_id
        if settings.category:
            shown |= {"category": settings.category, "notify_level": settings.notify_level if n.alert else 1}
        if settings.template_id:
            shown["private_msg_template_id"] = settings.template_id
            for key, name, text in (
                ("private_title_parameters", settings.template_title, n.title),
                ("private_content_parameters", settings.template_body, n.body),
            ):
                if name:
                    shown[key] = {name: clip(plain(text), CONTENT) or "…"}
        if n.badge >= 0:
            shown |= {"badge_operation_type": 0, "badge_message_count": min(n.badge, MAX_BADGE)}
        return {"target_type": 2, "target_value": push.token, "verify_registration_id": False, "notification": shown}

    def judge(self, pushes: Sequence[Push], reply: Reply) -> list[Verdict]:
        if (early := http_outcome(reply)) is not None:
            return [early] * len(pushes)
        found = reply.json()
        code, data = str(found.get("code", "")), found.get("data")
        if code != "0":
            return of_all(pushes, CODES.get(code, Outcome.UNKNOWN), code, reply.retry_after)
        if isinstance(data, dict) and len(pushes) == 1:
            return [Verdict(Outcome.ACCEPTED, id=str(data.get("messageId", "")))]
        rows = data if isinstance(data, list) else []
        if len(rows) != len(pushes):
            return [Verdict(Outcome.UNKNOWN, f"{len(rows)} results for {len(pushes)}")] * len(pushes)
        return [_of_row(row) for row in rows]


def _of_row(row: Any) -> Verdict:
    code = str(row.get("errorCode", 0) or 0) if isinstance(row, dict) else ""
    return Verdict(CODES.get(code, Outcome.UNKNOWN), "" if code == "0" else code, id=str(row.get("messageId", "")))


def _parameters(session: str, extra: str) -> str:
    found = msgspec.json.encode(msgspec.json.decode(extra or "{}", type=dict[str, Any]) | {"session": session}).decode()
    return found if len(found) <= PARAMETERS else msgspec.json.encode({"session": session}).decode()
