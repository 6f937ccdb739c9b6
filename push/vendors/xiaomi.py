"""Xiaomi MiPush."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from urllib.parse import quote, urlencode

import msgspec

from push.http import Reply
from push.model import ACCEPTED, Outcome, Push, Verdict
from push.text import clip, key_of, number_of, plain
from push.vendor import App, HttpVendor, Request, VendorSettings, code_table, http_outcome, of_all, seconds_left

MAX_TTL = 10 * 86_400
TITLE, DESCRIPTION, PARAMETER, EXTRA = 49, 127, 128, 1023
NOTHING = "…"

CODES = code_table({
    Outcome.DEAD: "66007 10029",
    Outcome.SKIPPED: "65003",  # usually only offline: the token is good
    Outcome.CONFIG: "21301 21302 21303 22000 22006 22007 22022 27001 10031 10036 26006",
    Outcome.THROTTLED: "10027 26004 200002",
    Outcome.QUOTA: "200001 10034",
    Outcome.BAD: "10008 10012 10016 10017 21305 65009 65014 65015 65036-65038 10041",
    Outcome.SERVER: "-1 1 10001-10003 20301 20607 22102 26003 65029 65030",
})  # fmt: skip


class XiaomiSettings(VendorSettings, frozen=True, kw_only=True):
    """[push.app.NAME.xiaomi]"""

    app_secret: str
    """Secret: the AppSecret."""
    channel_id: str = ""
    """Channel for private messages; without it only a few a day arrive."""
    template_id: str = ""
    """Approved template of that channel, which such channels must send."""
    template_title: str = "title"
    """The template's parameter for the title, "" when it has none."""
    template_body: str = "content"
    """The template's parameter for the text, "" when it has none."""

    secrets = ("app_secret",)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.template_id and not self.channel_id:
            yield "template_id", "a template belongs to a channel: channel_id is missing"


class Xiaomi(HttpVendor):
    """Up to 1000 devices that get the same."""

    name = "xiaomi"
    Settings = XiaomiSettings
    url = "https://api.xmpush.xiaomi.com"
    batch = 1000
    per_second = 500.0
    wants_badge = False

    def __init__(self, app: App, settings: XiaomiSettings, secret: Callable[[str], str]) -> None:
        super().__init__(app, settings, secret)
        self._secret = secret(settings.app_secret)

    def shared(self, push: Push) -> Hashable:
        n = push.notification
        return n.title, n.body, n.url, n.extra, n.collapse, n.expires, n.alert

    def build(self, pushes: Sequence[Push], credential: str) -> Request:
        n, settings = pushes[0].notification, self.settings
        title, body = clip(n.title, TITLE).strip() or NOTHING, clip(n.body, DESCRIPTION).strip() or NOTHING
        form = {
            "registration_id": ",".join(p.token for p in pushes), "restricted_package_name": self.app.package,
            "pass_through": "0", "title": title, "description": body, "payload": quote(n.extra),
            "notify_id": str(number_of(n.collapse or n.id)), "notify_type": "-1" if n.alert else "4",
            "time_to_live": str(1000 * seconds_left(n, time.time(), 1, MAX_TTL)),
            "extra.notify_foreground": "0",
            # The same for each try, with whichever other devices it is made: so not the id.
            "extra.jobkey": key_of(f"{n.collapse} {n.title} {n.body} {n.expires}", 20),
        }  # fmt: skip
        if n.url:
            form |= {"extra.notify_effect": "2", "extra.intent_uri": n.url[:EXTRA]}
        else:
            form["extra.notify_effect"] = "1"
        if settings.channel_id:
            form["extra.channel_id"] = settings.channel_id
        if settings.template_id:
            form |= {
                "extra.template_id": settings.template_id,
                "extra.template_param": self._parameters(n.title, n.body),
            }
        headers = {
            "authorization": f"key={credential or self._secret}", "content-type": "application/x-www-form-urlencoded",
        }  # fmt: skip
        return Request("/v3/message/regid", headers, urlencode(form).encode())

    def _parameters(self, title: str, body: str) -> str:
        """The template's parameters: never blank, no symbols."""
        named = ((self.settings.template_title, title), (self.settings.template_body, body))
        return msgspec.json.encode({k: clip(plain(v), PARAMETER) or NOTHING for k, v in named if k}).decode()

    def judge(self, pushes: Sequence[Push], reply: Reply) -> list[Verdict]:
        if (early := http_outcome(reply)) is not None:
            return [early] * len(pushes)
        found = reply.json()
        code = str(found.get("code", ""))
        if code == "0":
            data = found.get("data")
            return [ACCEPTED._replace(id=str(data.get("id", "")) if isinstance(data, dict) else "")] * len(pushes)
        return of_all(pushes, CODES.get(code, Outcome.UNKNOWN), code, reply.retry_after)
