"""Meizu Flyme push: forms that are signed one by one."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from tests.simulators.server import Answer, Call, Shown, Simulator

APP, SECRET = "110011", "mz-secret"


def said(code: str, value: Any = "") -> Answer:
    return Answer(200, {"code": code, "message": "", "value": value, "msgId": "NS1", "redirect": ""})


class Meizu(Simulator):
    name = "meizu"
    answers = {
        "throttled": said("110010"),
        "server": said("1001"),
        "bad": said("110004"),
        "config": said("110000"),
        "quota": said("110051"),
    }

    def __init__(self, directory: Any) -> None:
        super().__init__(directory)
        self.secret = SECRET

    def own_settings(self) -> dict[str, Any]:
        path = self.directory / "meizu.secret"
        path.write_text(self.secret)
        return {"app_id": APP, "app_secret": f"file:{path}"}

    def answer(self, call: Call) -> Answer:
        form = call.form
        text = "".join(f"{k}={form[k]}" for k in sorted(form) if k != "sign") + SECRET
        if hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() != form.get("sign"):
            return said("1006")
        if form["appId"] != APP:
            return said("110000")
        tokens, message = form["pushIds"].split(","), json.loads(form["messageJson"])
        bar, click = message["noticeBarInfo"], message["clickTypeInfo"]
        if len(tokens) > 100 or not 1 <= len(bar["title"]) <= 32 or not 1 <= len(bar["content"]) <= 100:
            return said("110004")
        if click["clickType"] not in (0, 1, 2) or not isinstance(click.get("parameters", {}), dict):
            return said("1005")
        key = message["advanceInfo"]["notifyKey"]
        if not 1 <= message["pushTimeInfo"]["validTime"] <= 72 or not re.fullmatch(r"[0-9A-Za-z_-]{1,8}", key):
            return said("1005")
        dead = [t for t in tokens if t in self.dead]
        for token in tokens:
            if token not in dead:
                self.show(Shown(token, bar["title"], bar["content"], None, key, ""))
        return said("200", {"110002": dead} if dead else {})
