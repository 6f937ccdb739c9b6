"""ops/ speaks of what there is: every metric in it is served, the files are what their programs take."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nodes.rest.metrics import exposition
from tests.system import LAYOUTS, ROOT, System, running, topology_text
from tests.waiting import wait_until
from tests.web import Web

OPS = ROOT / "ops"
SAMPLE = re.compile(r'[a-z_]+\{process="[^"]+",host="[^"]+"(,(kind|le)="[^"]*")*\} [0-9.e+-]+')
SOURCES = [*(ROOT / "mesh").glob("*.py"), *(ROOT / "nodes").rglob("*.py"), *(ROOT / "webapi").glob("*.py")]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running(topology_text()) as found:
        yield found


def metrics_of(system: System) -> str:
    return Web(system.http(), system.first_key).get("/metrics").body.decode()


def counted() -> set[str]:
    """Names of counters in the code, up to what varies: some count only what goes wrong."""
    found = set()
    for path in SOURCES:
        for name in re.findall(r'(?:counts\[|gauge\()f?"([a-z_.]+)', path.read_text()):
            found.add(name.rstrip(".").replace(".", "_"))
    return found


def named(text: str) -> set[str]:
    return set(re.findall(r"\bimesh_[a-z_]+", text))


def test_metrics_are_what_prometheus_reads_and_ops_names_no_others(system: System) -> None:
    client = system.client("alice")
    client.text("bob", "x")

    def all_served() -> bool:
        text = metrics_of(system)
        return all(f"imesh_{n}{{" in text for n in ("chat_messages_total", "olap_archived_total", "broker_users"))

    wait_until(all_served, "the statistics of all processes")
    text = metrics_of(system)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) > 50 and all(SAMPLE.fullmatch(line) for line in lines), lines
    types = re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE)
    assert len(types) == len(set(types))
    served = set(types)
    kinds = "|".join(("process", "hooks", *LAYOUTS["split"]))
    for path in (OPS / "grafana" / "imesh.json", OPS / "prometheus" / "imesh.yml"):
        wanted = {name.removesuffix("_bucket") for name in named(path.read_text())}
        assert len(wanted) > 10
        for name in wanted - served:
            match = re.fullmatch(rf"imesh_({kinds})_(\w+?)(_total)?", name)
            assert match and match[2] in counted(), f"{path.name}: nobody serves {name}"


def test_a_process_that_is_gone_is_seen(system: System) -> None:
    assert 'imesh_process_up{process="cold-1",host="local"} 1' in metrics_of(system)
    system.signal(system.pid("cold-1"), 19)  # SIGSTOP: it hangs
    try:
        wait_until(lambda: 'imesh_process_up{process="cold-1",host="local"} 0' in metrics_of(system), "it to be missed")
        assert "imesh_olap_lag_seconds" not in metrics_of(system)
    finally:
        system.signal(system.pid("cold-1"), 18)


def test_text_of_metrics() -> None:
    body = {
        "process": 'a"\\b', "host": "h", "node": "http", "counters": {"answers.200": 3, "requests": 4, "calls.x": 1},
        "gauges": {"queue.x": 2, "a-b": 1.5}, "histograms": {
            "request": {"bounds_ms": [1, 10], "counts": [1, 2, 3], "total_ms": 1500.0},
        },
    }  # fmt: skip
    labels = r'process="a\"\\b",host="h"'
    text = exposition([body, {**body, "node": "process", "histograms": {}}], [])
    for line in (
        f'imesh_http_answers_total{{{labels},kind="200"}} 3', f"imesh_http_requests_total{{{labels}}} 4",
        f'imesh_http_calls_total{{{labels},kind="x"}} 1', f"imesh_process_calls_x_total{{{labels}}} 1",
        f'imesh_http_queue{{{labels},kind="x"}} 2', f"imesh_http_a_b{{{labels}}} 1.5",
        f'imesh_http_request_seconds_bucket{{{labels},le="0.001"}} 1',
        f'imesh_http_request_seconds_bucket{{{labels},le="0.01"}} 3',
        f'imesh_http_request_seconds_bucket{{{labels},le="+Inf"}} 6',
        f"imesh_http_request_seconds_sum{{{labels}}} 1.500000", f"imesh_http_request_seconds_count{{{labels}}} 6",
    ):  # fmt: skip
        assert line in text.splitlines(), (line, text)


def test_files_of_ops() -> None:
    dashboard = json.loads((OPS / "grafana" / "imesh.json").read_text())
    assert dashboard["uid"] == "imesh" and len({p["id"] for p in dashboard["panels"]}) == len(dashboard["panels"]) > 10
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    (group,) = yaml.safe_load((OPS / "prometheus" / "imesh.yml").read_text())["groups"]
    assert len(group["rules"]) > 8
    for rule in group["rules"]:
        assert rule["expr"] and rule["labels"]["severity"] in ("warning", "critical") and rule["annotations"]["summary"]
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "rules", OPS / "prometheus" / "imesh.yml"], check=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    unit = tmp_path / "imesh.service"
    unit.write_text((OPS / "systemd" / "imesh.service").read_text().replace("/opt/imesh/bin/imesh", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert "imesh.service" not in done.stderr, done.stderr
