"""Passwords, tokens, and too many tries."""

from __future__ import annotations

import base64
import json
import math
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from packs import table as t
from tests.raw import code, decode
from tests.system import System, running, topology_text

CANARY = "canary-" + secrets.token_hex(8)
"""Part of every password here: it must not turn up in a log."""


@pytest.fixture(scope="module")
def accounts() -> Iterator[System]:
    """Password mode, three tries a minute."""
    with running(topology_text(tables={"auth": {"mode": "password", "tries_per_minute": 3}})) as found:
        for name in ("alice", "bob", "carol", "dave", "eve"):
            assert found.call("user.add_account", name, f"{CANARY} {name}", False) is True
        with found.unharmed():
            yield found
        assert CANARY not in found.log


@pytest.fixture(scope="module")
def tokens() -> Iterator[System]:
    with running(topology_text(tables={"auth": {"mode": "token", "tries_per_minute": 1000}})) as found:
        with found.unharmed():
            yield found
        assert "eyJ" not in found.log


def login(system: System, user: str, password: str) -> int:
    """The code of a login; what is refused is closed."""
    raw = system.connect()
    answer = code(raw.login(user, password=password))
    if answer:
        assert raw.rest() == []
    return answer


# ---- passwords


def test_the_right_password(accounts: System) -> None:
    assert login(accounts, "alice", f"{CANARY} alice") == 0


@pytest.mark.parametrize(
    "user, password",
    [("bob", ""), ("bob", f"{CANARY} bob "), ("carol", f"{CANARY} alice"), ("nobody", f"{CANARY} alice")],
)
def test_wrong_credentials(accounts: System, user: str, password: str) -> None:
    assert login(accounts, user, password) == 21


def test_a_message_to_an_unknown_user(accounts: System) -> None:
    raw = accounts.client("alice", password=f"{CANARY} alice")
    for n in range(3):
        raw.send_any(t.MSG_SINGLE_CHAT, {"to": "nobody", "content": "x"}, pack_id=f"no{n}")
        raw.send_any(t.MSG_SINGLE_CHAT, {"to": "bob", "content": str(n)}, pack_id=f"yes{n}")
    assert [code(raw.answer(f"no{n}")) for n in range(3)] == [2] * 3
    assert [code(raw.answer(f"yes{n}")) for n in range(3)] == [0] * 3
    b = accounts.client("bob", password=f"{CANARY} bob", device_type=3)
    assert [m.content for m in b.history("SC_alice_bob")] == ["2", "1", "0"]


def test_a_group_with_an_unknown_user(accounts: System) -> None:
    raw = accounts.client("alice", password=f"{CANARY} alice", device_type=4)
    info = {"name": "g"}
    assert code(raw.ask_any(t.GROUPCHAT_CREATE, {"groupInfo": info, "memberIds": ["bob", "nobody"]})) == 2
    made = raw.ask_any(t.GROUPCHAT_CREATE, {"groupInfo": info, "memberIds": ["bob"]})
    assert code(made) == 0
    for users, expected in ((["nobody"], 2), (["carol", "nobody"], 2), (["carol"], 0)):
        assert code(raw.ask_any(t.GROUPCHAT_JOIN, {"groupId": made.group_id, "memberIds": users})) == expected
    assert accounts.call("group.members", made.group_id) == ["alice", "bob", "carol"]


def test_too_many_tries(accounts: System) -> None:
    assert [login(accounts, "eve", "wrong") for _ in range(3)] == [21] * 3
    raw = accounts.connect()
    answer = raw.login("eve", password=f"{CANARY} eve")  # not even with the right one
    assert code(answer) == 7
    assert 0 < answer.error_code.retry_after <= 20_000
    assert raw.rest() == []
    assert login(accounts, "dave", f"{CANARY} dave") == 0  # others are not concerned


