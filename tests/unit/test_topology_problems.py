"""Broken topologies and the exact lines that they lead to, all at once."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.topology import TopologyError, load
from tests.unit.topology_kinds import node_package

MESH = '[mesh]\npackage = "topology_test_nodes"\n'
KEY = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
KEY_B = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

BROKEN: dict[str, tuple[str, list[str]]] = {
    "no TOML": ("[mesh]\nname = \n", ["t.toml:2: not valid TOML: invalid value"]),
    "no TOML, at the end": ("[mesh]\nname = [", ["t.toml: not valid TOML: invalid value (at end of document)"]),
    "twice": ("[mesh]\n[mesh]\n", ["t.toml:2: not valid TOML: cannot declare ('mesh',) twice"]),
    "empty": ("", ["t.toml: [process] no process: at least one table [process.NAME] with nodes is needed"]),
    "empty table": (
        "[process]",
        ["t.toml:1: [process] no process: at least one table [process.NAME] with nodes is needed"],
    ),
    "misspelt keys": (
        MESH + '[process.edge]\nnodes = ["alpha"]\ncuont = 2\n[node.alpha]\nlisen = "x"\nxyz = 1\n',
        [
            't.toml:5: [process.edge] unknown key "cuont"; did you mean "count"?',
            't.toml:7: [node.alpha] unknown key "lisen"; did you mean "listen"?',
            't.toml:8: [node.alpha] unknown key "xyz"; known: "limit", "listen", "secret"',
        ],
    ),
    "wrong types": (
        MESH + 'drain = "long"\n[process.edge]\nnodes = "alpha"\ncount = true\n[node.alpha]\nlimit = "5"\n',
        [
            "t.toml:3: [mesh] drain: expected float, got str",
            "t.toml:5: [process.edge] nodes: expected array, got str",
            "t.toml:6: [process.edge] count: expected int, got bool",
            "t.toml:8: [node.alpha] limit: expected int, got str",
        ],
    ),
    "wrong values": (
        MESH + 'log_level = "warn"\nlost_after = 0.7\nstats = "7190"\n'
        '[process.edge]\nnodes = ["alpha", "alpha"]\ncount = 0\n[node.alpha]\nlimit = 11\n',
        [
            't.toml:3: [mesh] log_level: unknown level "warn"; did you mean "warning"?',
            "t.toml:4: [mesh] lost_after: must be from two heartbeats (1) to 3600",
            't.toml:5: [mesh] stats: expected "IPv4:port" or "", got "7190"',
            't.toml:7: [process.edge] nodes: "alpha" stands there twice',
            "t.toml:8: [process.edge] count: must be from 1 to 256",
            "t.toml:10: [node.alpha] limit: must be at most 10",
        ],
    ),
    "no numbers": (
        MESH + 'heartbeat = nan\ndrain = inf\n[process.edge]\nnodes = ["alpha"]\n',
        ["t.toml:3: [mesh] heartbeat: must be from 0.01 to 60", "t.toml:4: [mesh] drain: must be from 0 to 3600"],
    ),
    "missing keys": (
        MESH
        + '[host.a]\n[process.edge]\ncount = 1\n[process.core]\nnodes = ["beta", "gamma"]\n[node.beta]\nratio = 1\n',
        [
            't.toml:3: [host.a] "address" is missing',
            't.toml:4: [process.edge] "nodes" is missing',
            't.toml:8: [node.beta] "size" is missing',
        ],
    ),
    "unknown tables": (
        'x = 1\n[meshh]\n[stoer]\nurl = "x"\n' + MESH + '[process.edge]\nnodes = ["alpha"]\n',
        [
            't.toml:1: unknown key "x" outside of all tables',
            "t.toml:2: [meshh] unknown table: no node of this topology reads it; did you mean [mesh]?",
            "t.toml:3: [stoer] unknown table: no node of this topology reads it; did you mean [store]?",
        ],
    ),
    "no tables": (
        "process = 2\nnode.alpha = 4\nhost = 5\n" + MESH,
        [
            't.toml:1: "process" must be a table',
            "t.toml:2: [node.alpha] must be a table",
            't.toml:3: "host" must be a table',
        ],
    ),
    "no table for the mesh": (
        'mesh = 1\n[process.edge]\nnodes = ["brokr"]\nhosts = "x"\n',
        [
            't.toml:1: "mesh" must be a table',
            't.toml:3: [process.edge] unknown node "brokr"; did you mean "broker"?',
            "t.toml:4: [process.edge] hosts: expected array, got str",
        ],
    ),
    "lists of tables": (
        MESH + '[[process.edge]]\nnodes = ["alpha"]\n[[process.edge]]\n',
        ["t.toml:3: [process.edge] must be a table"],
    ),
    "unknown nodes": (
        MESH + '[process.edge]\nnodes = ["alpa", "empty", "double"]\n[node.broken]\n[node.alpha]\nclass = "x"\n',
        [
            't.toml:4: [process.edge] unknown node "alpa"; did you mean "alpha"?',
            't.toml:4: [process.edge] unknown node "empty": module topology_test_nodes.empty defines no Node class',
            't.toml:4: [process.edge] node "double": module topology_test_nodes.double defines several Node classes '
            '(One, Two); set class = "topology_test_nodes.double:…"',
            "t.toml:5: [node.broken] module topology_test_nodes.broken cannot be imported: "
            "RuntimeError: no such device",
            't.toml:7: [node.alpha] class: expected "package.module:Class", got "x"',
        ],
    ),
    "unknown classes": (
        MESH + '[process.edge]\nnodes = ["a", "b", "c"]\n[node]\na.class = "topology_test_nodes.alpha:Alph"\n'
        'b.class = "no.such:X"\nc.class = "topology_test_nodes.alpha:AlphaSettings"\n',
        [
            't.toml:6: [node.a] class: no "Alph" in module topology_test_nodes.alpha; did you mean "Alpha"?',
            't.toml:7: [node.b] class: no module "no.such"',
            "t.toml:8: [node.c] class: topology_test_nodes.alpha:AlphaSettings is not a subclass of mesh.node.Node",
        ],
    ),
    "unknown package": (
        '[mesh]\npackage = "no_such"\n[process.edge]\nnodes = ["alpha"]\n',
        [
            't.toml:4: [process.edge] unknown node "alpha": there is no Python package "no_such" (see [mesh] package)',
        ],
    ),
    "a service that is not there": (
        MESH + '[process.edge]\nnodes = ["alpha"]\n[process.core]\nnodes = ["beta"]\n[node.beta]\nsize = 1\n',
        ['t.toml:6: [process.core] "beta" needs a node "gamma", and no process has one'],
    ),
    "names": (
        MESH + '[process."Edge 1"]\nnodes = ["alpha"]\n',
        ['t.toml:3: [process.Edge 1] "Edge 1" is no name: expected [a-z][a-z0-9_-]{0,30}'],
    ),
    "hosts": (
        MESH + f'[host.a]\naddress = "10.0.0.1"\npublic_key = "{KEY}"\n[host.b]\naddress = "example.org"\nport = 0\n'
        '[host.c]\naddress = "0.0.0.0"\npublic_key = "short"\n[process.edge]\nnodes = ["alpha"]\nhosts = ["d"]\n',
        [
            't.toml:7: [host.b] address: expected an IPv4 address, got "example.org"',
            "t.toml:8: [host.b] port: must be from 1 to 65535",
            "t.toml:10: [host.c] address: others must be able to connect to it, 0.0.0.0 is no such address",
            "t.toml:11: [host.c] public_key: expected 40 characters of Z85 as printed by `imesh keys`",
        ],
    ),
    "placement": (
        MESH + f'[host.a]\naddress = "10.0.0.1"\npublic_key = "{KEY}"\n[host.b]\naddress = "10.0.0.2"\n'
        f'public_key = "{KEY_B}"\n[process.edge]\nnodes = ["alpha"]\nhosts = ["c"]\n'
        '[process.core]\nnodes = ["alpha"]\n',
        [
            't.toml:11: [process.edge] unknown host "c"; known: "a", "b"',
            't.toml:12: [process.core] "hosts" is missing, and there are several: a, b',
        ],
    ),
    "keys": (
        MESH + f'[host.a]\naddress = "10.0.0.1"\npublic_key = "{KEY}"\n[host.b]\naddress = "10.0.0.2"\n'
        f'public_key = "{KEY}"\n[host.c]\naddress = "10.0.0.3"\n'
        '[process.edge]\nnodes = ["alpha"]\nhosts = ["a"]\n[store]\nurl = "x"\n',
        [
            "t.toml:8: [host.b] is also the key of [host.a]",
            't.toml:9: [host.c] "public_key" is missing: links leave the machine (try: imesh keys c)',
        ],
    ),
    "a key where one host is open": (
        MESH + '[host.a]\naddress = "10.0.0.1"\n[process.edge]\nnodes = ["alpha"]\n',
        ['t.toml:3: [host.a] "public_key" is missing: links leave the machine (try: imesh keys a)'],
    ),
    "ports that two want": (
        MESH + f'stats = "0.0.0.0:7202"\n[host.a]\naddress = "10.0.0.1"\nport = 7200\npublic_key = "{KEY}"\n'
        '[process.edge]\nnodes = ["alpha"]\ncount = 2\n',
        [
            "t.toml:6: [host.a] tcp://10.0.0.1:7202 for calls of edge-2 is taken by stats of edge-1 ([mesh] line 3)",
        ],
    ),
    "hosts on one machine": (
        MESH + f'stats = ""\n[host.a]\naddress = "127.0.0.1"\npublic_key = "{KEY}"\n[host.b]\naddress = "127.0.0.1"\n'
        f'port = 7201\npublic_key = "{KEY_B}"\n[process.edge]\nnodes = ["alpha"]\nhosts = ["a", "b"]\n'
        '[store]\nurl = "x"\n',
        [
            "t.toml:9: [host.b] tcp://127.0.0.1:7201 for calls of edge-2 is taken by publications of edge-1 "
            "([host.a] line 4)",
        ],
    ),
    "ports that do not exist": (
        MESH + 'stats = "127.0.0.1:65535"\n[process.edge]\nnodes = ["alpha"]\ncount = 3\n',
        ["t.toml:3: [mesh] stats of edge-2 would need port 65536, above 65535"],
    ),
    "what the project checks": (
        MESH + f'[host.a]\naddress = "10.0.0.1"\npublic_key = "{KEY}"\n[host.b]\naddress = "10.0.0.2"\n'
        f'public_key = "{KEY_B}"\n[process.edge]\nnodes = ["alpha"]\nhosts = ["a"]\n[store]\nurl = "embedded"\n',
        ["t.toml:13: [store] url: embedded works on one host only"],
    ),
}


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with node_package(tmp_path_factory.mktemp("kinds")):
        yield


def problems(directory: Path, text: str, environ: dict[str, str]) -> list[str]:
    path = directory / "t.toml"
    path.write_text(text)
    before = list(sys.path)
    with pytest.raises(TopologyError) as caught:
        load(path, environ=environ)
    sys.path[:] = before
    return str(caught.value).replace(f"{path}:", "t.toml:").splitlines()


@pytest.mark.parametrize("case", BROKEN)
def test_every_problem_is_told_at_its_line(case: str, tmp_path: Path) -> None:
    text, expected = BROKEN[case]
    *lines, total = problems(tmp_path, text, {})
    assert lines == expected
    assert total == f"{len(expected)} problem{'s' if len(expected) > 1 else ''}, nothing was started."


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"t.toml: cannot be read: No such file or directory"):
        load(tmp_path / "t.toml", environ={})
    (tmp_path / "t.toml").write_bytes(b"[mesh]\nname = '\xff'\n")
    with pytest.raises(TopologyError, match=r"t.toml:2: not UTF-8 text"):
        load(tmp_path / "t.toml", environ={})


def test_problems_of_the_environment(tmp_path: Path) -> None:
    text = MESH + '[process.edge]\nnodes = ["alpha"]\n[node.alpha]\nlimit = "x"\n'
    environ = {
        "IMESH_NODE_ALPHA_LIMIT": "11",
        "IMESH_NODE_ALPA_LIMIT": "1",
        "IMESH_STORE_SHARD": "1",
        "IMESH_STORE_SHARDS": "many",
        "IMESH_DATA": str(tmp_path),
        "HOME": "/",
    }
    assert problems(tmp_path, text, environ)[:-1] == [
        "environment: IMESH_NODE_ALPA_LIMIT: unknown variable; did you mean IMESH_NODE_ALPHA_…?",
        "environment: IMESH_STORE_SHARD: unknown variable; did you mean IMESH_STORE_SHARDS?",
        "environment: IMESH_NODE_ALPHA_LIMIT: limit: must be at most 10",
        "environment: IMESH_STORE_SHARDS: shards: expected int, got str",
    ]


KEYS = st.sampled_from(
    [
        "mesh.name", "mesh.drain", "mesh.stats", "mesh.log_level", "mesh.heartbeat", "process.edge.nodes",
        "process.edge.count", "process.edge.hosts", "process.edge", "process", "host.a.address", "host.a.port",
        "host.a.public_key", "host.b.address", "host.a", "host", "node.alpha.limit", "node.alpha.class", "node.alpha",
        "node", "store.shards", "store", '"".x', "x.y.z",
    ]
)  # fmt: skip
VALUES = st.sampled_from(
    [
        "1", "-1", "70000", "1.5", "nan", "true", '""', '"alpha"', '"10.0.0.1"', '"127.0.0.1:65535"', "[]", "[1]",
        '["alpha"]', "{}", "{ a = {} }", "1979-05-27", '"\\u0000"', "[[]]", '[""]', '["a.b"]',
    ]
)  # fmt: skip


@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_whatever_stands_there_is_told_and_never_crashes(statements: dict[str, str]) -> None:
    # Dotted keys that contradict each other are no TOML, which is told as well.
    text = 'mesh.package = "topology_test_nodes"\n' + "".join(f"{key} = {value}\n" for key, value in statements.items())
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "t.toml"
        path.write_text(text)
        before = list(sys.path)
        try:
            load(path, environ={})
        except TopologyError as error:
            assert error.problems
            assert all(problem.line is None or problem.line <= text.count("\n") for problem in error.problems)
        finally:
            sys.path[:] = before
