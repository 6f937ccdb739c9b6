"""Who gets in: keys and their limits, signatures, origins, TLS; and what the API decides about who logs in."""

from __future__ import annotations

import json
import re
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from packs import table as t
from packs.codes import Code
from tests.raw import Raw, code
from tests.system import System, running, topology_text
from tests.waiting import wait_until
from tests.web import Reply, Web
from webapi.keys import sign

User = Callable[[], str]
CANARY = "canary-" + secrets.token_hex(8)
"""A password: it must not turn up in a log."""
HERE, ELSEWHERE = "https://app.example.com", "https://evil.example.com"


@pytest.fixture(scope="module")
def system(certificate: Path) -> Iterator[System]:
    http = {
        "tls_listen": "127.0.0.1:0", "tls_certificate": str(certificate), "cors_origins": [HERE],
        "classic_without_key": True,
    }  # fmt: skip
    tables = {"auth": {"mode": "token"}, "node.http": http}
    with running(topology_text(tables=tables)) as found, found.unharmed():
        yield found


@pytest.fixture(scope="module")
def web(system: System) -> Web:
    return Web(system.http(), system.first_key)


@pytest.fixture(scope="module")
def accounts() -> Iterator[System]:
    with running(topology_text(tables={"auth": {"mode": "password"}})) as found, found.unharmed():
        yield found


