"""Random users do random things to the real system and to a model of it (tests/model.py), and see the same.

`MODEL_EXAMPLES=1000 pytest tests/integration/test_model.py` runs it longer, and looks for the shortest way to a
failure, which takes minutes. `MODEL_SEED=n` repeats a run; with `CI` set, the seed is always the same. Failures are
tried again first: Hypothesis keeps them in `.hypothesis`. Each one that was found stands in `test_model_found.py`.
"""

from __future__ import annotations

import os
import random
import sys
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from packs.flags import COUNTER, HIGH_PRIORITY
from tests.play import USERS, Play
from tests.system import ROOT, System

CI_SEED = 1
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", 8))
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


class Step(NamedTuple):
    """Something that a `Play` can do. It prints as it is written in a test."""

    name: str
    arguments: dict[str, Any]

    def __repr__(self) -> str:
        return f"play.{self.name}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"


def step(name: str, times: int = 1, **arguments: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Step]]:
    """A kind of step, so many times as likely as others."""
    return [st.fixed_dictionaries(arguments).map(partial(Step, name))] * times


commands = st.integers(1, 3)
remarks = st.sampled_from(["", "", "dear", "other"])
shifts = st.sampled_from([0, 0, -1, 1])
steps = st.one_of(
    *step("login", 3, user=person, device=some, broker=some, json=st.booleans()),
    *step("logout", at=some, abrupt=st.booleans()),
    *step("send", 9, at=some, to=some, content=contents, flags=flags, count=st.sampled_from([1, 1, 4])),
    *step("send_together", 2, at=some, other=some, to=some, flags=flags),
    *step("send_again", 3, message=some, device=some, dup=st.booleans(), other=seldom),
    *step("control", 2, at=some, message=some, command=commands, content=contents, miss=seldom),
    *step("control_own", 4, message=some, command=commands, content=contents, device=some),
    *step("control_again", n=some, dup=st.booleans(), other=seldom, device=some),
    *step("read", 4, at=some, session=some, back=some, shift=shifts),
    *step("read_again", at=some, device=some),
    *step("create", at=some, members=people, limit=limits, mode=modes),
    *step("create_again", n=some),
    *step("join", 3, at=some, group=some, users=people),
    *step("leave", at=some, group=some, users=people),
    *step("join_or_leave_oneself", 2, at=some, group=some, leave=st.booleans()),
    *step("dismiss", at=some, group=some, owner=seldom),
    *step("hand_over", at=some, group=some, to=person, owner=st.booleans()),
    *step("update", at=some, group=some, limit=limits, mode=st.one_of(st.none(), modes), owner=st.booleans()),
    *step("befriend", 2, at=some, users=people, remark=remarks),
    *step("unfriend", at=some, users=people),
    *step("block", 2, at=some, users=people, yes=st.sampled_from([True, True, False])),
    *step("look", 3, user=person, count=st.sampled_from([1, 2, 200])),
)


class Machine(RuleBasedStateMachine):
    """One rule with all steps: of several rules Hypothesis leaves most out of most examples."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.play = Play(system)

    @initialize(json=st.tuples(*[st.booleans()] * USERS), modes=st.tuples(modes, modes))
    def begin(self, json: tuple[bool, ...], modes: tuple[int, int]) -> None:
        for user in range(USERS):
            self.play.login(user, 0, broker=user, json=json[user])
        for owner, mode in enumerate(modes):
            self.play.create(owner, [1, 2], mode=mode)

    @rule(step=steps)
    def do(self, step: Step) -> None:
        getattr(self.play, step.name)(**step.arguments)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # not when a step has failed
                self.play.end()
        finally:
            self.play.close()


def run(system: System) -> None:
    """Run it, with a seed that is printed."""
    usual = CI_SEED if "CI" in os.environ else random.SystemRandom().randrange(2**32)
    number = int(os.environ.get("MODEL_SEED", usual))
    print(f"MODEL_SEED={number}")

    @seed(number)
    class Seeded(Machine):
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
    run(system)


@pytest.mark.seconds(86_400 if LONG else 120)
def test_over_two_brokers(wide: System) -> None:
    run(wide)