def test_good_logins_use_up_no_tries(accounts: System) -> None:
    assert [login(accounts, "dave", f"{CANARY} dave") for _ in range(8)] == [0] * 8


def test_a_changed_password(accounts: System) -> None:
    accounts.call("user.add_account", "frank", f"{CANARY} one", False)
    assert accounts.call("user.add_account", "frank", f"{CANARY} two", False) is False
    assert login(accounts, "frank", f"{CANARY} one") == 0
    assert accounts.call("user.add_account", "frank", f"{CANARY} two", True) is True
    assert login(accounts, "frank", f"{CANARY} one") == 21
    assert login(accounts, "frank", f"{CANARY} two") == 0


# ---- tokens


def secret(system: System) -> str:
    return (system.data / "secrets" / "token").read_text().strip()


def claims(user: str, **change: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {"sub": user, "iat": now, "exp": now + 60} | change
    return {name: value for name, value in found.items() if value is not None}


def test_a_token_of_the_system(tokens: System, user: Callable[[], str]) -> None:
    alice = user()
    token = tokens.call("user.token", alice, 60)
    assert login(tokens, alice, token) == 0
    assert login(tokens, user(), token) == 21


def test_a_token_of_a_backend_that_has_the_secret(tokens: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a = tokens.client(alice, password=jwt.encode(claims(alice, role="x"), secret(tokens), "HS256"))
    b = tokens.client(bob, password=jwt.encode(claims(bob, iat=None), secret(tokens), "HS256"))
    assert code(a.text(bob, "hi")) == 0
    assert decode(b.pack()).content == "hi"
    assert code(a.text("never-seen", "any valid id may be addressed")) == 0


def test_the_secret_is_for_us_alone(tokens: System) -> None:
    path = tokens.data / "secrets" / "token"
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def forged(token: str, **change: Any) -> str:
    """The same signature below other claims."""
    head, _, signature = token.split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims("alice") | change).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


Bad = Callable[[str], str]
BAD_TOKENS: dict[str, Bad] = {
    "empty": lambda key: "",
    "nonsense": lambda key: "nonsense",
    "dots": lambda key: "..",
    "expired": lambda key: jwt.encode(claims("alice", exp=int(time.time()) - 60), key, "HS256"),
    "no end": lambda key: jwt.encode(claims("alice", exp=None), key, "HS256"),
    "nobody": lambda key: jwt.encode(claims("alice", sub=None), key, "HS256"),
    "of another": lambda key: jwt.encode(claims("bob"), key, "HS256"),
    "not yet": lambda key: jwt.encode(claims("alice", nbf=int(time.time()) + 600), key, "HS256"),
    "other key": lambda key: jwt.encode(claims("alice"), "another key" * 10, "HS256"),
    "no algorithm": lambda key: jwt.encode(claims("alice"), None, "none"),
    "other algorithm": lambda key: jwt.encode(claims("alice"), key, "HS512"),
    "forged": lambda key: forged(jwt.encode(claims("bob"), key, "HS256")),
    "no signature": lambda key: jwt.encode(claims("alice"), key, "HS256").rpartition(".")[0] + ".",
    "too long": lambda key: jwt.encode(claims("alice", x="y" * 5000), key, "HS256"),
    "a password": lambda key: key,
    "not ascii": lambda key: "é.é.é",
    "nul": lambda key: jwt.encode(claims("alice"), key, "HS256") + "\0",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_bad_tokens(tokens: System, name: str) -> None:
    assert login(tokens, "alice", BAD_TOKENS[name](secret(tokens))) == 21


@pytest.mark.parametrize("end", ["text", math.inf, math.nan, -1, None, [], {}], ids=repr)
def test_an_end_that_is_no_time(tokens: System, end: object) -> None:
    payload = {"sub": "alice", "exp": end}
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=")
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        head + b"." + body, secret(tokens).encode()
    )
    token = b".".join((head, body, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()
    assert login(tokens, "alice", token) == 21
