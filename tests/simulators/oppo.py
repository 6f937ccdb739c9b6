"""OPPO push: tokens for a signature, forms, batches in which each device has its own text."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from typing import Any

from tests.simulators.server import Answer, Call, Shown, Simulator

KEY, SECRET, CHANNEL = "oppo-key", "oppo-master", "chat"
UNICAST, BATCH = "/server/v1/message/notification/unicast", "/server/v1/message/notification/unicast_batch"


def said(code: int, data: Any = None) -> Answer:
    return Answer(200, {"code": code, "message": "", "data": data})


class Oppo(Simulator):
    name = "oppo"
    answers = {
        "throttled": said(13),
        "server": said(-1),
        "bad": said(41),
        "config": said(30),
        "quota": said(33),
    }

    def __init__(self, directory: Any) -> None:
        super().__init__(directory)
        self.secret = SECRET

    def own_settings(self) -> dict[str, Any]:
        path = self.directory / "oppo.secret"
        path.write_text(self.secret)
        return {"app_key": KEY, "master_secret": f"file:{path}", "channel_id": CHANNEL}

    def is_push(self, call: Call) -> bool:
        return call.path != "/server/v1/auth"

    def answer(self, call: Call) -> Answer:
        form = call.form
        if call.path == "/server/v1/auth":
            return self._token(form)
        if form.get("auth_token") not in self.issued or form["auth_token"] in self.expired:
            return said(11)
        if call.path == UNICAST:
            message = json.loads(form["message"])
            code = self._take(message)
            return said(code, {"messageId": "m1"} if code == 0 else None)
        messages = json.loads(form["messages"])
        if len(messages) > 1000:
            return said(41)
        rows = []
        for message in messages:
            code = self._take(message)
            row = {"messageId": "m", "registrationId": message["target_value"]}
            rows.append(row if code == 0 else {**row, "errorCode": code, "errorMessage": "x"})
        return said(0, rows)

    def _token(self, form: dict[str, str]) -> Answer:
        sign = hashlib.sha256(f"{KEY}{form['timestamp']}{SECRET}".encode()).hexdigest()
        if form["app_key"] != KEY or form["sign"] != sign:
            return said(14)
        if abs(int(form["timestamp"]) / 1000 - time.time()) > 600:
            return said(17)
        token = secrets.token_hex(16)
        self.issued.add(token)
        return said(0, {"auth_token": token, "create_time": int(time.time() * 1000)})

    def _take(self, message: dict[str, Any]) -> int:
        """The code for one message."""
        shown, token = message["notification"], message["target_value"]
        most = 128 if shown.get("style") == 2 else 50
        if message["target_type"] != 2 or not 1 <= len(shown["title"]) <= 50 or not 1 <= len(shown["content"]) <= most:
            return 41
        if len(shown.get("action_parameters", "")) > 4000 or len(shown.get("click_action_url", "")) > 2000:
            return 41
        if not isinstance(shown.get("action_parameters", ""), str) or not 1 <= shown["off_line_ttl"] <= 864_000:
            return 41
        if shown.get("channel_id") != CHANNEL or ("notify_level" in shown and "category" not in shown):
            return 67
        if token in self.dead:
            return 10_000
        key = shown["app_message_id"]
        badge = shown.get("badge_message_count")
        return (
            0 if self.show(Shown(token, shown["title"], shown["content"], badge, str(shown["notify_id"]), key)) else 32
        )
