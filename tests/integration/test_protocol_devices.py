"""Devices (70), kicking them out (13), and users who are disabled or kicked out by whoever runs the system."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from packs import structs as s
from packs import structs_social as x
from packs import table as t
from packs.codec import JSON
from packs.flags import ACK
from tests.raw import Raw, code, decode
from tests.system import System, running, topology_text
from tests.waiting import wait_until

User = Callable[[], str]
pytestmark = pytest.mark.usefixtures("unharmed")


def devices(raw: Raw) -> dict[int, x.Device]:
    answer: x.DevicesResp = raw.ask(t.DEVICES_GET)
    assert code(answer) == 0
    return {device.device_type: device for device in answer.devices}


def kick(raw: Raw, device_type: int, device_id: str) -> int:
    return code(raw.ask(t.KICKOUT, x.KickOut(device_type=device_type, device_id=device_id)))


def end_of(raw: Raw) -> tuple[int, int, str]:
    """Code, device type and id of the KICKOUT with which a connection ends; nothing else may come."""
    (pack,) = raw.rest()
    assert pack.type == t.KICKOUT and not pack.flags & ACK
    told: x.KickOut = decode(pack)
    return told.error_code.code, told.device_type, told.device_id


def test_devices_are_listed_with_their_times(system: System, user: User) -> None:
    alice = user()
    before = int(time.time() * 1000)
    here = system.client(alice, device_id="laptop")
    phone = system.connect(codec=JSON)
    login = s.LoginReq(client_id=alice, device_type=1, device_id="phone", device_name="Alices 手机" + "x" * 100)
    assert code(phone.ask(t.LOGIN, login)) == 0
    found = devices(here)
    assert {n: (d.device_id, d.online, d.last_seen) for n, d in found.items()} == {
        1: ("phone", 1, 0),
        5: ("laptop", 1, 0),
    }
    assert found[1].device_name == ("Alices 手机" + "x" * 100)[:64]
    assert all(before - 2000 < d.login_time < time.time() * 1000 + 2000 for d in found.values())
    assert devices(phone) == found
    phone.close()
    gone = wait_until(lambda: not (d := devices(here)[1]).online and d, "the phone to be gone")
    assert found[1].login_time <= gone.last_seen <= time.time() * 1000 + 2000
    again = system.client(alice, device_type=1, device_id="other-phone")
    assert (devices(here)[1].device_id, devices(here)[1].online, devices(again)[1].last_seen) == ("other-phone", 1, 0)
    assert len(devices(here)) == 2
    assert devices(system.client(user())).keys() == {5}  # of nobody else


def test_a_device_that_logged_in_again_stays_online_when_its_old_connection_ends(system: System, user: User) -> None:
    alice = user()
    here = system.client(alice)
    for n in range(10):
        phone = system.client(alice, device_type=1, device_id=f"phone{n}")
    assert here.ask(t.PING) == s.CommonErrorCode()
    assert (devices(here)[1].device_id, devices(here)[1].online) == ("phone9", 1)
    assert phone.silent(0.2) and devices(here)[1].online


def test_one_kicks_out_ones_own_devices(system: System, user: User) -> None:
    alice, bob = user(), user()
    here, phone, web = (system.client(alice, device_type=n, device_id=f"d{n}") for n in (5, 1, 6))
    other = system.client(bob, device_type=1, device_id="d1")
    assert kick(here, 1, "d1") == 0
    assert end_of(phone) == (22, 1, "d1")
    wait_until(lambda: not devices(here)[1].online, "the phone to be gone")
    assert kick(here, 1, "d1") == 0  # is gone, as asked
    assert web.silent(0.1) and other.silent(0.1)
    assert devices(here)[6].online == 1
    # It may log in again: a kick is no ban.
    phone = system.client(alice, device_type=1, device_id="d1")
    assert phone.silent(0.3) and devices(here)[1].online


def test_a_kick_in_json(system: System, user: User) -> None:
    alice = user()
    here, phone = (system.connect(codec=JSON) for _ in range(2))
    here.login(alice)
    phone.login(alice, device_type=1, device_id="d1")
    assert kick(here, 1, "d1") == 0
    assert end_of(phone) == (22, 1, "d1")


def test_what_a_kick_refuses(system: System, user: User) -> None:
    alice = user()
    here, phone = system.client(alice, device_id="laptop"), system.client(alice, device_type=1, device_id="phone")
    assert kick(here, 1, "another") == 2  # the phone was changed meanwhile, say
    assert kick(here, 2, "phone") == 2
    assert kick(here, 5, "laptop") == 2  # that is LOGOUT
    assert code(here.ask_any(t.KICKOUT, {"deviceType": 1})) == 2
    assert code(here.ask_any(t.KICKOUT, {"deviceType": "1", "deviceId": "phone"})) == 42
    assert phone.silent(0.2) and here.silent(0.1)


def test_a_kick_reaches_another_broker(wide: System, user: User) -> None:
    alice = user()
    one, two = (Raw(address) for address in wide.addresses())
    one.login(alice, device_id="laptop")
    two.login(alice, device_type=1, device_id="phone")
    assert [{n: d.online for n, d in devices(raw).items()} for raw in (one, two)] == [{1: 1, 5: 1}] * 2
    assert kick(one, 1, "phone") == 0
    assert end_of(two)[0] == 22
    wait_until(lambda: not devices(one)[1].online, "the phone to be gone")


# ---- by whoever runs the system


def test_a_disabled_user_is_cut_and_cannot_come_back(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, phone, b = system.client(alice), system.client(alice, device_type=1), system.client(bob)
    done = system.run("user", "disable", alice)
    assert (done.returncode, done.stdout) == (0, f"{alice} is disabled\n")
    assert end_of(a)[0] == end_of(phone)[0] == 22
    for device_type in (1, 5, 9):
        raw = system.connect()
        assert code(raw.login(alice, device_type=device_type)) == 23
        assert raw.receive() is None
    assert code(b.text(alice, "for later")) == 0
    assert system.run("user", "enable", alice).stdout == f"{alice} can log in\n"
    assert code(system.connect().login(alice)) == 0


def test_a_user_is_kicked_out(system: System, user: User) -> None:
    alice = user()
    a, phone = system.client(alice), system.client(alice, device_type=1)
    assert system.run("user", "kick", alice, "--device-type", "1").returncode == 0
    assert end_of(phone)[:2] == (22, 1)
    assert a.silent(0.2)
    assert system.run("user", "kick", alice).stdout == f"{alice} was kicked out\n"
    assert end_of(a)[0] == 22
    nobody = system.run("user", "kick", user())
    assert nobody.returncode == 1 and "never logged in" in nobody.stderr
    assert code(system.connect().login(alice)) == 0


def test_accounts_are_disabled_by_name() -> None:
    with running(topology_text(tables={"auth": {"mode": "password"}})) as system:
        assert system.call("user.add_account", "ann", "secret", False)
        ann = system.client("ann", password="secret")
        assert system.run("user", "disable", "nobody").returncode == 1
        assert system.run("user", "disable", "ann").returncode == 0
        assert end_of(ann)[0] == 22
        assert code(system.connect().login("ann", password="secret")) == 23
        assert code(system.connect().login("ann", password="wrong")) == 21
        assert system.call("user.add_account", "ann", "new", True)  # a new password does not let in
        assert code(system.connect().login("ann", password="new")) == 23
        assert system.run("user", "enable", "ann").returncode == 0
        assert code(system.connect().login("ann", password="new")) == 0
