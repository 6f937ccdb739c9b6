"""When pushes leave, when they are tried again, and when a token is believed to be dead."""

from __future__ import annotations

import email.utils
import time

import gevent
import pytest

from mesh.loop import now
from push.credential import Credential
from push.flow import FEW_DEAD, OPEN_AFTER, Breaker, DeadTokens, Throttle, pause_before_retry
from push.http import parse_retry_after
from push.model import ACCEPTED, Notification, Outcome, VendorError, Verdict
from push.secret import read_secret
from push.text import clip, clip_bytes, key_of, number_of, plain
from push.vendor import code_table, fitted
from push.vendors import all_vendors
from push.vendors.meizu import sign_of
from push.vendors.vivo import seconds_to_morning

SERVER = Verdict(Outcome.SERVER)


def test_a_throttle_lets_through_so_many_a_second() -> None:
    throttle = Throttle(1000)
    start = now()
    for _ in range(300):
        throttle.wait()
    assert now() - start >= 0.19, "a tenth of a second's worth may go at once"


def test_a_paused_throttle_lets_nothing_through() -> None:
    throttle = Throttle(1000)
    throttle.pause(0.1)
    start = now()
    throttle.wait()
    assert now() - start >= 0.099


def test_a_breaker_opens_after_failures_in_a_row_and_closes_after_a_success() -> None:
    breaker = Breaker()
    for _ in range(OPEN_AFTER - 1):
        breaker.note([SERVER])
    breaker.note([SERVER, ACCEPTED])
    for _ in range(OPEN_AFTER - 1):
        breaker.note([SERVER])
    assert breaker.seconds == 0
    breaker.note([SERVER])
    assert 0 < breaker.seconds <= 1
    breaker.note([ACCEPTED])
    assert breaker.seconds == 0


def test_a_breaker_opens_when_our_key_is_wrong_and_not_for_a_token_of_another_app() -> None:
    wrong = Verdict(Outcome.CONFIG)
    breaker = Breaker()
    breaker.note([wrong])
    assert breaker.seconds > 50, "it has never worked"
    for _ in range(10):
        breaker.note([ACCEPTED])
        breaker.note([wrong])
    assert breaker.seconds == 0
    breaker.note([wrong])
    breaker.note([wrong])
    assert breaker.seconds > 50
    breaker.note([wrong, ACCEPTED])
    assert breaker.seconds == 0


@pytest.mark.parametrize(
    ("verdict", "tries", "least", "most"),
    [
        (SERVER, 1, 0.8, 1.2),
        (SERVER, 4, 6.4, 9.6),
        (SERVER, 40, 240, 360),
        (Verdict(Outcome.SERVER, retry_after=30), 1, 30, 36),
        (Verdict(Outcome.THROTTLED), 1, 8, 12),
        (Verdict(Outcome.BUSY), 2, 16, 24),
        (Verdict(Outcome.LOST), 2, 1.6, 2.4),
        (Verdict(Outcome.UNKNOWN), 2, 1.6, 2.4),
        (Verdict(Outcome.CONFIG), 1, 48, 72),
    ],
)
def test_pauses_grow_and_follow_the_vendor(verdict: Verdict, tries: int, least: float, most: float) -> None:
    pause = pause_before_retry(verdict, tries, 1.0)
    assert pause is not None
    assert least <= pause <= most


def test_what_is_never_tried_again() -> None:
    for outcome in (Outcome.ACCEPTED, Outcome.SKIPPED, Outcome.DEAD, Outcome.BAD):
        assert pause_before_retry(Verdict(outcome), 1, 1.0) is None
    assert pause_before_retry(Verdict(Outcome.UNKNOWN), 3, 1.0) is None


def test_tokens_are_dead_only_when_others_are_alive() -> None:
    tokens = DeadTokens()
    assert tokens.note(0, list("abcde")) == list("abc")
    assert FEW_DEAD == 3
    assert tokens.note(0, list("fg")) == []
    assert tokens.doubted == 4
    assert tokens.note(1, ["h"]) == ["h"], "what was doubted while nothing worked stays in doubt"
    assert tokens.doubted == 0
    assert tokens.note(0, ["d"]) == ["d"]


def test_what_is_too_long_goes_without_extra_and_url() -> None:
    def encode(n: Notification) -> bytes:
        return (n.title + n.body + n.extra + n.url).encode()

    n = Notification("id", "title", "ä" * 400, url="u" * 200, extra="e" * 200)
    assert fitted(n, 1205, encode) == n
    shorter = fitted(n, 1000, encode)
    assert (len(shorter.url), len(shorter.extra)) == (200, 200)
    assert 950 < len(encode(shorter)) <= 1000
    assert fitted(n, 350, encode)[3:5] == ("u" * 200, "")
    assert fitted(n, 150, encode)[3:5] == ("", "")


