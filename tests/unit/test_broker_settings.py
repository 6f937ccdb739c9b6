"""Where clients connect, and from which pages."""

from __future__ import annotations

import pytest

from nodes.settings import BrokerSettings, is_page_allowed


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"ws_listen": "127.0.0.1:7101", "ws_origins": ("https://app.example.com", "http://localhost:8080")}, []),
        ({"listen": "127.0.0.1:0", "ws_listen": "127.0.0.1:0"}, []),
        ({"ws_listen": "127.0.0.1:7100"}, ["listen", "ws_listen"]),
        ({"wss_listen": "127.0.0.1:7102"}, ["wss_listen"]),
        ({"ws_listen": "7101"}, ["ws_listen"]),
        ({"ws_origins": ("app.example.com", "https://APP")}, ["ws_origins", "ws_origins"]),
    ],
)
def test_mistakes_are_found(settings: dict[str, object], keys: list[str]) -> None:
    assert [key for key, _ in BrokerSettings(**settings).problems()] == keys  # type: ignore[arg-type]


def test_pages_that_may_connect() -> None:
    page = "https://app.example.com"
    assert is_page_allowed(page, (), "token") and is_page_allowed(page, (page,), "open")
    assert not is_page_allowed("https://evil.example", (page,), "token")
    for own in ("http://localhost:3000", "http://127.0.0.1", "https://[::1]:8080"):
        assert is_page_allowed(own, (), "open")
    for other in (page, "null", "", "http://[", "file://", "http://127.0.0.1.evil.example"):
        assert not is_page_allowed(other, (), "open")
