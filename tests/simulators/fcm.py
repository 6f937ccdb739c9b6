"""Google FCM, HTTP v1: service accounts (RS256), OAuth tokens."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import jwt

from tests.simulators.keys import private_pem, signing_keys
from tests.simulators.server import Answer, Call, Shown, Simulator

EMAIL, PROJECT = "push@example.iam", "example-1"
SCOPES = ("https://www.googleapis.com/auth/firebase.messaging", "https://www.googleapis.com/auth/cloud-platform")
ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def error(status: int, name: str, message: str, code: str = "", headers: dict[str, str] | None = None) -> Answer:
    details = [{"@type": ERROR, "errorCode": code}] if code else []
    return Answer(
        status, {"error": {"code": status, "message": message, "status": name, "details": details}}, headers or {}
    )


class Fcm(Simulator):
    name = "fcm"
    answers = {
        "throttled": error(429, "RESOURCE_EXHAUSTED", "quota", "QUOTA_EXCEEDED", {"retry-after": "7"}),
        "server": error(503, "UNAVAILABLE", "try later", "UNAVAILABLE", {"retry-after": "3"}),
        "bad": error(400, "INVALID_ARGUMENT", "Invalid value at 'message.android'", "INVALID_ARGUMENT"),
        "config": error(403, "PERMISSION_DENIED", "denied"),
    }

    def __init__(self, directory: Any) -> None:
        super().__init__(directory)
        self.key = signing_keys()[1]

    @property
    def token_uri(self) -> str:
        return f"{self.url}/token"

    def own_settings(self) -> dict[str, Any]:
        path = self.directory / "fcm.json"
        account = {
            "client_email": EMAIL, "private_key": private_pem(self.key),
            "token_uri": self.token_uri, "project_id": PROJECT,
        }  # fmt: skip
        path.write_text(json.dumps(account))
        return {"service_account": f"file:{path}"}

    def is_push(self, call: Call) -> bool:
        return call.path != "/token"

    def answer(self, call: Call) -> Answer:
        if call.path == "/token":
            return self._token(call.form)
        if call.path != f"/v1/projects/{PROJECT}/messages:send":
            return error(404, "NOT_FOUND", "no such project")
        credential = call.headers.get("authorization", "").removeprefix("Bearer ")
        if credential not in self.issued or credential in self.expired:
            return error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        message = call.json["message"]
        if (wrong := self._wrong(message)) is not None:
            return error(400, "INVALID_ARGUMENT", wrong, "INVALID_ARGUMENT")
        if message["token"] in self.dead:
            return error(404, "NOT_FOUND", "Requested entity was not found.", "UNREGISTERED")
        text, shown = message["notification"], message["android"]["notification"]
        count = shown.get("notification_count")
        self.show(Shown(message["token"], text["title"], text["body"], count, shown["tag"], ""))
        return Answer(200, {"name": f"projects/{PROJECT}/messages/{len(self.accepted)}"})

    def _token(self, form: dict[str, str]) -> Answer:
        try:
            claims = jwt.decode(form["assertion"], self.key.public_key(), algorithms=["RS256"], audience=self.token_uri)
            good = form["grant_type"] == GRANT and claims["iss"] == EMAIL and claims["scope"] in SCOPES
        except (jwt.InvalidTokenError, KeyError):
            good = False
        if not good or claims["exp"] - claims["iat"] > 3600 or claims["iat"] > time.time() + 60:
            return Answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        token = secrets.token_hex(16)
        self.issued.add(token)
        return Answer(200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer"})

    @staticmethod
    def _wrong(message: dict[str, Any]) -> str | None:
        data = message.get("data", {})
        if not all(isinstance(v, str) for v in data.values()):
            return "Invalid value at 'message.data' (TYPE_STRING)"
        if any(k in ("from", "gcm") or k.startswith("google") for k in data):
            return "Invalid data payload key"
        if not isinstance(message["apns"]["payload"]["aps"].get("badge", 0), int):
            return "Invalid value at 'message.apns'"
        ttl = message["android"]["ttl"]
        if not ttl.endswith("s") or not 0 <= float(ttl[:-1]) <= 2_419_200:
            return "Invalid value at 'message.android.ttl'"
        if message["android"].get("restricted_package_name", "org.example.chat") != "org.example.chat":
            return "Invalid value at 'message.android.restricted_package_name'"
        size = sum(len(k.encode()) + len(v.encode()) for k, v in {**data, **message["notification"]}.items())
        return "Android message is too big" if size > 4096 else None
