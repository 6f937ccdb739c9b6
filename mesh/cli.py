"""The command line. Exit codes: 0 done, 1 failed, 2 wrong usage or a wrong topology, 130 interrupted.

Other packages add commands through the entry point group `mesh.commands`: each entry is a function
`register(subparsers)` that adds a parser with `set_defaults(run=function of the parsed arguments -> exit code)`. For a
command that needs the topology there are `add_topology_options` and `load_topology`. They are loaded only when none of
the commands here is asked for: processes of the mesh start through this file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesh.errors import ConfigError, MeshError

if TYPE_CHECKING:
    from mesh.topology import Topology

PROGRAM = "imesh"
DEFAULT_TOPOLOGY = "topology.toml"
COMMANDS = "mesh.commands"
"""Entry point group of further commands."""
OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
CALL_SECONDS = 10.0

Subparsers = Any  # argparse gives its type no public name

EPILOG = f"""\
Without a topology, {DEFAULT_TOPOLOGY} in the current directory is used. Data are kept in `data` beside it, unless
--data or IMESH_DATA names another directory. Any key of the topology can be given in the environment:
IMESH_<TABLE>_<KEY>, for example IMESH_MESH_LOG_LEVEL=debug.

exit codes: 0 done, 1 failed, 2 wrong usage or a wrong topology, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Errors that people can act on become one message on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = make_parser(arguments).parse_args(arguments)
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; without this, the interpreter would complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ConfigError as error:
        print(error, file=sys.stderr)
        return WRONG
    except MeshError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return FAILED


def make_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; with the commands of other packages when `arguments` name none of ours."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="Run and ask a mesh of nodes.",
        epilog=EPILOG,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_up, _add_check, _add_run, _add_keys, _add_status, _add_call, _add_stacks):
        add(subparsers)
    if not arguments or arguments[0] not in {*subparsers.choices, "--version"}:
        from importlib import metadata

        for entry in metadata.entry_points(group=COMMANDS):
            try:
                entry.load()(subparsers)
            except ImportError as error:
                print(f"{PROGRAM}: the command {entry.name} is not available: {error}", file=sys.stderr)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        print(f"{PROGRAM} {metadata.version(PROGRAM)}")
        parser.exit()


# ---- the topology


