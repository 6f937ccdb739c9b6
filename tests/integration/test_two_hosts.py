"""Two machines: network namespaces with a wire between them, links over TCP with CURVE."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.settings import redis_server
from tests.system import ROOT
from tests.waiting import wait_until

EDGE, WORK = "10.77.0.1", "10.77.0.2"
CAN_RUN = os.geteuid() == 0 and shutil.which("ip") is not None and shutil.which("unshare") is not None
TOKEN = "two-hosts-share-this-secret-of-32-bytes"

CLIENT = """
import sys
from client.client import Client
import jwt, time
def token(user):
    return jwt.encode({"sub": user, "exp": int(time.time()) + 600}, open(sys.argv[1]).read().strip(), "HS256")
"""


def netns_works() -> bool:
    name = f"imesh-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return made


class Hosts:
    """Two namespaces, a Redis in the second one, and an imesh across them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.names = {"edge": f"imesh-e{os.getpid()}", "work": f"imesh-w{os.getpid()}"}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.topology = directory / "topology.toml"
        self.secret = directory / "token"
        self.secret.write_text(TOKEN + "\n")

    def sh(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    def make(self) -> None:
        e, w = self.names["edge"], self.names["work"]
        self.sh("ip", "netns", "add", e)
        self.sh("ip", "netns", "add", w)
        self.sh("ip", "link", "add", "veth0", "netns", e, "type", "veth", "peer", "name", "veth0", "netns", w)
        for name, address in ((e, EDGE), (w, WORK)):
            self.sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "veth0")
            self.sh("ip", "-n", name, "link", "set", "lo", "up")
            self.sh("ip", "-n", name, "link", "set", "veth0", "up")

    def wire(self, up: bool) -> None:
        self.sh("ip", "-n", self.names["edge"], "link", "set", "veth0", "up" if up else "down")

    def inside(self, host: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[host], *command]

    def start(self, host: str, *command: str, log: str) -> subprocess.Popen[bytes]:
        with (self.directory / log).open("ab") as output:
            process = subprocess.Popen(
                self.inside(host, *command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.processes.append(process)
        return process

    def run(self, host: str, *command: str, timeout: float = 40.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.inside(host, *command), cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )

    def python(self, host: str, code: str) -> subprocess.CompletedProcess[str]:
        return self.run(host, sys.executable, "-c", CLIENT + code, str(self.secret))

    def keys(self) -> dict[str, str]:
        """Made by the command that the docs name; the public ones."""
        command = [sys.executable, "-m", "mesh", "keys", "edge", "work", "--dir", str(self.directory / "keys")]
        printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        found = {}
        host = ""
        for line in printed.splitlines():
            if line.startswith("[host."):
                host = line[6:-1]
            elif line.startswith("public_key"):
                found[host] = line.split('"')[1]
        for name in ("edge", "work"):
            target = self.directory / f"data-{name}" / "keys"
            target.mkdir(parents=True)
            shutil.copy(self.directory / "keys" / f"{name}.key", target)
        return found

    def write_topology(self, keys: dict[str, str]) -> None:
        text = (ROOT / "topologies" / "two-hosts.toml").read_text()
        for line in text.splitlines():
            if line.startswith("public_key"):
                host = "edge" if text.index(line) < text.index("[host.work]") else "work"
                text = text.replace(line, f'public_key = "{keys[host]}"')
        text = text.replace("/etc/imesh/token", str(self.secret)).replace('stats = "127.0.0.1:7190"', 'stats = ""')
        self.topology.write_text(text)

    def up(self, host: str) -> subprocess.Popen[bytes]:
        data = str(self.directory / f"data-{host}")
        command = [sys.executable, "-m", "mesh", "up", str(self.topology), "--data", data, "--host", host]
        return self.start(host, *command, log=host)

    def serving(self) -> bool:
        data = str(self.directory / "data-edge")
        done = self.run("edge", sys.executable, "-m", "mesh", "status", str(self.topology), "--data", data, "--json")
        found = json.loads(done.stdout) if done.stdout else {}
        return bool(found) and all(p["state"] == "serving" for p in found.values())

    def log(self, host: str) -> str:
        path = self.directory / host
        return path.read_text() if path.exists() else ""

    def destroy(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if not CAN_RUN or not netns_works():
        # On CI this can run: root, and a kernel with namespaces. Not running there would hide a failure.
        assert not (os.environ.get("CI") and os.geteuid() == 0), "network namespaces do not work here"
        pytest.skip("needs root, iproute2 and network namespaces")
    with tempfile.TemporaryDirectory(prefix="imesh-hosts-") as directory:
        found = Hosts(Path(directory))
        try:
            found.make()
            redis = [redis_server() or "", "--bind", WORK, "--protected-mode", "no", "--dir", directory]
            found.start("work", *redis, "--appendonly", "yes", "--appendfsync", "always", "--save", "", log="redis")
            found.write_topology(found.keys())
            found.up("edge")
            found.up("work")
            wait_until(found.serving, "both hosts to serve", 30)
            yield found
        except BaseException:
            print(found.log("edge")[-5000:], found.log("work")[-5000:], file=sys.stderr)
            raise
        finally:
            found.destroy()


CHAT = f"""
with Client("{EDGE}:7100", "alice", token("alice")) as a, Client("{EDGE}:7100", "bob", token("bob")) as b:
    a.send("bob", "over the wire")
    print(next(b.messages(timeout=5)).content)
"""


def test_two_people_chat_across(hosts: Hosts) -> None:
    done = hosts.python("edge", CHAT)
    assert "over the wire" in done.stdout, done.stderr


STRANGER = f"""
import zmq, msgpack
context = zmq.Context()
def ask(curve):
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.IDENTITY, b"im:core-1#deadbeef")
    if curve:
        public, secret = zmq.curve_keypair()
        socket.set(zmq.CURVE_SERVERKEY, sys.argv[2].encode())
        socket.set(zmq.CURVE_PUBLICKEY, public)
        socket.set(zmq.CURVE_SECRETKEY, secret)
    socket.connect("tcp://{WORK}:7200")
    socket.send(msgpack.packb([[0, "edge-1", "x", 1, "serving", {{}}], [1, 1, "_mesh.describe", 1000, 0, b"\\x90"]]))
    answered = socket.poll(1500)
    socket.close()
    return answered
print([ask(True), ask(False)])
context.destroy(0)
"""


def test_a_stranger_on_the_network_gets_not_a_byte(hosts: Hosts) -> None:
    key = [line.split('"')[1] for line in hosts.topology.read_text().splitlines() if line.startswith("public_key")][1]
    done = hosts.run("edge", sys.executable, "-c", CLIENT + STRANGER, str(hosts.secret), key)
    assert done.stdout.strip() == "[0, 0]", done.stdout + done.stderr
    assert hosts.serving()


WAIT_OUT = f"""
import threading
with Client("{EDGE}:7100", "carl", token("carl")) as c, Client("{EDGE}:7100", "dora", token("dora")) as d:
    acked = []
    for n in range(30):
        c.send("dora", str(n), wait=False, done=lambda sent, error: acked.append(error or sent))
        if n == 5:
            print("cut", flush=True)
            sys.stdin.readline()
    got = []
    for message in d.messages(timeout=20):
        got.append(message.content)
        if len(got) == 30:
            break
    for _ in range(200):  # an ack may come after its message
        if len(acked) == 30:
            break
        time.sleep(0.05)
    print("got", got == [str(n) for n in range(30)], len(acked), [a for a in acked if isinstance(a, Exception)])
"""


def test_a_cut_wire_heals_and_nothing_is_missing(hosts: Hosts) -> None:
    client = subprocess.Popen(
        hosts.inside("edge", sys.executable, "-c", CLIENT + WAIT_OUT, str(hosts.secret)), cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert client.stdin is not None and client.stdout is not None
    assert client.stdout.readline() == "cut\n"
    hosts.wire(up=False)
    client.stdin.write("\n")
    client.stdin.flush()
    wait_until(lambda: "link lost" in hosts.log("edge"), "the loss to be noticed")
    hosts.wire(up=True)
    out, _ = client.communicate(timeout=40)
    assert out.startswith("got True 30 []"), out
    wait_until(hosts.serving, "both hosts to serve again", 20)


def test_without_its_key_a_host_does_not_start(hosts: Hosts, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mesh", "up", str(hosts.topology), "--data", str(tmp_path), "--host", "edge"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "edge.key" in done.stderr
