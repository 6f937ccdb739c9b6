"""Sensitive words over raw TCP: refused in one kind of chat, masked in the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from packs import table as t
from packs.codec import JSON
from packs.flags import COUNTER, DUP
from packs.ids import single_session
from tests.controls import OVERRIDE, control, controlled, send
from tests.groups import create, heard, say
from tests.raw import code
from tests.system import LAYOUTS, System, running, topology_text


@pytest.fixture(scope="module", params=list(LAYOUTS))
def wordy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Single chats refuse, groups mask; each has words of its own, from a list and from a file."""
    path = tmp_path_factory.mktemp("words") / "single.txt"
    path.write_text("赌博\nspam\n")
    table = {"single": ["Scam"], "single_file": str(path), "group": ["坏人", "scam"], "group_action": "mask"}
    with running(topology_text(request.param, tables={"words": table})) as found, found.unharmed():
        yield found


@pytest.mark.parametrize("content", ["scam", "a SCAM!", "ＳＣＡＭ", "网上赌博网", "赌\u200b博", "Spam"])
def test_a_word_is_refused(wordy: System, user: Callable[[], str], content: str) -> None:
    alice, bob = user(), user()
    a, b = wordy.client(alice), wordy.client(bob)
    assert code(a.text(bob, content, "same")) == 10
    assert code(a.text(bob, "坏人 are for groups", "same")) == 0  # what was refused did not happen
    assert b.push(t.MSG_SINGLE_CHAT).content == "坏人 are for groups"
    assert len(a.history(single_session(alice, bob))) == 1


def test_what_a_notification_shows_is_refused(wordy: System, user: Callable[[], str]) -> None:
    raw = wordy.client(user())
    for shown in ({"title": "scam"}, {"summary": "scam"}):
        assert code(raw.ask_any(t.MSG_SINGLE_CHAT, {"to": user(), "content": "x", "pushInfo": shown})) == 10
    assert code(raw.ask_any(t.MSG_SINGLE_CHAT, {"to": user(), "content": "x", "pushInfo": {"url": "scam"}})) == 0


def test_the_same_from_json(wordy: System, user: Callable[[], str]) -> None:
    raw = wordy.connect(codec=JSON)
    raw.login(user())
    assert code(raw.text(user(), "SCAM")) == 10
    assert code(raw.text(user(), "ok")) == 0


def test_a_word_is_masked(wordy: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = wordy.client(alice), wordy.client(bob)
    group = create(a, bob)
    cases = {"他是坏人。": "他是**。", "A Scam, ＳＣＡＭ": "A ****, ****", "spam is fine": "spam is fine"}
    for n, (given, masked) in enumerate(cases.items()):
        ack = say(a, group, given, f"m{n}")
        assert code(ack) == 0
        assert heard(b, masked) == [masked]
        assert b.history(group, count=1)[0].content == masked
        again = say(a, group, given, f"m{n}", COUNTER | DUP)
        assert (code(again), again.seq_id) == (46, ack.seq_id)
        assert heard(b, masked) == [masked]


def test_words_of_an_override(wordy: System, user: Callable[[], str]) -> None:
    """They are checked as those of a send: refused or masked."""
    alice, bob = user(), user()
    a, b = wordy.client(alice), wordy.client(bob)
    group = create(a, bob)
    single = send(a, bob, "fine")
    assert control(a, single, OVERRIDE, "SCAM") == 10
    assert a.history(single.session)[0].content == "fine"
    in_group = send(a, group, "fine")
    assert control(a, in_group, OVERRIDE, "a scam") == 0
    assert controlled(b).content == "a ****"
    assert b.history(group)[0].content == "a ****"