def add_command(subparsers: Subparsers, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    """A parser with a help text of the common form. `examples` is a block of lines."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.", epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    return parser


def add_topology_options(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """What `load_topology` reads: the file, as an option or as the last argument, and --data."""
    text = f"topology file (default: {DEFAULT_TOPOLOGY} in the current directory)"
    if positional:
        parser.add_argument("topology", nargs="?", metavar="FILE", help=text)
    else:
        parser.add_argument("--topology", metavar="FILE", help=text)
    parser.add_argument(
        "--data", metavar="DIR", help="data directory (default: IMESH_DATA, else `data` beside the file)"
    )


def load_topology(options: argparse.Namespace) -> Topology:
    """The topology that the options name. Raises `ConfigError`."""
    from mesh.topology import load

    path = Path(options.topology or DEFAULT_TOPOLOGY)
    if options.topology is None and not path.exists():
        raise ConfigError(f"no {DEFAULT_TOPOLOGY} in {Path.cwd()}: name a topology file, or change the directory")
    return load(path, options.data)


# ---- commands


def _add_up(subparsers: Subparsers) -> None:
    examples = "  imesh up\n  imesh up topologies/two-hosts.toml --host edge --data /var/lib/imesh"
    parser = add_command(subparsers, "up", "start everything that the topology places on this host", examples)
    add_topology_options(parser, positional=True)
    parser.add_argument("--host", metavar="NAME", help="which host of the topology this is (default: see its keys)")
    parser.set_defaults(run=_up)


def _up(options: argparse.Namespace) -> int:
    from mesh.launcher import up

    return up(load_topology(options), options.host)


def _add_check(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "check", "report every mistake in a topology", "  imesh check topology.toml")
    add_topology_options(parser, positional=True)
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    topology = load_topology(options)
    print(f"{topology.path} is right: {len(topology.processes)} processes")
    for spec in topology.processes.values():
        print(f"  {spec.name:<10} on {spec.host}: {', '.join(spec.nodes)}")
    return OK


def _add_run(subparsers: Subparsers) -> None:
    examples = "  imesh run edge-1\n\nUsually `imesh up` does this, and watches the process."
    parser = add_command(subparsers, "run", "run one process of the topology in the foreground", examples)
    parser.add_argument("process", metavar="PROCESS", help="name, for example edge-1")
    add_topology_options(parser, positional=True)
    parser.add_argument("--watch-stdin", action="store_true", help="drain when stdin ends: the launcher is gone")
    parser.add_argument("--ready-fd", type=int, metavar="N", help="descriptor to write `ready` to")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    topology = load_topology(options)
    from mesh import directories, process

    directories.make_data_dir(topology.data_dir)
    directories.make_run_dir(topology)
    return process.run(topology, options.process, watch_stdin=options.watch_stdin, ready_fd=options.ready_fd)


def _add_keys(subparsers: Subparsers) -> None:
    examples = "  imesh keys edge work --dir keys\n\nCopy each NAME.key to <data>/keys/ of its host, and nowhere else."
    parser = add_command(subparsers, "keys", "make CURVE keys for the hosts of a topology", examples)
    parser.add_argument("hosts", nargs="+", metavar="HOST")
    parser.add_argument("--dir", default="keys", metavar="DIR", help="where the secret keys go (default: keys)")
    parser.add_argument("--force", action="store_true", help="replace keys that are there")
    parser.set_defaults(run=_keys)


def _keys(options: argparse.Namespace) -> int:
    from mesh.keys import make_keys

    print("\n".join(make_keys(options.hosts, Path(options.dir), options.force)))
    return OK


def _add_status(subparsers: Subparsers) -> None:
    examples = "  imesh status\n  imesh status --json"
    parser = add_command(subparsers, "status", "show processes, nodes, links and endpoints of a running mesh", examples)
    add_topology_options(parser, positional=True)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_status)


def _status(options: argparse.Namespace) -> int:
    topology = require_running(load_topology(options))
    from mesh import control

    return control.status(topology, options.json)


def _add_call(subparsers: Subparsers) -> None:
    examples = "  imesh call echo.say hello\n  imesh call echo.add 1 2 --timeout 3"
    parser = add_command(subparsers, "call", "call a method of a node in a running mesh", examples)
    parser.add_argument("method", metavar="SERVICE.METHOD")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="JSON; what is no JSON is taken as a text")
    parser.add_argument("--timeout", type=float, default=CALL_SECONDS, metavar="SECONDS", help="default: 10")
    add_topology_options(parser)
    parser.set_defaults(run=_call)


def _call(options: argparse.Namespace) -> int:
    service, dot, method = options.method.partition(".")
    if not (service and dot and method):
        raise ConfigError(f"expected SERVICE.METHOD, got {options.method}")
    topology = require_running(load_topology(options))
    from mesh import control

    return control.call_command(topology, options.method, [_json(text) for text in options.arguments], options.timeout)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _add_stacks(subparsers: Subparsers) -> None:
    examples = "  imesh stacks edge-1"
    parser = add_command(subparsers, "stacks", "show what every greenlet of a running process does", examples)
    parser.add_argument("process", metavar="PROCESS", help="name, for example edge-1")
    add_topology_options(parser)
    parser.set_defaults(run=_stacks)


def _stacks(options: argparse.Namespace) -> int:
    topology = load_topology(options)
    if options.process not in topology.processes:
        raise ConfigError(f'no process "{options.process}"; there are: {", ".join(topology.processes)}')
    require_running(topology)
    from mesh import control

    return control.stacks(topology, options.process)


def require_running(topology: Topology) -> Topology:
    """Raise `MeshError` when nothing of it can be running. From now on, only errors of this client are logged."""
    from mesh import directories
    from mesh.log import configure

    configure(PROGRAM, "error")
    directories.check_run_dir(topology)
    if not topology.secure and not directories.nodes_running(topology.run_dir):
        raise MeshError(f"nothing runs with data in {topology.data_dir}: start it with `{PROGRAM} up`, or see --data")
    return topology
