"""Huawei Push Kit: v1 and v2 for Android and HarmonyOS up to 4, v3 for HarmonyOS 5 and later.

Whether one app needs both at once (the kind of token decides) is unconfirmed: set up two apps, or choose one version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

import jwt
import msgspec

from push.credential import Credential
from push.http import Reply
from push.model import ACCEPTED, Notification, Outcome, Push, VendorError, Verdict
from push.text import clip_bytes, number_of
from push.vendor import App, HttpVendor, Request, VendorSettings, code_table, fitted, http_outcome, seconds_left

TOKEN_URL = "https://oauth-login.cloud.huawei.com/oauth2/v3/token"
MAX_TTL = 1_296_000
MAX_BADGE = 99
MAX_BODY = 4000
"""Of 4096 bytes without the tokens."""
TITLE_BYTES, TEXT_BYTES = 400, 1500
OK, PARTLY = "80000000", "80100000"

CODES = code_table({
    Outcome.DEAD: "80300007",
    Outcome.AUTH: "80200003 80200005",
    Outcome.CONFIG: "80200001 80300002 80300011 80600003 80300013",
    Outcome.THROTTLED: "80100017",
    Outcome.BAD: "80100001 80100003 80100004 80100013 80100016 80100018 80300008 80300010",
    Outcome.SERVER: "81000001",
})  # fmt: skip


class HuaweiSettings(VendorSettings, frozen=True, kw_only=True):
    """[push.app.NAME.huawei]"""

    version: str = "v1"
    """"v1", "v2" or "v3"."""
    client_id: str = ""
    """App id, for v1, and for the token of v1 and v2."""
    client_secret: str = ""
    """Secret: its App Secret, for v1 and v2."""
    project_id: str = ""
    """For v2 and v3."""
    service_account: str = ""
    """Secret: the JSON file of a service account (key_id, sub_account, private_key); v3 takes nothing else."""
    token_url: str = TOKEN_URL
    """Where tokens come from."""
    category: str = "IM"
    """Self-classified category; it needs an approval. "" for none."""
    channel_id: str = ""
    """Notification channel (v1, v2)."""
    badge_class: str = ""
    """Full name of the entry activity: without it v1 and v2 show no badge."""
    click_action: str = ""
    """Action that a tap starts; "": the app. A message's url is in its data."""

    secrets = ("client_secret", "service_account")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.version not in ("v1", "v2", "v3"):
            yield "version", 'must be "v1", "v2" or "v3"'
            return
        needed = {"v1": ("client_id",), "v2": ("project_id",), "v3": ("project_id", "service_account")}[self.version]
        for key in needed:
            if not getattr(self, key):
                yield key, f"{self.version} needs it"
        if not self.service_account and not (self.client_id and self.client_secret):
            yield "client_secret", "needed with client_id, unless service_account is given"


