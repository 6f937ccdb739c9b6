"""Buckets against a plain model of tokens, and what counts as one address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import limits as shared_limits
from mesh.limits import Bucket, Buckets, address_key
from nodes import limits
from nodes.limits import BrokerLimits
from nodes.settings import BrokerSettings

EPSILON = 1e-6
rates = st.sampled_from([0.1, 1.0, 7.0, 1000.0])
pauses = st.lists(st.one_of(st.just(0.0), st.floats(0, 0.01), st.floats(0, 20)), max_size=60)


class Tokens:
    """A bucket as one would explain it."""

    def __init__(self, rate: float, size: int) -> None:
        self.rate, self.size, self.level = rate, size, float(size)

    def pass_time(self, seconds: float) -> None:
        self.level = min(self.size, self.level + seconds * self.rate)


@given(rates, st.integers(1, 20), pauses)
def test_a_bucket_is_what_one_expects(rate: float, burst: int, steps: list[float]) -> None:
    bucket, model, time = Bucket(rate, burst), Tokens(rate, burst), 1000.0
    for pause in steps:
        time += pause
        model.pass_time(pause)
        wait = bucket.take(time)
        if abs(model.level - 1) < EPSILON * burst:
            return  # either is right; from here on they may differ
        if model.level >= 1:
            assert wait == 0
            model.level -= 1
        else:
            assert wait == pytest.approx((1 - model.level) / rate, abs=1e-6)
            assert bucket.take(time + wait + 1e-6) == 0
            model.pass_time(wait + 1e-6)
            model.level -= 1
            time += wait + 1e-6


def test_without_a_rate_there_is_no_limit() -> None:
    bucket, buckets = Bucket(0, 1), Buckets(0, 1)
    assert [bucket.take(5.0) for _ in range(1000)] == [0.0] * 1000
    assert [buckets.ask("a") for _ in range(1000)] == [0.0] * 1000


def test_a_bucket_says_when_it_is_full() -> None:
    bucket = Bucket(2.0, 4)
    assert bucket.is_full(10.0)
    bucket.take(10.0)
    bucket.take(10.0)
    assert not bucket.is_full(10.9) and bucket.is_full(11.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that buckets see, to be moved."""
    time = [1000.0]
    for module in (shared_limits, limits):
        monkeypatch.setattr(module, "now", lambda: time[0])
    return time


def test_keys_have_buckets_of_their_own(clock: list[float]) -> None:
    buckets = Buckets(1.0, 3)
    assert [buckets.ask("a") for _ in range(4)] == [0, 0, 0, 1.0]
    assert buckets.ask("b") == 0
    clock[0] += 1.0
    assert [buckets.ask("a"), buckets.ask("a")] == [0, 1.0]


def test_events_that_were_not_asked_about_count(clock: list[float]) -> None:
    buckets = Buckets(1.0, 2)
    for _ in range(5):
        buckets.take("a")
    assert buckets.wait("a") == 4.0


def test_full_buckets_are_forgotten_and_others_not(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_limits, "MAX_KEYS", 10)
    buckets = Buckets(1.0, 1)
    for n in range(10):
        buckets.take(f"early{n}")
    clock[0] += 1.0
    buckets.take("late")
    assert list(buckets._full_at) == ["late"]
    assert buckets.wait("late") == 1.0


@pytest.mark.parametrize(
    "address, key, limited",
    [
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.9.9.9", "", "127.9.9.9"),
        ("::1", "", "::1"),
        ("::ffff:127.0.0.1", "", "127.0.0.1"),
        ("10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64", "2001:db8:1:2::/64"),
        ("unix", "unix", "unix"),
    ],
)
def test_what_an_address_is_limited_by(address: str, key: str, limited: str) -> None:
    assert address_key(address, False) == key
    assert address_key(address, True) == limited


def test_limits_of_a_broker(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = BrokerSettings(connections_per_second=1, connection_burst=2, logins_per_second=1, login_burst=1)
    found = BrokerLimits(settings, loopback=False)
    assert [found.connection("10.0.0.1") for _ in range(3)] == [0, 0, 1.0]
    assert [found.login("10.0.0.1") for _ in range(2)] == [0, 1.0]
    assert [found.login("127.0.0.1") for _ in range(9)] == [0] * 9
    mine = found.of_user("alice")
    assert found.of_user("alice") is mine and found.of_user("bob") is not mine
    monkeypatch.setattr(limits, "MAX_KEYS", 2)
    mine.messages.take(clock[0])
    found.of_user("carol")
    assert found.of_user("alice") is mine
