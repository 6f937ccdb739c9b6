"""Listening to sessions of others over the SDK."""

from __future__ import annotations

from collections.abc import Callable

from client.events import Changed, Message
from packs.codes import Code
from tests.clients import Heard, connecting, refusal
from tests.system import running, topology_text
from tests.waiting import wait_until


def test_a_monitor_hears_what_others_say(user: Callable[[], str]) -> None:
    alice, bob, boss = user(), user(), user()
    with (
        running(topology_text(tables={"auth": {"monitors": [boss]}})) as system,
        connecting(system) as connect,
    ):
        heard = Heard()
        a, b, c = connect(alice), connect(bob), connect(boss, **heard.both)
        session = a.send(bob, "before")
        assert session is not None
        assert refusal(lambda: b.monitor.start(session.session_id)) == Code.CONN_DENIED
        group = a.groups.create("team", [bob])
        for where in (session.session_id, group):
            c.monitor.start(where)
        sent = [a.send(to, "secret") for to in (bob, group)]
        assert [m.content for m in heard.wait(Message, 2)] == ["secret", "secret"]
        a.edit(sent[0], "open")  # type: ignore[arg-type]
        assert [change.content for change in heard.wait(Changed)] == ["open"]
        assert {hot.session_id for hot in c.monitor.sessions()} == {session.session_id, group}
        c.close()
        c.connect()
        wait_until(lambda: len(c.monitor.sessions()) == 2, "it to listen again")
        c.monitor.stop(group)
        a.send(group, "unheard")
        b.send(alice, "heard")
        assert [m.content for m in heard.wait(Message, 3)][2:] == ["heard"]