class Huawei(HttpVendor):
    """Up to 1000 devices that get the same."""

    name = "huawei"
    Settings = HuaweiSettings
    url = "https://push-api.cloud.huawei.com"
    batch = 1000
    per_second = 6000.0

    def __init__(self, app: App, settings: HuaweiSettings, secret: Callable[[str], str]) -> None:
        super().__init__(app, settings, secret)
        self._tokens = self.api_at(settings.token_url)
        self._account: dict[str, str] = {}
        self._secret = ""
        if settings.service_account:
            try:
                self._account = msgspec.json.decode(secret(settings.service_account), type=dict[str, Any])
                _ = self._account["key_id"], self._account["sub_account"], self._account["private_key"]
            except (msgspec.MsgspecError, KeyError) as error:
                raise ValueError(f"service_account: not the JSON of a service account ({error})") from None
            self.credential = Credential(self._sign, early=300)
        else:
            self._secret = secret(settings.client_secret)
            self.credential = Credential(self._fetch, early=300)
        where = settings.client_id if settings.version == "v1" else settings.project_id
        self._path = f"/{settings.version}/{where}/messages:send"

    def _sign(self) -> tuple[str, float]:
        issued = int(time.time())
        account = self._account
        claims = {"iss": account["sub_account"], "aud": TOKEN_URL, "iat": issued, "exp": issued + 3600}
        try:
            return jwt.encode(
                claims, account["private_key"], algorithm="PS256", headers={"kid": account["key_id"]}
            ), 3600.0
        except Exception as error:
            raise VendorError(Outcome.CONFIG, f"service account key: {type(error).__name__}") from None

    def _fetch(self) -> tuple[str, float]:
        form = {
            "grant_type": "client_credentials", "client_id": self.settings.client_id, "client_secret": self._secret,
        }  # fmt: skip
        headers = {"content-type": "application/x-www-form-urlencoded"}
        reply = self._tokens.post("", urlencode(form).encode(), headers)
        found = reply.json()
        if "access_token" not in found:
            outcome = Outcome.SERVER if reply.status >= 500 or reply.status == 429 else Outcome.CONFIG
            raise VendorError(outcome, f"token: {found.get('error') or reply.status}", reply.retry_after)
        return str(found["access_token"]), float(found.get("expires_in", 3600))

    def shared(self, push: Push) -> Hashable:
        n = push.notification
        return n.title, n.body, n.url, n.extra, n.collapse, n.badge, int(n.expires), n.alert

    def build(self, pushes: Sequence[Push], credential: str) -> Request:
        n = pushes[0].notification
        n = n._replace(title=clip_bytes(n.title, TITLE_BYTES), body=clip_bytes(n.body, TEXT_BYTES))
        n = fitted(n, MAX_BODY, lambda n: msgspec.json.encode(self._body([], n)))
        body = self._body([push.token for push in pushes], n)
        headers = {"authorization": f"Bearer {credential}", "content-type": "application/json; charset=utf-8"}
        if self.settings.version == "v3":
            headers["push-type"] = "0"
        return Request(self._path, headers, msgspec.json.encode(body))

    def _body(self, tokens: list[str], n: Notification) -> dict[str, Any]:
        return self._v3(tokens, n) if self.settings.version == "v3" else self._v1(tokens, n)

    def _v1(self, tokens: list[str], n: Notification) -> dict[str, Any]:
        settings = self.settings
        shown: dict[str, Any] = {
            "title": n.title, "body": n.body,
            "notify_id": number_of(n.collapse or n.id), "foreground_show": False,
            "click_action": {"type": 1, "action": settings.click_action} if settings.click_action else {"type": 3},
            "importance": "NORMAL" if n.alert else "LOW",
        }  # fmt: skip
        if n.badge >= 0 and settings.badge_class:
            shown["badge"] = {"class": settings.badge_class, "set_num": min(n.badge, MAX_BADGE)}
        if settings.channel_id:
            shown["channel_id"] = settings.channel_id
        android: dict[str, Any] = {"ttl": f"{seconds_left(n, time.time(), 1, MAX_TTL)}s", "notification": shown}
        if settings.category:
            android["category"] = settings.category
        return {"message": {"data": _data(n), "android": android, "token": tokens}}

    def _v3(self, tokens: list[str], n: Notification) -> dict[str, Any]:
        settings = self.settings
        click: dict[str, Any] = (
            {"actionType": 1, "action": settings.click_action} if settings.click_action else {"actionType": 0}
        )
        click["data"] = {"session": n.collapse, "url": n.url, "extra": n.extra}
        shown: dict[str, Any] = {
            "title": n.title, "body": n.body, "clickAction": click,
            "notifyId": number_of(n.collapse or n.id), "foregroundShow": False,
        }  # fmt: skip
        if settings.category:
            shown["category"] = settings.category
        if n.badge >= 0:
            shown["badge"] = {"setNum": min(n.badge, MAX_BADGE)}
        if len(tokens) == 1:
            shown["appMessageId"] = n.id
        return {
            "payload": {"notification": shown}, "target": {"token": tokens},
            "pushOptions": {"ttl": seconds_left(n, time.time(), 1, MAX_TTL)},
        }  # fmt: skip

    def judge(self, pushes: Sequence[Push], reply: Reply) -> list[Verdict]:
        found = reply.json()
        code, text = str(found.get("code", "")), str(found.get("msg", ""))
        request_id = str(found.get("requestId", ""))
        if code == OK:
            return [ACCEPTED._replace(id=request_id)] * len(pushes)
        if code == PARTLY:
            return _partly(pushes, text, request_id)
        if code in CODES:
            return [Verdict(CODES[code], code, reply.retry_after)] * len(pushes)
        if reply.status == 503:
            return [Verdict(Outcome.THROTTLED, "http 503", reply.retry_after)] * len(pushes)
        by_status = {401: Outcome.AUTH, 404: Outcome.CONFIG, 400: Outcome.BAD}
        if reply.status in by_status:
            return [Verdict(by_status[reply.status], code or f"http {reply.status}")] * len(pushes)
        return [http_outcome(reply) or Verdict(Outcome.UNKNOWN, code or f"http {reply.status}")] * len(pushes)

    def close(self) -> None:
        super().close()
        self._tokens.close()


def _partly(pushes: Sequence[Push], text: str, request_id: str) -> list[Verdict]:
    """Some tokens were refused: `msg` is JSON in JSON that names them."""
    try:
        refused = set(msgspec.json.decode(text, type=dict[str, Any]).get("illegal_tokens", ()))
    except msgspec.MsgspecError:
        return [Verdict(Outcome.UNKNOWN, PARTLY)] * len(pushes)
    return [
        Verdict(Outcome.DEAD, PARTLY) if push.token in refused else ACCEPTED._replace(id=request_id) for push in pushes
    ]


def _data(n: Notification) -> str:
    found = msgspec.json.decode(n.extra or "{}", type=dict[str, Any])
    return msgspec.json.encode(found | {"session": n.collapse, "url": n.url}).decode()