def make_key(system: System, *options: str) -> str:
    done = system.run("apikey", "create", f"k{secrets.token_hex(4)}", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def login(system: System, user: str, password: str) -> tuple[int, Raw]:
    raw = system.connect()
    return code(raw.login(user, password=password)), raw


# ---- keys


def test_the_first_key_is_shown_once_and_kept_nowhere(system: System) -> None:
    key = system.first_key
    assert system.log.count(key) == 1
    secret = key.split("_", 2)[2].encode()
    files = [path for path in system.data.rglob("*") if path.is_file()]
    assert len(files) > 3 and not any(secret in path.read_bytes() for path in files)


def test_keys_expire_and_are_revoked(system: System, web: Web) -> None:
    key = make_key(system, "--scope", "users:read")
    fresh = Web(web.address, key)
    assert fresh.get("/v1/users/a").status == 200
    listed = system.run("apikey", "list")
    key_id = key.split("_")[1]
    assert re.search(rf"^{key_id} .*: users:read$", listed.stdout, re.MULTILINE) and key not in listed.stdout
    assert system.run("apikey", "revoke", key_id).returncode == 0
    wait_until(lambda: fresh.get("/v1/users/a").status == 401, "the key to count no more")
    assert system.run("apikey", "revoke", key_id).returncode == 1
    short = Web(web.address, make_key(system, "--days", "0.00003"))  # 2.6 s, to whole seconds
    assert short.get("/v1/users/a").status == 200
    wait_until(lambda: short.get("/v1/users/a").status == 401, "the key to expire")
    refused = system.run("apikey", "create", "x", "--scope", "everything:write")
    assert refused.returncode == 1 and "unknown scope" in refused.stderr and "messages:write" in refused.stderr


def test_a_key_that_asks_too_much_is_told_when_to_come_again(system: System, web: Web) -> None:
    limited = Web(web.address, make_key(system, "--rate", "1"))
    replies = [limited.get("/v1/users/a") for _ in range(8)]
    late = [reply for reply in replies if reply.status != 200]
    assert [reply.status for reply in replies[:2]] == [200, 200] and late
    assert all(
        (reply.status, reply.error, reply.headers["retry-after"]) == (429, "rate_limited", "1") for reply in late
    )
    assert web.get("/v1/users/a").status == 200


def signed(web: Web, method: str, path: str, body: bytes = b"", **changes: str) -> Reply:
    """A request signed with the key's secret; `changes` after signing."""
    _, key_id, secret = web.key.split("_", 2)
    at, _, query = path.partition("?")
    claims = {"key": key_id, "timestamp": str(int(time.time())), "nonce": secrets.token_hex(8)}
    claims |= {name: value for name, value in changes.items() if name in ("timestamp", "nonce")}
    signature = sign(secret.encode(), method, at, query, body, claims["timestamp"], claims["nonce"])
    claims = {**claims, "signature": signature, **changes}
    text = ", ".join(f"{name}={value}" for name, value in claims.items())
    return web.ask(method, path, raw=body or None, Authorization=f"HMAC-SHA256 {text}")


def test_signed_requests(web: Web, user: User) -> None:
    assert signed(web, "GET", "/v1/users/a/friends?limit=5").status == 200
    body = json.dumps({"from": user(), "to": user(), "content": "ä"}).encode()
    assert signed(web, "POST", "/v1/messages", body).status == 201
    nonce = secrets.token_hex(8)
    assert signed(web, "GET", "/v1/users/a", nonce=nonce).status == 200
    assert "nonce" in signed(web, "GET", "/v1/users/a", nonce=nonce).json["error"]["message"]
    now = int(time.time())
    for changes in (
        {"signature": "0" * 64}, {"key": "nobody"}, {"timestamp": str(now - 400)}, {"timestamp": str(now + 400)},
        {"nonce": "short"}, {"signature": "x"},
    ):  # fmt: skip
        reply = signed(web, "GET", "/v1/users/a", **changes)
        assert (reply.status, reply.error) == (401, "unauthorized"), changes
    header: dict[str, str] = {}
    real = web.ask

    def spy(method: str, path: str, **kwargs: Any) -> Reply:
        header["Authorization"] = kwargs["Authorization"]
        return real(method, path, **kwargs)

    web.ask = spy  # type: ignore[method-assign]
    try:
        assert signed(web, "POST", "/v1/messages", body).status == 201
    finally:
        web.ask = real  # type: ignore[method-assign]
    for method, path, raw in (("POST", "/v1/messages", body + b" "), ("POST", "/v1/messages/batch", body)):
        assert web.ask(method, path, raw=raw, **header).status == 401, path


def test_pages_of_listed_origins_may_call(web: Web) -> None:
    ask = {"Access_Control_Request_Method": "POST", "Origin": HERE}
    preflight = web.ask("OPTIONS", "/v1/messages", Authorization="", **ask)
    assert preflight.status == 204 and preflight.headers["access-control-allow-origin"] == HERE
    assert preflight.headers["access-control-allow-methods"] == "POST"
    assert "Idempotency-Key" in preflight.headers["access-control-allow-headers"]
    assert web.get("/v1/users/a", Origin=HERE).headers["access-control-allow-origin"] == HERE
    assert web.get("/v1/nothing", Origin=HERE).headers["access-control-allow-origin"] == HERE
    refused = web.ask("OPTIONS", "/v1/messages", **{**ask, "Origin": ELSEWHERE})
    assert refused.status == 405 and "access-control-allow-origin" not in refused.headers
    assert "access-control-allow-origin" not in web.get("/v1/users/a", Origin=ELSEWHERE).headers


def test_tls(system: System, web: Web, certificate: Path) -> None:
    host, port = system.http("https")
    context = ssl.create_default_context(cafile=str(certificate))
    asked = Request(f"https://localhost:{port}/openapi.json")
    with urlopen(asked, context=context) as reply:
        assert reply.status == 200 and json.load(reply)["openapi"] == "3.1.0"
    plain = Web((host, port)).connect()
    plain.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert plain.reply() is None
    plain.close()


def test_old_callers_may_come_without_a_key_where_that_is_set(web: Web, user: User) -> None:
    bare = Web(web.address)
    body = {"traceId": "t", "appId": "app", "from": "app", "to": user(), "content": "x"}
    assert bare.post("/msg/sendsimplemsg", body).json["success"]
    assert bare.post("/v1/messages", {}).status == 401


# ---- who logs in


def test_tokens_and_users_that_are_shut_out(system: System, web: Web, user: User) -> None:
    alice = user()
    reply = web.post(f"/v1/users/{alice}/tokens", {"seconds": 60})
    assert reply.status == 201 and reply.json["expires"] > time.time() * 1000
    token = reply.json["token"]
    first, at = login(system, alice, token)
    assert first == 0 and login(system, user(), token)[0] == Code.CONN_CREDENTIALS
    path = f"/v1/users/{alice}"
    assert web.ask("PATCH", path, {"disabled": True}).json["disabled"] is True
    assert t.KICKOUT in [pack.type for pack in at.rest()]  # at once
    assert login(system, alice, token)[0] == Code.CONN_DENIED
    assert web.ask("PATCH", path, {"disabled": False}).json["disabled"] is False
    again, at = login(system, alice, token)
    assert again == 0
    later = int(time.time()) + 2
    assert web.ask("PATCH", path, {"not_before": later}).json["not_before"] == later
    assert t.KICKOUT in [pack.type for pack in at.rest()]
    assert login(system, alice, token)[0] == Code.CONN_CREDENTIALS
    assert web.ask("PATCH", path, {"not_before": later - 1000}).json["not_before"] == later  # it only rises

    def fresh() -> bool:
        return login(system, alice, web.post(f"{path}/tokens", {}).json["token"])[0] == 0

    wait_until(fresh, "a token that is new enough", 6)
    assert web.post("/v1/users", {"user_id": user(), "password": "secret"}).status == 422


def test_accounts_with_passwords(accounts: System, user: User) -> None:
    web = Web(accounts.http(), accounts.first_key)
    alice = user()
    body = {"user_id": alice, "password": CANARY, "profile": {"name": "Alice"}}
    assert web.post("/v1/users", {"user_id": alice}).json["error"]["details"]["field"] == "password"
    assert web.get(f"/v1/users/{alice}").status == 404
    made = web.post("/v1/users", body, Idempotency_Key="one")
    assert (made.status, made.json["name"]) == (201, "Alice")
    assert web.post("/v1/users", body, Idempotency_Key="one").status == 201
    again = web.post("/v1/users", body, Idempotency_Key="two")
    assert (again.status, again.error) == (409, "user_exists")
    assert login(accounts, alice, CANARY)[0] == 0
    assert web.ask("PATCH", f"/v1/users/{alice}", {"password": f"{CANARY}2", "profile": {"avatar": "a"}}).status == 200
    shown = web.get(f"/v1/users/{alice}").json
    assert (shown["name"], shown["avatar"], shown["disabled"]) == ("Alice", "a", False)
    assert login(accounts, alice, CANARY)[0] == Code.CONN_CREDENTIALS
    assert login(accounts, alice, f"{CANARY}2")[0] == 0
    assert web.ask("PATCH", f"/v1/users/{user()}", {"disabled": True}).status == 404
    assert web.ask("DELETE", f"/v1/users/{user()}").error == "no_such_user"
    for _ in range(4):
        web.post("/v1/users", {"user_id": user(), "password": "p"})
    first = web.get("/v1/users?limit=3").json
    rest = web.get(f"/v1/users?limit=3&cursor={first['next']}").json
    assert [len(first["users"]), len(rest["users"]), rest["next"]] == [3, 2, ""]
    assert CANARY not in accounts.log
