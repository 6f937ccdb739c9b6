"""Passwords, tokens, and too many tries."""

from __future__ import annotations

import base64
import hmac
import json
import math
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mesh.errors import ConfigError
from nodes.auth import AuthSettings
from nodes.tokens import Tokens
from packs import table as t
from tests.people import add
from tests.raw import code, decode
from tests.system import System, running, topology_text

CANARY = "canary-" + secrets.token_hex(8)
"""Part of every password here: it must not turn up in a log."""


@pytest.fixture(scope="module")
def accounts() -> Iterator[System]:
    """Password mode, three tries a minute."""
    auth = {"mode": "password", "tries_per_minute": 3, "monitors": ["alice"]}
    with running(topology_text(tables={"auth": auth})) as found:
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
    ids=["none", "almost", "another user's", "nobody"],
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


def test_an_erased_account_is_nobodys(accounts: System) -> None:
    """Not even after it was erased twice."""
    assert accounts.call("user.add_account", "gina", f"{CANARY} gina", False) is True
    accounts.client("gina", password=f"{CANARY} gina")
    for _ in range(2):
        done = accounts.run("user", "erase", "gina", "--yes", timeout=60)
        assert done.returncode == 0, done.stderr
    assert login(accounts, "gina", f"{CANARY} gina") == 21
    assert accounts.run("user", "add", "gina", stdin=f"{CANARY} new\n").returncode == 1
    assert "gina" not in accounts.run("user", "list").stdout
    assert add(accounts.client("bob", password=f"{CANARY} bob", device_type=7), "gina") == 2
    wrong = accounts.run("user", "erase", "gino", "--yes", timeout=60)
    assert wrong.returncode == 1 and "there is no account gino" in wrong.stderr


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


# ---- tokens signed with RSA


@pytest.fixture(scope="module")
def rsa_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def rsa(rsa_key: RSAPrivateKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    path = tmp_path_factory.mktemp("keys") / "public.pem"
    path.write_bytes(public_pem(rsa_key))
    auth = {
        "mode": "token", "token_algorithm": "RS256", "token_public_key_file": str(path), "tries_per_minute": 1000,
        "monitors": ["boss"],
    }  # fmt: skip
    with running(topology_text(tables={"auth": auth})) as found, found.unharmed():
        yield found


def public_pem(key: RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_a_token_signed_with_our_backends_key(rsa: System, rsa_key: RSAPrivateKey) -> None:
    assert login(rsa, "alice", jwt.encode(claims("alice"), rsa_key, "RS256")) == 0
    assert login(rsa, "bob", jwt.encode(claims("alice"), rsa_key, "RS256")) == 21


RSA_BAD: dict[str, Callable[[RSAPrivateKey], str]] = {
    "other key": lambda key: jwt.encode(claims("alice"), generate_private_key(65537, 2048), "RS256"),
    "expired": lambda key: jwt.encode(claims("alice", exp=int(time.time()) - 60), key, "RS256"),
    "other RSA": lambda key: jwt.encode(claims("alice"), key, "RS512"),
    "no algorithm": lambda key: jwt.encode(claims("alice"), None, "none"),
    "public key as secret": lambda key: hmac_signed(public_pem(key), claims("alice")),
    "forged": lambda key: forged(jwt.encode(claims("bob"), key, "RS256")),
    "nonsense": lambda key: "nonsense",
}


def hmac_signed(secret: bytes, payload: dict[str, Any]) -> str:
    """An HS256 token; PyJWT itself refuses to use a public key as a secret."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, payload)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")
    return (signed + b"." + signature).decode()


@pytest.mark.parametrize("name", RSA_BAD)
def test_bad_tokens_where_rsa_is_asked_for(rsa: System, rsa_key: RSAPrivateKey, name: str) -> None:
    assert login(rsa, "alice", RSA_BAD[name](rsa_key)) == 21


def test_an_rsa_token_where_a_secret_is_asked_for(tokens: System, rsa_key: RSAPrivateKey) -> None:
    assert login(tokens, "alice", jwt.encode(claims("alice"), rsa_key, "RS256")) == 21


def test_only_the_backend_can_sign(rsa: System) -> None:
    done = rsa.run("user", "token", "alice")
    assert done.returncode == 1 and "your backend has the key" in done.stderr


def test_bad_public_keys(tmp_path: Path) -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1()).public_key()
    small = generate_private_key(65537, 1024)
    files = {
        "nonsense": b"nonsense",
        "private": rsa_private_pem(small),
        "elliptic": elliptic.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "small": public_pem(small),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for name in (*files, "absent"):
        settings = AuthSettings(token_algorithm="RS256", token_public_key_file=str(tmp_path / name))
        with pytest.raises(ConfigError, match="token_public_key_file: "):
            Tokens(settings, tmp_path)


def rsa_private_pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "settings, problem",
    [
        ({"token_algorithm": "none"}, ("token_algorithm", 'must be "HS256" or "RS256", not "none"')),
        ({"token_algorithm": "RS256"}, ("token_algorithm", '"RS256" needs token_public_key_file')),
        ({"monitors": ("a b",)}, ("monitors", '"a b" is no user id')),
    ],
)
def test_mistakes_in_the_table(settings: dict[str, Any], problem: tuple[str, str]) -> None:
    assert list(AuthSettings(**settings).problems()) == [problem]


# ---- the right to listen to sessions of others


@pytest.mark.parametrize("value, expected", [(True, 0), (False, 23), (None, 23), ("true", 23), (1, 23)], ids=repr)
def test_the_claim_of_a_monitor(rsa: System, rsa_key: RSAPrivateKey, value: object, expected: int) -> None:
    raw = rsa.client("eve", password=jwt.encode(claims("eve", monitor=value), rsa_key, "RS256"))
    assert code(raw.ask(t.SESSION_MONITOR_SYNC)) == expected


def test_a_named_monitor_needs_no_claim(rsa: System, rsa_key: RSAPrivateKey, accounts: System) -> None:
    raw = rsa.client("boss", password=jwt.encode(claims("boss"), rsa_key, "RS256"))
    assert code(raw.ask(t.SESSION_MONITOR_SYNC)) == 0
    raw = accounts.client("alice", password=f"{CANARY} alice")
    assert code(raw.ask(t.SESSION_MONITOR_SYNC)) == 0
    raw = accounts.client("dave", password=f"{CANARY} dave")
    assert code(raw.ask(t.SESSION_MONITOR_SYNC)) == 23


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
