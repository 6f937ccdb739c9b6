"""What the model (test_model.py) has found, each in the fewest steps that show it."""

from __future__ import annotations

import pytest

from packs.flags import COUNTER
from tests.controls import DELETE, OVERRIDE, REVOKE
from tests.play import playing
from tests.system import System


@pytest.mark.parametrize("grouped", [False, True], ids=["single", "group"])
@pytest.mark.parametrize("command", [REVOKE, OVERRIDE, DELETE])
def test_what_was_changed_is_not_pushed_again_as_it_was(system: System, command: int, grouped: bool) -> None:
    """A repeat was pushed with the content that had been revoked, replaced or deleted meanwhile."""
    with playing(system) as play:
        for user in (0, 1):
            play.login(user, 0)
        play.create(0, [1])
        play.send(0, 4 if grouped else 1, "secret", COUNTER)
        play.send_again(0)
        play.control_own(0, command)
        play.send_again(0)


@pytest.mark.parametrize("attempt", range(3))
def test_who_was_just_added_hears_that_the_group_is_gone(wide: System, attempt: int) -> None:
    """The broker of a member who had just been added did not listen to the group yet when it was dismissed."""
    with playing(wide) as play:
        for user in range(4):
            play.login(user, 0, broker=user)
        play.create(0, [1, 2, 3])
        play.dismiss(0, 0)
