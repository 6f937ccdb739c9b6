"""Huawei Push Kit: v1 and v2 with OAuth tokens or signed ones (PS256), v3 with signed ones only."""

from __future__ import annotations

import json
import secrets
from typing import Any

import jwt

from tests.simulators.keys import private_pem, signing_keys
from tests.simulators.server import Answer, Call, Shown, Simulator

CLIENT, SECRET, PROJECT, KEY_ID, ACCOUNT = "101234567", "the-secret", "73621", "key-1", "sub-1"
AUDIENCE = "https://oauth-login.cloud.huawei.com/oauth2/v3/token"


def said(code: str, text: str, status: int = 200) -> Answer:
    return Answer(status, {"code": code, "msg": text, "requestId": "1234"})


class Huawei(Simulator):
    name = "huawei"
    answers = {
        "throttled": Answer(503, {}, {"retry-after": "7"}),
        "server": said("81000001", "internal error", 500),
        "bad": said("80100003", "Illegal payload"),
        "config": said("80300002", "no permission"),
    }
    version = "v1"

    def __init__(self, directory: Any) -> None:
        super().__init__(directory)
        self.key = signing_keys()[1]
        self.secret = SECRET

    def own_settings(self) -> dict[str, Any]:
        secret, account = self.directory / "huawei.secret", self.directory / "huawei.json"
        secret.write_text(self.secret)
        keys = {"key_id": KEY_ID, "sub_account": ACCOUNT, "private_key": private_pem(self.key)}
        account.write_text(json.dumps(keys))
        found = {"version": self.version, "token_url": f"{self.url}/oauth2/v3/token", "badge_class": "org.example.Main"}
        if self.version == "v3":
            return found | {"project_id": PROJECT, "service_account": f"file:{account}"}
        return found | {"client_id": CLIENT, "client_secret": f"file:{secret}"}

    def is_push(self, call: Call) -> bool:
        return call.path != "/oauth2/v3/token"

    def answer(self, call: Call) -> Answer:
        if call.path == "/oauth2/v3/token":
            return self._token(call.form)
        v3 = call.path == f"/v3/{PROJECT}/messages:send"
        if not v3 and call.path != f"/v1/{CLIENT}/messages:send":
            return said("80300002", "no such app", 404)
        if (refused := self._proof(call.headers.get("authorization", "").removeprefix("Bearer "), v3)) is not None:
            return refused
        found = call.json
        return self._v3(found) if v3 else self._v1(found["message"])

    def _token(self, form: dict[str, str]) -> Answer:
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT, SECRET):
            return Answer(400, {"error": 1101, "error_description": "invalid client"})
        token = secrets.token_hex(16)
        self.issued.add(token)
        return Answer(200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer"})

    def _proof(self, credential: str, v3: bool) -> Answer | None:
        if credential in self.expired:
            return said("80200005" if "." in credential else "80200003", "token expired", 401)
        if credential in self.issued and not v3:
            return None
        try:
            claims = jwt.decode(credential, signing_keys()[1].public_key(), algorithms=["PS256"], audience=AUDIENCE)
            good = claims["iss"] == ACCOUNT and jwt.get_unverified_header(credential)["kid"] == KEY_ID
        except (jwt.InvalidTokenError, KeyError):
            good = False
        if not good:
            return said("80200001", "authentication error", 401)
        self.issued.add(credential)
        return None

    def _v1(self, message: dict[str, Any]) -> Answer:
        tokens, android = message["token"], message["android"]
        shown = android["notification"]
        if len(json.dumps({**message, "token": []}, ensure_ascii=False).encode()) > 4096:
            return said("80300008", "message too large")
        if not android["ttl"].endswith("s") or not 1 <= int(android["ttl"][:-1]) <= 1_296_000:
            return said("80100004", "ttl")
        if shown["click_action"]["type"] not in (1, 2, 3) or not isinstance(message["data"], str):
            return said("80100003", "click_action, data")
        badge = shown.get("badge", {})
        if badge and (not badge.get("class") or not 0 <= badge["set_num"] <= 99):
            return said("80100003", "badge")
        return self._take(tokens, shown["title"], shown["body"], badge.get("set_num"), str(shown["notify_id"]))

    def _v3(self, found: dict[str, Any]) -> Answer:
        shown = found["payload"]["notification"]
        if len(json.dumps(found["payload"], ensure_ascii=False).encode()) > 4096:
            return said("80300008", "message too large")
        if not isinstance(found["pushOptions"]["ttl"], int) or not 1 <= found["pushOptions"]["ttl"] <= 1_296_000:
            return said("80100004", "ttl")
        badge = shown.get("badge", {}).get("setNum")
        return self._take(found["target"]["token"], shown["title"], shown["body"], badge, str(shown["notifyId"]))

    def _take(self, tokens: list[str], title: str, body: str, badge: int | None, collapse: str) -> Answer:
        if len(tokens) > 1000 or len(set(tokens)) != len(tokens):
            return said("80300010", "too many tokens")
        illegal = [t for t in tokens if t in self.dead]
        for token in tokens:
            if token not in illegal:
                self.show(Shown(token, title, body, badge, collapse, ""))
        if len(illegal) == len(tokens):
            return said("80300007", "all tokens are invalid")
        if illegal:
            detail = {"success": len(tokens) - len(illegal), "failure": len(illegal), "illegal_tokens": illegal}
            return said("80100000", json.dumps(detail))
        return said("80000000", "Success")


class HuaweiV3(Huawei):
    """The interface for HarmonyOS 5 and later."""

    version = "v3"