def test_a_vendor_that_sleeps_at_night_is_tried_again_in_the_morning() -> None:
    seven = 23 * 3600  # UTC, in China
    assert seconds_to_morning(seven - 600) == 600
    assert seconds_to_morning(seven - 7200) == 3600


def test_a_credential_is_fetched_by_one_for_all() -> None:
    fetched = []

    def fetch() -> tuple[str, float]:
        gevent.sleep(0.01)
        fetched.append(f"t{len(fetched)}")
        return fetched[-1], 3600.0

    credential = Credential(fetch, early=300)
    jobs = [gevent.spawn(credential.value) for _ in range(50)]
    assert {g.get() for g in jobs} == {"t0"}
    assert credential.reject("t0")
    assert credential.value() == "t1"
    assert credential.reject("t0"), "somebody has renewed it already"
    assert credential.value() == "t1"


def test_a_credential_is_not_renewed_before_its_vendor_allows_it() -> None:
    credential = Credential(lambda: ("t", 3600.0), early=0, least_age=1200)
    assert credential.value() == "t"
    assert not credential.reject("t")


def test_a_failed_credential_answers_for_those_who_ask_at_once() -> None:
    tries = []

    def fetch() -> tuple[str, float]:
        tries.append(1)
        gevent.sleep(0.01)
        raise VendorError(Outcome.CONFIG, "no")

    def ask() -> Outcome:
        with pytest.raises(VendorError) as error:
            credential.value()
        return error.value.verdict.outcome

    credential = Credential(fetch, early=0)
    jobs = [gevent.spawn(ask) for _ in range(20)]
    assert {g.get() for g in jobs} == {Outcome.CONFIG}
    assert len(tries) == 1


def test_retry_after_is_a_number_or_a_date() -> None:
    assert parse_retry_after("7") == 7
    assert parse_retry_after("999999999") == 3600
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 98 <= parse_retry_after(date) <= 100
    assert parse_retry_after(email.utils.formatdate(time.time() - 100)) == 0
    for nonsense in ("", "-3", "soon", "1.5", "Wed, 99 Foo"):
        assert parse_retry_after(nonsense) == 0


def test_texts_fit() -> None:
    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdefg", 6) == "abcde…"
    assert clip_bytes("ä" * 10, 20) == "ä" * 10
    cut = clip_bytes("ä" * 100, 20)
    assert len(cut.encode()) <= 20
    assert cut.endswith("ä…")
    assert plain("a 😀 b\n👋🏽 c ☎ 👨‍👩‍👧 ❤️ 1️⃣") == "a b c 1"
    for words in ("a^b `c`", "हिन्दी में", "ที่นี่", "e\u0301t\u00e9", "可以吗？"):
        assert plain(words) == words
    assert key_of("s", 8) == key_of("s", 8) != key_of("t", 8)
    assert len(key_of("s", 24)) == 24
    assert 0 < number_of("x") < 2**31


def test_codes_may_be_ranges_and_negative() -> None:
    table = code_table({Outcome.BAD: "5-7", Outcome.SERVER: "-1 9"})
    assert table == {"5": Outcome.BAD, "6": Outcome.BAD, "7": Outcome.BAD, "-1": Outcome.SERVER, "9": Outcome.SERVER}


def test_there_are_seven_vendors_and_the_log() -> None:
    assert set(all_vendors()) == {"apns", "fcm", "huawei", "xiaomi", "meizu", "vivo", "oppo", "log"}


def test_secrets_are_named_not_given(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "s").write_text("quiet\n")
    monkeypatch.setenv("A_SECRET", "loud")
    assert read_secret(f"file:{tmp_path}/s") == "quiet"
    assert read_secret("env:A_SECRET") == "loud"
    for value, why in (("env:NONE", "has no NONE"), ("file:/none", "cannot be read"), ("s3cret", "file:PATH")):
        with pytest.raises(ValueError, match=why) as error:
            read_secret(value)
        assert "s3cret" not in str(error.value)


def test_meizus_own_example_of_a_signature() -> None:
    message = '{"title":"title","content":"content","pushTimeInfo":{"offLine":1,"validTime":24}}'
    form = {"pushIds": "RA50c6348036344485d01776773577c64740465480a6b", "appId": "10000", "messageJson": message}
    assert sign_of(form, "<APP_SECRET>") == "ac076ff25d9900015a681cb5172aa53b"
