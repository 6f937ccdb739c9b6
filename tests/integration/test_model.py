"""Random users do random things to the real system and to a model of it (tests/model.py), and see the same.

`MODEL_EXAMPLES=1000 pytest tests/integration/test_model.py` runs it longer, and looks for the shortest way to a
failure, which takes minutes. `MODEL_SEED=n` repeats a run. Failures are tried again first: Hypothesis keeps them in
`.hypothesis`. Each one that was found stands in `test_model_found.py`.
"""

from __future__ import annotations

import os
import random
import sys

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from packs.flags import COUNTER, HIGH_PRIORITY
from tests.play import USERS, Play
from tests.system import ROOT, System

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", 9))
"""Of each layout."""
STEPS = 40
LONG = "MODEL_EXAMPLES" in os.environ

some = st.integers(0, 11)
"""One of those that there are."""
person = st.integers(0, USERS - 1)
people = st.lists(person, min_size=1, max_size=3)
seldom = st.sampled_from([False, False, False, True])
contents = st.sampled_from(["text", "ü ∂ 😀 \"\n\0", "x" * 60, "text", ""])
flags = st.sampled_from([COUNTER, COUNTER, 0, COUNTER | HIGH_PRIORITY, HIGH_PRIORITY])
limits = st.sampled_from([0, 0, 0, 2, 3])
modes = st.sampled_from([0, 0, 1, 2])


class Machine(RuleBasedStateMachine):
    """Steps, and with what."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.play = Play(system)

    @initialize(json=st.lists(st.booleans(), min_size=USERS, max_size=USERS))
    def everybody_comes(self, json: list[bool]) -> None:
        for user in range(USERS):
            self.play.login(user, 0, broker=user, json=json[user])
        self.play.create(0, [1, 2])

    @rule(user=person, device=some, broker=some, json=st.booleans())
    def login(self, user: int, device: int, broker: int, json: bool) -> None:
        self.play.login(user, device, broker, json)

    @rule(at=some, abrupt=st.booleans())
    def logout(self, at: int, abrupt: bool) -> None:
        self.play.logout(at, abrupt)

    @rule(at=some, to=some, content=contents, flags=flags, count=st.sampled_from([1, 1, 4]))
    def send(self, at: int, to: int, content: str, flags: int, count: int) -> None:
        self.play.send(at, to, content, flags, count)

    @rule(at=some, to=some, flags=flags)
    def send_another(self, at: int, to: int, flags: int) -> None:
        self.play.send(at, to, "another", flags)

    @rule(at=some, other=some, to=some, flags=flags)
    def send_together(self, at: int, other: int, to: int, flags: int) -> None:
        self.play.send_together(at, other, to, flags)

    @rule(message=some, device=some, dup=st.booleans(), other=seldom)
    def send_again(self, message: int, device: int, dup: bool, other: bool) -> None:
        self.play.send_again(message, device, dup, other)

    @rule(at=some, message=some, command=st.integers(1, 3), content=contents, miss=seldom)
    def control(self, at: int, message: int, command: int, content: str, miss: bool) -> None:
        self.play.control(at, message, command, content, miss)

    @rule(message=some, command=st.integers(1, 3), content=contents, device=some)
    def control_own(self, message: int, command: int, content: str, device: int) -> None:
        self.play.control_own(message, command, content, device)

    @rule(n=some, dup=st.booleans(), other=seldom, device=some)
    def control_again(self, n: int, dup: bool, other: bool, device: int) -> None:
        self.play.control_again(n, dup, other, device)

    @rule(at=some, session=some, back=some, shift=st.sampled_from([0, 0, -1, 1]))
    def read(self, at: int, session: int, back: int, shift: int) -> None:
        self.play.read(at, session, back, shift)

    @rule(at=some, device=some)
    def read_again(self, at: int, device: int) -> None:
        self.play.read_again(at, device)

    @rule(at=some, members=people, limit=limits, mode=modes)
    def create(self, at: int, members: list[int], limit: int, mode: int) -> None:
        self.play.create(at, members, limit, mode)

    @rule(n=some)
    def create_again(self, n: int) -> None:
        self.play.create_again(n)

    @rule(at=some, group=some, users=people)
    def join(self, at: int, group: int, users: list[int]) -> None:
        self.play.join(at, group, users)

    @rule(at=some, group=some, users=people)
    def leave(self, at: int, group: int, users: list[int]) -> None:
        self.play.leave(at, group, users)

    @rule(at=some, group=some, leave=st.booleans())
    def join_or_leave_oneself(self, at: int, group: int, leave: bool) -> None:
        self.play.join_or_leave_oneself(at, group, leave)

    @rule(at=some, group=some, owner=seldom)
    def dismiss(self, at: int, group: int, owner: bool) -> None:
        self.play.dismiss(at, group, owner)

    @rule(at=some, group=some, to=person, owner=st.booleans())
    def hand_over(self, at: int, group: int, to: int, owner: bool) -> None:
        self.play.hand_over(at, group, to, owner)

    @rule(at=some, group=some, limit=limits, mode=st.one_of(st.none(), modes), owner=st.booleans())
    def update(self, at: int, group: int, limit: int, mode: int | None, owner: bool) -> None:
        self.play.update(at, group, limit, mode, owner)

    @rule(at=some, users=people, remark=st.sampled_from(["", "", "dear", "other"]))
    def befriend(self, at: int, users: list[int], remark: str) -> None:
        self.play.befriend(at, users, remark)

    @rule(at=some, users=people)
    def unfriend(self, at: int, users: list[int]) -> None:
        self.play.unfriend(at, users)

    @rule(at=some, users=people, yes=st.booleans())
    def block(self, at: int, users: list[int], yes: bool) -> None:
        self.play.block(at, users, yes)

    @rule(user=person, count=st.sampled_from([1, 2, 200]))
    def look(self, user: int, count: int) -> None:
        self.play.look(user, count)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # not when a step has failed
                self.play.end()
        finally:
            self.play.close()


def run(system: System, name: str) -> None:
    """Run it, with a seed that is printed and failures kept by layout."""
    number = int(os.environ.get("MODEL_SEED", random.SystemRandom().randrange(2**32)))
    print(f"MODEL_SEED={number}")

    @seed(number)
    class Seeded(Machine):
        TestCase = None

        def __init__(self) -> None:
            super().__init__(system)

    run_state_machine_as_test(
        Seeded,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, print_blob=True,
            suppress_health_check=list(HealthCheck),
            database=DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "examples"),
            phases=[Phase.reuse, Phase.generate, *([Phase.shrink] if LONG else [])],
        ),
    )  # fmt: skip


@pytest.mark.seconds(86_400 if LONG else 120)
def test_everybody_sees_what_the_model_says(system: System) -> None:
    run(system, "one")


@pytest.mark.seconds(86_400 if LONG else 120)
def test_over_two_brokers(wide: System) -> None:
    run(wide, "two")
