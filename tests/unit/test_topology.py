"""What a right topology says: processes, endpoints, settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.placement import MAX_SOCKET_PATH
from mesh.topology import Topology, load
from tests.unit.topology_kinds import node_package

MESH = '[mesh]\npackage = "topology_test_nodes"\n'
ONE_HOST = MESH + (
    '[process.edge]\nnodes = ["alpha"]\ncount = 2\n'
    '[process.core]\nnodes = ["beta", "gamma", "alpha"]\n[node.beta]\nsize = 3\n'
)
KEY = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
KEY_B = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
TWO_HOSTS = MESH + (
    f'[host.a]\naddress = "10.0.0.1"\npublic_key = "{KEY}"\n'
    f'[host.b]\naddress = "10.0.0.2"\nport = 9000\npublic_key = "{KEY_B}"\n'
    '[process.edge]\nnodes = ["alpha"]\ncount = 2\nhosts = ["b", "a"]\n'
    '[process.core]\nnodes = ["gamma"]\nhosts = ["a"]\n[store]\nurl = "x"\n'
)


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with node_package(tmp_path_factory.mktemp("kinds")):
        yield


def loaded(directory: Path, text: str, environ: dict[str, str] | None = None, data: str | None = "/d") -> Topology:
    (directory / "t.toml").write_text(text)
    return load(directory / "t.toml", data, environ or {})


def test_one_host(tmp_path: Path) -> None:
    topology = loaded(tmp_path, ONE_HOST)
    assert list(topology.processes) == ["edge-1", "edge-2", "core-1"]
    assert topology.instances("alpha") == ("edge-1", "edge-2", "core-1")
    assert topology.instances("gamma") == ("core-1",)
    assert topology.instances("push") == ()
    assert topology.kinds() == ("alpha", "beta", "gamma")
    assert not topology.secure
    assert topology.binds("edge-2") == (["ipc:///d/run/edge-2.rpc"], ["ipc:///d/run/edge-2.pub"])
    assert topology.rpc_endpoint("edge-1", "core-1") == "ipc:///d/run/core-1.rpc"
    assert topology.pub_endpoint("edge-1", "edge-2") == "ipc:///d/run/edge-2.pub"
    assert [spec.stats for spec in topology.processes.values()] == [
        f"tcp://127.0.0.1:{port}" for port in (7190, 7191, 7192)
    ]
    assert topology.settings("alpha").limit == 5
    assert topology.settings("beta").size == 3
    assert topology.section("store").shards == 64
    assert topology.node_class("alpha").__name__ == "Alpha"


def test_two_hosts(tmp_path: Path) -> None:
    topology = loaded(tmp_path, TWO_HOSTS)
    assert {name: spec.host for name, spec in topology.processes.items()} == {
        "edge-1": "b", "edge-2": "b", "edge-3": "a", "edge-4": "a", "core-1": "a",
    }  # fmt: skip
    assert topology.secure
    assert topology.binds("edge-2") == (
        ["ipc:///d/run/edge-2.rpc", "tcp://10.0.0.2:9002"],
        ["ipc:///d/run/edge-2.pub", "tcp://10.0.0.2:9003"],
    )
    assert topology.rpc_endpoint("edge-1", "core-1") == "tcp://10.0.0.1:7204"
    assert topology.rpc_endpoint("edge-3", "core-1") == "ipc:///d/run/core-1.rpc"
    assert topology.pub_endpoint("core-1", "edge-1") == "tcp://10.0.0.2:9001"


@pytest.mark.parametrize(("stats", "endpoint"), [("", ""), ("127.0.0.1:0", "tcp://127.0.0.1:*")])
def test_statistics_off_and_on_any_port(stats: str, endpoint: str, tmp_path: Path) -> None:
    topology = loaded(tmp_path, ONE_HOST, {"IMESH_MESH_STATS": stats})
    assert {spec.stats for spec in topology.processes.values()} == {endpoint}


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    environ = {
        "IMESH_MESH_DRAIN": "3",
        "IMESH_NODE_ALPHA_LIMIT": "7",
        "IMESH_NODE_ALPHA_LISTEN": "1234",  # a text, although it is a number in TOML
        "IMESH_NODE_ALPHA_SECRET": '"quoted\\t"',
        "IMESH_STORE_URL": "redis://db",
    }
    topology = loaded(tmp_path, ONE_HOST + "[node.alpha]\nlimit = 1\n", environ)
    alpha = topology.settings("alpha")
    assert topology.mesh.drain == 3.0
    assert (alpha.limit, alpha.listen, alpha.secret) == (7, "1234", "quoted\t")
    assert topology.section("store").url == "redis://db"


def test_the_text_form_shows_no_settings(tmp_path: Path) -> None:
    topology = loaded(tmp_path, ONE_HOST + '[node.alpha]\nsecret = "hidden"\n')
    assert topology.settings("alpha").secret == "hidden"
    assert "hidden" not in f"{topology!r} {topology}"


def test_a_class_from_elsewhere(tmp_path: Path) -> None:
    topology = loaded(
        tmp_path, MESH + '[process.p]\nnodes = ["x"]\n[node.x]\nclass = "topology_test_nodes.double:Two"\n'
    )
    assert topology.node_class("x").__name__ == "Two"


def test_settings_of_a_node_that_runs_nowhere_are_checked_all_the_same(tmp_path: Path) -> None:
    topology = loaded(tmp_path, MESH + '[process.p]\nnodes = ["alpha"]\n[node.beta]\nsize = 1\n')
    assert topology.instances("beta") == ()
    assert topology.settings("beta").size == 1


def test_data_directory(tmp_path: Path) -> None:
    assert loaded(tmp_path, ONE_HOST, data=None).data_dir == tmp_path / "data"
    assert loaded(tmp_path, ONE_HOST, {"IMESH_DATA": "/e"}, data=None).data_dir == Path("/e")
    assert loaded(tmp_path, ONE_HOST, {"IMESH_DATA": "/e"}, data="/f").data_dir == Path("/f")


def test_a_long_data_directory_moves_the_sockets(tmp_path: Path) -> None:
    short = loaded(tmp_path, ONE_HOST, data="/" + "d" * 60)
    assert short.run_dir == Path("/" + "d" * 60 + "/run")
    runs = {loaded(tmp_path, ONE_HOST, data="/" + letter * 90).run_dir for letter in "ab"}
    assert len(runs) == 2
    for run_dir in runs:
        assert len(f"{run_dir}/edge-2.rpc") <= MAX_SOCKET_PATH
        assert not run_dir.exists()
