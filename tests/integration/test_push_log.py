"""A system without an app: pushes are lines in the log, so that developers see them."""

from __future__ import annotations

from collections.abc import Callable

from packs import table as t
from packs.structs_social import PushRegisterReq
from tests import groups
from tests.system import System
from tests.waiting import wait_until


def test_a_push_is_a_line_without_its_text(system: System, user: Callable[[], str]) -> None:
    a, b = user(), user()
    phone = system.client(b, device_type=1)
    assert phone.ask(t.PUSH_REGISTER, PushRegisterReq(service_type="log", token=f"token-of-{b}")).code == 0
    phone.close()
    sender = system.client(a)
    session = sender.text(b, "for nobody else's eyes").session_id
    wait_until(lambda: f"collapse={session} badge=1" in system.log, "the line in the log")
    group = groups.create(sender, b)
    groups.say(sender, group, "for nobody else's eyes")
    wait_until(lambda: f"collapse={group} badge=2" in system.log, "the line of the group: both are unread")
    assert "nobody else" not in system.log
    assert f"token-of-{b}" not in system.log
