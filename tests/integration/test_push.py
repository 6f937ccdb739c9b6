"""Messages to users who are not there reach their phones, over the wire formats of all vendors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nodes.push_recipients import CLOCKS_SECONDS
from packs import structs as s
from packs import structs_social as x
from packs import table as t
from packs.flags import COUNTER
from tests import groups
from tests.phones import Phones, phones
from tests.raw import code
from tests.simulators.apns import TOPIC
from tests.waiting import wait_until

NAMES = ("apns", "fcm", "huawei", "xiaomi", "meizu", "vivo", "oppo")


@pytest.fixture(scope="module")
def world() -> Iterator[Phones]:
    with phones(large_group=20) as found, found.system.unharmed():
        yield found


def test_every_vendor_gets_a_message_to_somebody_who_is_away(world: Phones, user: Callable[[], str]) -> None:
    a, b = user(), user()
    world.away(b, *NAMES)
    sender = world.client(a, 5)
    sender.text(b, "hello there")
    for vendor in NAMES:
        (shown,) = world.wait(b, 1, vendor)
        assert (shown.title, shown.body) == (a, "hello there"), vendor
        assert shown.badge in (1, None)
    assert world.got(b)[0].badge == 1


def test_whoever_is_there_with_a_phone_gets_none_and_with_a_computer_only_does(
    world: Phones, user: Callable[[], str]
) -> None:
    a, b, c = user(), user(), user()
    phone = world.client(b, 1)
    world.register(phone, b)
    world.away(c)
    computer = world.client(c, 5)
    sender = world.client(a, 5)
    sender.text(b, "no push")
    sender.text(c, "a push")
    assert world.wait(c)[0].body == "a push"
    assert not world.got(b)
    computer.close()
    phone.close()


def test_logout_and_another_owner_of_the_phone_stop_pushes(world: Phones, user: Callable[[], str]) -> None:
    a, b, c, d, last = user(), user(), user(), user(), user()
    phone = world.client(b)
    world.register(phone, b)
    assert code(phone.ask(t.LOGOUT)) == 0  # logged out
    world.gone(b)
    world.away(c)
    other = world.client(d)
    request = x.PushRegisterReq(service_type="apns", package_name=TOPIC, token=world.token(c))
    assert other.ask(t.PUSH_REGISTER, request).code == 0  # the phone of c is in the hands of d now
    other.close()
    world.away(last)
    sender = world.client(a, 5)
    for to in (b, c, last):
        sender.text(to, "hello")
    assert world.wait(last)
    assert not world.got(b)
    assert not world.got(c)


def test_unregistering_and_what_is_registered(world: Phones, user: Callable[[], str]) -> None:
    b = user()
    phone = world.client(b)
    world.register(phone, b, "apns", "fcm", app_version="2.1", quiet_hours="22:00-07:00", utc_offset=60)
    rows = phone.ask(t.PUSH_REGISTRATIONS_GET).registrations
    assert [(r.service_type, r.package_name, r.app_version) for r in rows] == [
        ("apns", TOPIC, "2.1"), ("fcm", TOPIC, "2.1"),
    ]  # fmt: skip
    assert (rows[0].quiet_hours, rows[0].utc_offset, rows[0].device_type) == ("22:00-07:00", 60, 2)
    assert phone.ask(t.PUSH_UNREGISTER, x.PushUnregisterReq(service_type="apns")).code == 0
    assert [r.service_type for r in phone.ask(t.PUSH_REGISTRATIONS_GET).registrations] == ["fcm"]
    good = {"service_type": "apns", "package_name": TOPIC, "token": "0" * 64}
    for wrong in ({"service_type": "pigeon"}, {"package_name": "org.other"}, {"token": "a/../b"}, {"token": "a,b"},
                  {"quiet_hours": "25:00-07:00"}, {"utc_offset": 99_999}, {"app_version": "x" * 65}):  # fmt: skip
        assert phone.ask(t.PUSH_REGISTER, x.PushRegisterReq(**{**good, **wrong})).code == 2, wrong  # type: ignore[arg-type]
    assert phone.ask(t.PUSH_UNREGISTER).code == 0
    assert phone.ask(t.PUSH_REGISTRATIONS_GET).registrations == []


def test_mute_quiet_hours_and_what_was_read(world: Phones, user: Callable[[], str]) -> None:
    a, muted, quiet, reader = user(), user(), user(), user()
    m = world.client(muted)
    world.register(m, muted)
    session = f"SC_{a}_{muted}"
    mute = s.SessionAttrSetReq(session_id=session, attr_name="MUTE", attr_value="1")
    assert m.ask(t.SESSIONATTRIBUTE_SET, mute).code == 0
    m.close()
    world.gone(muted)
    world.away(quiet, "xiaomi", quiet_hours="00:00-23:59")
    world.away(reader, "xiaomi")
    sender = world.client(a, 5)
    sender.text(muted, "nothing")
    reading = world.client(reader, 5)  # a computer, on which it is read while it rests
    ack = sender.text(reader, "read at once")
    assert reading.ask(t.MSG_READ, s.MsgReaded(session_id=ack.session_id, seq_id=ack.seq_id)).code == 0
    sender.text(quiet, "hush")
    world.wait(quiet, 1, "xiaomi")
    assert not world.got(muted)
    assert not world.got(reader, "xiaomi")


def test_a_burst_is_two_pushes_that_replace_each_other_with_an_exact_badge(
    world: Phones, user: Callable[[], str]
) -> None:
    a, b, c = user(), user(), user()
    world.away(b, "apns", "oppo")
    sender, third = world.client(a, 5), world.client(c, 5)
    for n in range(6):
        sender.text(b, f"number {n}")
    assert third.text(b, "from another").seq_id
    for vendor in ("apns", "oppo"):
        pushes = world.wait(b, 3, vendor)
        of_a = [p for p in pushes if p.title == a]
        assert [p.body for p in of_a] == ["number 0", "5 new messages"]
        assert len({p.collapse for p in of_a}) == 1, "one notification"
        assert pushes[-1].badge == 7
        assert len({p.collapse for p in pushes}) == 2, "one of each session"


def test_what_is_revoked_is_withdrawn(world: Phones, user: Callable[[], str]) -> None:
    a, b, c, d = user(), user(), user(), user()
    world.away(b)
    world.away(c)
    here = world.client(d)
    world.register(here, d)
    sender = world.client(a, 5)
    uptime = lambda: world.system.status()["push-1"]["uptime_seconds"]  # noqa: E731
    wait_until(lambda: uptime() > CLOCKS_SECONDS + 1, "it knows of all that is pushed from now on")
    ack = sender.text(d, "seen and not read", pack_id=f"seen-{d}")
    seen = s.MsgControl(command=1, session_id=ack.session_id, pack_id=f"seen-{d}", seq_id=ack.seq_id)
    ack = sender.text(c, "a slip", pack_id=f"slip-{c}")
    control = s.MsgControl(command=1, session_id=ack.session_id, pack_id=f"slip-{c}", seq_id=ack.seq_id)
    assert sender.ask(t.MSG_CTRL, control).code == 0  # while it rests: never pushed
    ack = sender.text(b, "a secret", pack_id=f"secret-{b}")
    assert world.wait(b)[0].body == "a secret"
    assert here.ask(t.PUSH_REGISTRATIONS_GET).registrations
    here.close()
    world.gone(d)
    assert sender.ask(t.MSG_CTRL, seen).code == 0  # his phone never showed a notification of it
    control = s.MsgControl(command=1, session_id=ack.session_id, pack_id=f"secret-{b}", seq_id=ack.seq_id)
    assert sender.ask(t.MSG_CTRL, control).code == 0
    first, second = world.wait(b, 2)
    assert second.body == "The message was withdrawn"
    assert second.collapse == first.collapse
    assert second.badge == 0
    sender.text(b, "the end")
    world.wait(b, 3)
    assert not any(p.body == "a slip" for p in world.got(c))
    assert not world.got(d)


def test_the_sender_may_say_what_a_push_says(world: Phones, user: Callable[[], str]) -> None:
    a, b = user(), user()
    world.away(b)
    sender = world.client(a, 5)
    info = s.PushInfo(title="Order 7", summary="is on its way", url="app://orders/7")
    assert code(sender.ask(t.MSG_SINGLE_CHAT, s.MsgReq(to=b, content="{}", push_info=info), flags=COUNTER)) == 0
    assert [(p.title, p.body) for p in world.wait(b)] == [("Order 7", "is on its way")]
    image = s.MsgReq(to=b, content="https://files/1.png", content_type=2)
    assert code(sender.ask(t.MSG_SINGLE_CHAT, image, flags=COUNTER)) == 0
    assert world.wait(b, 2)[1].body == "New message"


def test_members_of_a_group_who_are_away(world: Phones, user: Callable[[], str]) -> None:
    a, here, muted, *away = (user() for _ in range(6))
    owner = world.client(a, 5)
    group = groups.create(owner, here, muted, *away, name="Hikers")
    present, m = world.client(here), world.client(muted)
    world.register(present, here)
    world.register(m, muted)
    mute = s.SessionAttrSetReq(session_id=group, attr_name="MUTE", attr_value="1")
    assert m.ask(t.SESSIONATTRIBUTE_SET, mute).code == 0
    m.close()
    for member in away:
        world.away(member, "apns", "huawei")
    assert code(owner.ask(t.MSG_GROUP_CHAT, s.MsgReq(to=group, content="up!", content_type=1), flags=COUNTER)) == 0
    for member in away:
        for vendor in ("apns", "huawei"):
            (shown,) = world.wait(member, 1, vendor)
            assert (shown.title, shown.body, shown.badge) == ("Hikers", f"{a}: up!", 1)
    assert not world.got(here) + world.got(muted)


def test_of_a_large_group_only_who_is_mentioned_hears(user: Callable[[], str], world: Phones) -> None:
    a, b, c, *rest = (user() for _ in range(24))
    owner = world.client(a, 5)
    group = groups.create(owner, b, c, *rest)
    world.away(b)
    world.away(c)
    look = s.MsgReq(to=group, content="look", mentions=[c, a, "stranger"])
    for message in (s.MsgReq(to=group, content="chat"), look):
        assert code(owner.ask(t.MSG_GROUP_CHAT, message, flags=COUNTER)) == 0
    assert len(world.wait(c)) == 1
    assert not world.got(b)


def test_dead_tokens_are_unregistered_and_others_are_not(world: Phones, user: Callable[[], str]) -> None:
    a = user()
    sender = world.client(a, 5)
    for vendor in NAMES:
        b, c = user(), user()
        world.away(b, vendor)
        world.away(c, vendor)
        world.vendors[vendor].dead.add(world.token(b, vendor))
        sender.text(b, "x")
        sender.text(c, "x")
        world.wait(c, 1, vendor)
        left = [row for user_ in (b, c) for row in registered_until(world, user_, 0 if user_ == b else 1)]
        assert len(left) == 1, vendor
    counters = world.counters()
    for counter in ("apns.Unregistered", "fcm.UNREGISTERED", "meizu.110002", "oppo.10000"):
        assert counters[f"refused.push.main.{counter}"] > 0


def registered_until(world: Phones, user_: str, count: int) -> list[object]:
    """Registrations, once there are so many."""
    client = world.client(user_, 4)
    found: list[object] = []

    def right() -> bool:
        found[:] = client.ask(t.PUSH_REGISTRATIONS_GET).registrations
        return len(found) == count

    wait_until(right, f"{count} registrations of {user_}")
    client.close()
    return found


def test_others_push_and_look_what_became_of_it(world: Phones, user: Callable[[], str]) -> None:
    b = user()
    call = world.call
    register = ["p", "apns", TOPIC, b, "1.0", world.token(b), 0, "tablet", "", 0]
    call("push.register", register)
    message = ["order-1", b, 4, "Title", "Text", "app://x", '{"k": 1}']
    (preview,) = call("push.preview", message)
    assert preview[2] == f"/3/device/{world.token(b)}"
    assert call("push.push_message", message) == 1
    assert call("push.push_message", message) == 1  # a repeat
    (shown,) = world.wait(b)
    assert (shown.title, shown.body, shown.badge) == ("Title", "Text", 4)

    (row,) = wait_until(lambda: world.records("apns", b), "the record")
    assert row[7:9] == ["tablet", "accepted"]
    assert [r[4] for r in call("push.registrations", b)] == ["tablet"]
    assert call("push.unregister", b, "", "", "") == 1
    assert len(world.got(b)) == 1


def test_a_vendor_that_hangs_delays_no_other_and_all_comes_in_the_end(world: Phones, user: Callable[[], str]) -> None:
    a, b = user(), user()
    world.away(b, *NAMES)
    sender = world.client(a, 5)
    sender.text(b, "warm up")
    for vendor in NAMES:
        world.wait(b, 1, vendor)
    for vendor in ("apns", "fcm", "vivo"):
        world.vendors[vendor].plan.append("hang")
    world.vendors["oppo"].plan.append("cut")
    world.vendors["xiaomi"].plan.append("garbage")
    world.vendors["meizu"].plan.append("refuse")
    c = user()
    world.client(c, 5).text(b, "second")
    world.wait(b, 2, "huawei", 1.2)  # before the others' calls time out
    assert [shown.body for shown in world.got(b, "apns")] == ["warm up"]
    for vendor in NAMES:
        assert [p.body for p in world.wait(b, 2, vendor)] == ["warm up", "second"]
    assert world.vendors["oppo"].repeats == 1, "it was sent again, and OPPO can tell"


def test_the_command_line(world: Phones, user: Callable[[], str]) -> None:
    b = user()
    world.away(b, "apns", app_version="3.0")
    run = world.system.run
    assert "apns" in run("push", "list", b).stdout
    preview = run("push", "preview", b, "--title", "Hello", "--badge", "7")
    assert f"POST /3/device/{world.token(b)}" in preview.stdout
    assert '"title":"Hello"' in preview.stdout
    assert "bearer CREDENTIAL" in preview.stdout
    done = run("push", "test", b, "--title", "Hello", "--badge", "7")
    assert done.stdout == f"queued for 1 device of {b}\n", done.stderr
    (shown,) = world.wait(b)
    assert (shown.title, shown.badge) == ("Hello", 7)
    wait_until(lambda: world.records("apns", b), "the record")
    assert f"accepted     {b}" in run("push", "records", "main", "apns").stdout
    assert run("push", "records", "main", "apns", "--user", b).stdout.count("\n") == len(world.records("apns", b)) == 1
    counters = world.counters()
    assert counters["push.queued"] >= counters["push.main.apns.accepted"] > 0
    nobody = run("push", "test", user())
    assert nobody.returncode == 1
    assert "takes pushes now" in nobody.stderr
    assert run("push", "records", "main", "pigeon").returncode == 1
