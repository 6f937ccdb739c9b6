"""The examples run as they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from client.client import Client
from tests.system import ROOT, System
from tests.waiting import wait_until

TOPOLOGY = "examples/echo/topology.toml"


def test_a_service_on_the_mesh_alone(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path)]
    mesh = [sys.executable, "-m", "mesh"]
    with subprocess.Popen([*mesh, "up", TOPOLOGY, *data], cwd=ROOT, stderr=subprocess.DEVNULL) as launcher:
        try:

            def serving() -> bool:
                return subprocess.run([*mesh, "status", TOPOLOGY, *data], cwd=ROOT, capture_output=True).returncode == 0

            wait_until(serving, "the example to serve")
            command = [*mesh, "call", "caller.ask", '"hello"', "--topology", TOPOLOGY, *data]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
            assert done.stdout.startswith('"hello (from back-'), done.stderr
        finally:
            os.kill(launcher.pid, signal.SIGTERM)
        assert launcher.wait(20) == 0


def test_the_bot_answers(system: System, user: Callable[[], str]) -> None:
    alice, robot = user(), user()
    address = "{}:{}".format(*system.address())
    command = [sys.executable, "examples/bot.py", robot, address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as bot:
        try:
            assert bot.stdout is not None and bot.stdout.readline() == f"{robot} is here\n"
            with Client(address, alice) as a:

                def said(to: str, text: str, **options: list[str]) -> str:
                    a.send(to, text, **options)
                    return next(a.messages(10)).content

                assert said(robot, "你好") == "你好"
                assert "/roll" in said(robot, "/help")
                assert said(robot, "/roll 1") == "🎲 1"
                group = a.groups.create("team", [robot])
                a.send(group, "I talk to nobody")
                assert said(group, f"@{robot} /roll 1") == "🎲 1"
                assert said(group, "all of you", mentions=[robot]) == "all of you"
        finally:
            bot.terminate()
