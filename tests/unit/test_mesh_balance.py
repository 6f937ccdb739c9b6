"""Which instance gets a call."""

from __future__ import annotations

from types import SimpleNamespace

from mesh.balance import EJECT_AFTER, EJECT_SECONDS, Instance, Pool


def pool(*names: str, local: str = "") -> Pool:
    made = Pool("svc", seed=1)
    for name in names:
        instance = Instance(name, SimpleNamespace(local=name == local))
        instance.up, instance.state = True, "serving"
        made.instances.append(instance)
    return made


def owner(p: Pool, key: str, time: float = 0.0) -> str:
    instance = p.choose(key, time)
    assert instance is not None
    return instance.process


KEYS = [f"SC_user{i}_user{i + 1}" for i in range(2000)]


def test_keys_spread_evenly_and_stay_where_they_are() -> None:
    p = pool("chat-1", "chat-2", "chat-3")
    first = {k: owner(p, k) for k in KEYS}
    counts = [list(first.values()).count(i.process) for i in p.instances]
    assert min(counts) > len(KEYS) / 3 * 0.75
    assert {k: owner(p, k) for k in KEYS} == first


def test_a_lost_instance_moves_only_its_own_keys_and_they_come_back() -> None:
    p = pool("chat-1", "chat-2", "chat-3")
    first = {k: owner(p, k) for k in KEYS}
    p.instances[1].up = False
    p.changed()
    second = {k: owner(p, k) for k in KEYS}
    assert all(second[k] == first[k] for k in KEYS if first[k] != "chat-2")
    assert "chat-2" not in second.values()
    p.instances[1].up = True
    p.changed()
    assert {k: owner(p, k) for k in KEYS} == first


def test_draining_instances_get_nothing_new_while_others_serve() -> None:
    p = pool("a-1", "a-2")
    p.instances[0].state = "draining"
    assert {owner(p, k) for k in KEYS[:50]} == {"a-2"}
    p.instances[1].state = "draining"
    p.changed()
    assert {owner(p, k) for k in KEYS[:50]} == {"a-1", "a-2"}


def test_without_a_key_the_local_instance_is_preferred() -> None:
    p = pool("a-1", "a-2", "a-3", local="a-2")
    assert {i.process for i in (p.choose(None, 0.0) for _ in range(20)) if i} == {"a-2"}


def test_without_a_key_the_less_loaded_of_two_is_taken() -> None:
    p = pool("a-1", "a-2")
    p.instances[0].outstanding = 1000
    chosen = [p.choose(None, 0.0) for _ in range(200)]
    share = sum(1 for i in chosen if i is p.instances[1]) / len(chosen)
    assert share > 0.6  # all but the draws that hit the loaded one twice


def test_repeated_timeouts_eject_and_a_probe_brings_back() -> None:
    p = pool("a-1", "a-2")
    bad = p.instances[0]
    ejected = [bad.timed_out(0.0) for _ in range(EJECT_AFTER)]
    assert ejected == [False] * (EJECT_AFTER - 1) + [True]
    p.changed()
    assert {owner(p, k, 0.1) for k in KEYS[:50]} == {"a-2"}
    later = EJECT_SECONDS + 0.1
    probes = [k for k in KEYS[:50] if owner(p, k, later) == "a-1"]
    assert len(probes) == 1  # one call probes it
    assert bad.succeeded()
    p.changed()
    assert {owner(p, k, later) for k in KEYS[:50]} == {"a-1", "a-2"}


def test_a_failed_probe_doubles_the_ejection() -> None:
    p = pool("a-1", "a-2")
    bad = p.instances[0]
    for _ in range(EJECT_AFTER):
        bad.timed_out(0.0)
    bad.chosen(EJECT_SECONDS)
    assert bad.timed_out(EJECT_SECONDS)
    assert bad.ejected_until == EJECT_SECONDS + 2 * EJECT_SECONDS


def test_the_last_instance_is_used_even_when_ejected() -> None:
    p = pool("a-1")
    for _ in range(EJECT_AFTER):
        p.instances[0].timed_out(0.0)
    p.changed()
    assert owner(p, "x", 0.5) == "a-1"


def test_no_instance_up_means_none() -> None:
    p = pool("a-1")
    p.instances[0].up = False
    assert p.choose("x", 0.0) is None
    assert p.choose(None, 0.0) is None
