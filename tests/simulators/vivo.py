"""vivo push: tokens for a signature, one request per device."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import Any

from tests.simulators.server import Answer, Call, Shown, Simulator

APP, KEY, SECRET = 10004, "25509283", "vivo-secret"


def said(result: int, **more: Any) -> Answer:
    return Answer(200, {"result": result, "desc": "", **more})


class Vivo(Simulator):
    name = "vivo"
    answers = {
        "throttled": said(10072),
        "server": Answer(500, b"oops", {"content-type": "text/plain"}),
        "bad": said(10054),
        "config": said(10045),
        "quota": said(10073),
    }

    def __init__(self, directory: Any) -> None:
        super().__init__(directory)
        self.secret = SECRET

    def own_settings(self) -> dict[str, Any]:
        path = self.directory / "vivo.secret"
        path.write_text(self.secret)
        return {"app_id": APP, "app_key": KEY, "app_secret": f"file:{path}"}

    def is_push(self, call: Call) -> bool:
        return call.path != "/message/auth"

    def answer(self, call: Call) -> Answer:
        found = call.json
        if call.path == "/message/auth":
            return self._token(found)
        credential = call.headers.get("authtoken", "")
        if credential not in self.issued or credential in self.expired:
            return said(10000)
        if found["appId"] != APP:
            return said(10094)
        if (wrong := self._wrong(found)) is not None:
            return wrong
        if found["regId"] in self.dead:
            return said(10302, invalidUser={"userid": found["regId"], "status": 2})
        collapse = str(found["notifyId"])
        self.show(Shown(found["regId"], found["title"], found["content"], None, collapse, found["requestId"]))
        return said(0, taskId=f"t{len(self.accepted)}")

    def _token(self, found: dict[str, Any]) -> Answer:
        text = f"{APP}{KEY}{found['timestamp']}{SECRET}"
        sign = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        if found["sign"] != sign or abs(found["timestamp"] / 1000 - time.time()) > 600:
            return said(10201)
        token = secrets.token_hex(16)
        self.issued.add(token)
        return said(0, authToken=token)

    @staticmethod
    def _wrong(found: dict[str, Any]) -> Answer | None:
        if not 1 <= len(found["title"]) <= 40:
            return said(10055)
        if not 1 <= len(found["content"]) <= 100:
            return said(10056)
        if not 60 <= found["timeToLive"] <= 86_400:
            return said(10058)
        if found["skipType"] not in (1, 2, 4) or len(found.get("skipContent", "")) > 1024:
            return said(10059)
        extra = found.get("clientCustomMap", {})
        if len(extra) > 10 or sum(len(k) + len(v) for k, v in extra.items()) > 1024:
            return said(10065)
        if found.get("category") == "IM" and found["classification"] != 1:
            return said(10097)
        return None if 1 <= len(found["requestId"]) <= 64 and 1 <= found["notifyId"] < 2**31 else said(10057)
