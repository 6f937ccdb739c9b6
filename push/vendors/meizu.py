"""Meizu Flyme push."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from push.http import Reply
from push.model import ACCEPTED, Outcome, Push, Verdict
from push.text import clip, key_of
from push.vendor import App, HttpVendor, Request, VendorSettings, code_table, http_outcome, of_all, seconds_left

MAX_HOURS = 72
TITLE, CONTENT = 32, 100

CODES = code_table({
    Outcome.DEAD: "110002 110003",
    Outcome.THROTTLED: "110010 1003",
    Outcome.QUOTA: "110019 110051",
    Outcome.CONFIG: "1006 110000 110001 110009 110031 110033",
    Outcome.BAD: "1005 110004 110032 110053",
    Outcome.SERVER: "500 1001",
})  # fmt: skip
OF_ONE = code_table({
    Outcome.DEAD: "110002 110003",
    # Switched off, refused, folded, no more public ones today; 110010 means something else for the whole call.
    Outcome.SKIPPED: "110010 201 520 110011",
    Outcome.THROTTLED: "518 519",
    Outcome.SERVER: "501 513",
})  # fmt: skip


class MeizuSettings(VendorSettings, frozen=True, kw_only=True):
    """[push.app.NAME.meizu]"""

    app_id: str
    """The app's number."""
    app_secret: str
    """Secret: the AppSecret."""
    notice_type: int = 1
    """1 private messages, 0 public ones (three a day)."""

    secrets = ("app_secret",)


class Meizu(HttpVendor):
    """Up to 100 devices that get the same."""

    name = "meizu"
    Settings = MeizuSettings
    url = "https://server-api-push.meizu.com"
    batch = 100
    per_second = 200.0
    wants_badge = False

    def __init__(self, app: App, settings: MeizuSettings, secret: Callable[[str], str]) -> None:
        super().__init__(app, settings, secret)
        self._secret = secret(settings.app_secret)

    def shared(self, push: Push) -> Hashable:
        n = push.notification
        return n.title, n.body, n.url, n.extra, n.collapse, int(n.expires), n.alert

    def build(self, pushes: Sequence[Push], credential: str) -> Request:
        n = pushes[0].notification
        click: dict[str, Any] = {"clickType": 2, "url": n.url} if n.url else {"clickType": 0}
        click["parameters"] = msgspec.json.decode(n.extra or "{}", type=dict[str, Any]) | {"session": n.collapse}
        hours = -(-seconds_left(n, time.time(), 1, MAX_HOURS * 3600) // 3600)
        alert = int(n.alert)
        message = {
            "noticeBarInfo": {
                "noticeBarType": 0, "noticeMsgType": self.settings.notice_type,
                "title": clip(n.title, TITLE) or "…", "content": clip(n.body, CONTENT) or "…",
            },
            "clickTypeInfo": click,
            "pushTimeInfo": {"offLine": 1, "validTime": hours},
            "advanceInfo": {
                "suspend": alert, "clearNoticeBar": 1, "notifyKey": key_of(n.collapse or n.id, 8),
                "notificationType": {"vibrate": alert, "lights": 1, "sound": alert},
            },
        }  # fmt: skip
        form = {
            "appId": self.settings.app_id, "pushIds": ",".join(p.token for p in pushes),
            "messageJson": msgspec.json.encode(message).decode(),
        }  # fmt: skip
        form["sign"] = sign_of(form, self._secret)
        headers = {"content-type": "application/x-www-form-urlencoded;charset=UTF-8"}
        return Request("/garcia/api/server/push/varnished/pushByPushId", headers, urlencode(form).encode())

    def judge(self, pushes: Sequence[Push], reply: Reply) -> list[Verdict]:
        if (early := http_outcome(reply)) is not None:
            return [early] * len(pushes)
        found = reply.json()
        code, value = str(found.get("code", "")), found.get("value")
        if code != "200":
            return of_all(pushes, CODES.get(code, Outcome.UNKNOWN), code, reply.retry_after)
        refused: dict[str, str] = {}
        for reason, tokens in value.items() if isinstance(value, dict) else ():
            if isinstance(tokens, list):
                refused |= {str(token): str(reason) for token in tokens}
        good = ACCEPTED._replace(id=str(found.get("msgId", "")))
        return [
            Verdict(OF_ONE.get(reason, Outcome.UNKNOWN), reason) if (reason := refused.get(p.token)) else good
            for p in pushes
        ]


def sign_of(form: Mapping[str, str], secret: str) -> str:
    """MD5 of all parameters, sorted and unencoded, and the secret."""
    text = "".join(f"{key}={form[key]}" for key in sorted(form)) + secret
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
