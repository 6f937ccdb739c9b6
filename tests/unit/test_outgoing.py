"""Requests to addresses that others chose: which may be asked at all."""

from __future__ import annotations

import base64
import hmac
import re
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from webapi.outgoing import Outgoing, Refused, is_public, problem_of_url, sign


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
     "64:ff9b::a00:1", "2002:a00:1::1", "2001::1", "2001:db8::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    ["", "shop.example.com", "ftp://x/", "https://", "https:///x", "https://u:p@x/", "https://x/#y", "https://x/ y",
     "https://x:99999/", "https://x:0/", "file:///etc/passwd", "https://x/\n"],
)  # fmt: skip
def test_urls_that_are_none(url: str) -> None:
    assert problem_of_url(url)


def test_urls_that_are() -> None:
    assert not problem_of_url("https://shop.example.com:8443/hooks?x=1") and not problem_of_url("http://[::1]:1/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1"])
def test_nothing_is_sent_to_an_address_of_our_own(host: str) -> None:
    with pytest.raises(Refused):
        Outgoing(f"https://{host}:9/", b"secret", seconds=2).post("id", b"{}")
    with pytest.raises(Refused):
        Outgoing(f"http://{host}:9/", b"secret", seconds=2).post("id", b"{}")


def test_signatures_are_those_of_standard_webhooks() -> None:
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    found = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    mac = hmac.new(secret, b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330." + body, sha256).digest()
    assert found == f"v1,{base64.b64encode(mac).decode()}"


def test_the_check_of_the_docs_knows_our_signatures() -> None:
    text = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
    space: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), space)
    secret, now = b"s" * 32, int(time.time())

    def is_good(timestamp: int, body: bytes = b"{}") -> bool:
        headers = {
            "webhook-id": "e1", "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(secret, "e1", timestamp, b"{}"),
        }  # fmt: skip
        found: bool = space["is_from_imesh"](f"whsec_{base64.b64encode(secret).decode()}", headers, body)
        return found

    assert is_good(now) and not is_good(now, b"{} ") and not is_good(now - 400)
