"""Xiaomi MiPush: an AppSecret in a header, forms, templates for private messages."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from tests.simulators.server import Answer, Call, Shown, Simulator

SECRET, CHANNEL, TEMPLATE = "mi-secret", "chat-1", "P1001"
PACKAGE = "org.example.chat"


def refused(code: int, reason: str) -> Answer:
    return Answer(200, {"result": "error", "code": code, "reason": reason, "description": reason})


class Xiaomi(Simulator):
    name = "xiaomi"
    answers = {
        "throttled": refused(200002, "over QPS"),
        "server": refused(10001, "System error"),
        "bad": refused(10017, "parameter value invalid"),
        "config": refused(22007, "package"),
        "quota": refused(200001, "over daily quota"),
    }

    def __init__(self, directory: Any) -> None:
        super().__init__(directory)
        self.secret = SECRET

    def own_settings(self) -> dict[str, Any]:
        path = self.directory / "xiaomi.secret"
        path.write_text(self.secret)
        return {"app_secret": f"file:{path}", "channel_id": CHANNEL, "template_id": TEMPLATE}

    def answer(self, call: Call) -> Answer:
        if call.headers.get("authorization") != f"key={SECRET}" or SECRET in self.expired:
            return refused(21301, "auth failed")
        form = call.form
        if (wrong := self._wrong(form)) is not None:
            return wrong
        tokens = form["registration_id"].split(",")
        if len(tokens) > 1000:
            return refused(10017, "too many registration ids")
        if any(t in self.dead for t in tokens):
            return refused(66007, "regId illegal")
        for token in tokens:
            key = form.get("extra.jobkey", "")
            self.show(Shown(token, form["title"], form["description"], None, form["notify_id"], key))
        return Answer(200, {"result": "ok", "code": 0, "data": {"id": f"m{len(self.accepted)}"}, "trace_id": "x"})

    @staticmethod
    def _wrong(form: dict[str, str]) -> Answer | None:
        if form.get("restricted_package_name") != PACKAGE:
            return refused(22007, "package")
        if not 0 < len(form["title"].strip()) < 50 or not 0 < len(form["description"].strip()) < 128:
            return refused(10041, "title or description")
        if not 0 <= int(form["notify_id"]) < 2**31 or not 0 < int(form["time_to_live"]) <= 10 * 86_400_000:
            return refused(10017, "notify_id or time_to_live")
        extra = {k: v for k, v in form.items() if k.startswith("extra.")}
        own = {k: v for k, v in extra.items() if k.split(".")[1] not in ("template_id", "template_param")}
        if len(own) > 10 or any(len(v) >= 1024 for v in own.values()):
            return refused(65014, "extra")
        if not re.fullmatch(r"(?!_)[0-9A-Za-z_-]{0,20}", form.get("extra.jobkey", "")):
            return refused(10017, "jobkey")
        if form.get("extra.channel_id") != CHANNEL:
            return refused(27001, "channel")
        try:
            values = json.loads(form["extra.template_param"])
        except (ValueError, KeyError):
            return refused(10017, "template_param")
        bad = [v for v in values.values() if not 1 <= len(v) <= 128 or any(unicodedata.category(c) == "So" for c in v)]
        return refused(10017, "template_param") if bad or form["extra.template_id"] != TEMPLATE else None
