"""Who cuts in on whom where a core is shared: those that somebody waits for, on those that nobody waits for."""

from __future__ import annotations

import os

import pytest

from mesh.slices import SHORT_NS, Slices, slices_of
from nodes.hooks import HooksNode
from nodes.olap import OlapNode
from nodes.push import PushNode
from tests.system import System

pytestmark = pytest.mark.skipif(not slices_of(0).ns, reason="this system does not tell slices (Linux does from 6.12)")


def test_who_is_waited_for_has_short_slices(system: System) -> None:
    assert OlapNode.background and PushNode.background and HooksNode.background
    usual = slices_of(0)
    assert usual.ns > SHORT_NS
    short = Slices(SHORT_NS, True)
    for process, about in system.status().items():
        waited_for = set(about["nodes"]) - {"olap", "push", "hooks"}
        assert slices_of(system.pid(process)) == (short if waited_for else usual), process
    assert slices_of(system.pid("redis")) == short


def test_their_threads_have_usual_ones(system: System) -> None:
    """Those of ZeroMQ, and the pools in which passwords are hashed and SQL is spoken."""
    usual = slices_of(0).ns
    for process in (*system.status(), "redis"):
        pid = system.pid(process)
        others = [int(task) for task in os.listdir(f"/proc/{pid}/task") if int(task) != pid]
        assert others, process
        assert {slices_of(task).ns for task in others} - {0} == {usual}, process  # 0: it has just ended
