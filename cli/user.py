"""`imesh user`: accounts and tokens of a running system."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from datetime import UTC, datetime
from typing import Any

from mesh.cli import Subparsers, add_command, add_topology_options, load_topology, require_running
from mesh.errors import AppError, MeshError
from mesh.topology import Topology

PAGE = 1000
CALL_SECONDS = 10.0
AUDITED = ("id", "time", "who", "action", "session", "device", "address")


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    examples = (
        "  imesh user add alice\n  imesh user list --json\n  imesh user token alice --seconds 3600\n"
        "  imesh user disable alice\n  imesh user audit --count 20\n  imesh user erase alice"
    )
    parser = add_command(subparsers, "user", "accounts and tokens of a running system", examples)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    add = actions.add_parser("add", help="make an account with a password (for auth.mode = \"password\")")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--replace", action="store_true", help="change the password of an account that is there")
    add.set_defaults(run=_add)

    listing = actions.add_parser("list", help="all accounts, oldest first")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(run=_list)

    token = actions.add_parser("token", help="a signed token to log in with (for auth.mode = \"token\")")
    token.add_argument("name", metavar="NAME")
    token.add_argument("--seconds", type=int, default=3600, help="how long it is good for (default: 3600)")
    token.set_defaults(run=_token)

    disable = actions.add_parser("disable", help="let a user log in no more, and cut his connections at once")
    enable = actions.add_parser("enable", help="let a disabled user log in again")
    for action, disabled in ((disable, True), (enable, False)):
        action.add_argument("name", metavar="NAME")
        action.set_defaults(run=_disable, disabled=disabled)

    erase = actions.add_parser("erase", help="delete all data of a user, for ever; it goes on when this is stopped")
    erase.add_argument("name", metavar="NAME")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    erase.set_defaults(run=_erase)

    kick = actions.add_parser("kick", help="cut a user's connections; he may log in again")
    kick.add_argument("name", metavar="NAME")
    kick.add_argument("--device-type", type=int, default=0, help="of this device type only (default: all)")
    kick.set_defaults(run=_kick)

    audit = actions.add_parser("audit", help="who listened to sessions of others, newest first")
    audit.add_argument("--count", type=int, default=100, metavar="N", help="how many entries (default: 100)")
    audit.add_argument("--json", action="store_true", help="for programs")
    audit.set_defaults(run=_audit)
    for action in (add, listing, token, disable, enable, erase, kick, audit):
        add_topology_options(action)


def running(options: argparse.Namespace) -> Topology:
    """The topology of a system that runs here. Raises `MeshError`."""
    return require_running(load_topology(options))


def call(topology: Topology, method: str, *args: Any) -> Any:
    """Call a method of a node. Raises `MeshError` with the text of a refusal."""
    from mesh.control import call_method

    try:
        return call_method(topology, method, list(args), CALL_SECONDS)
    except AppError as error:
        raise MeshError(error.text) from None


def _add(options: argparse.Namespace) -> int:
    topology = running(options)
    if sys.stdin.isatty():
        try:
            password = getpass.getpass(f"password of {options.name}: ")
            again = getpass.getpass("once more: ")
        except EOFError:
            return 1
        if again != password:
            print("imesh: the two passwords differ; nothing was done", file=sys.stderr)
            return 1
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not call(topology, "user.add_account", options.name, password, options.replace):
        print(f"imesh: {options.name} exists already; --replace changes the password", file=sys.stderr)
        return 1
    print(f"{options.name} can log in")
    return 0


def _list(options: argparse.Namespace) -> int:
    topology = running(options)
    found: list[tuple[str, int]] = []
    while True:
        page = call(topology, "user.accounts", len(found), PAGE)
        found += page
        if len(page) < PAGE:
            break
    if options.json:
        print(json.dumps([{"user": user, "created": created} for user, created in found], indent=2))
        return 0
    for user, created in found:
        print(f"{datetime.fromtimestamp(created / 1000, UTC):%Y-%m-%d %H:%M}  {user}")
    if not found:
        print("no accounts", file=sys.stderr)
    return 0


def _token(options: argparse.Namespace) -> int:
    print(call(running(options), "user.token", options.name, options.seconds))
    return 0


def _disable(options: argparse.Namespace) -> int:
    if not call(running(options), "user.disable", options.name, options.disabled):
        print(f"imesh: there is no account {options.name}", file=sys.stderr)
        return 1
    print(f"{options.name} is disabled" if options.disabled else f"{options.name} can log in")
    return 0


def _erase(options: argparse.Namespace) -> int:
    from cli import erasure

    topology, name = running(options), options.name
    if not options.yes:
        if not sys.stdin.isatty():
            raise MeshError("this cannot be undone, and nobody is here to be asked: --yes says that it is meant")
        try:
            typed = input(f"All data of {name} will be deleted for ever. His name once more: ")
        except EOFError:
            typed = ""
        if typed != name:
            print("imesh: nothing was done", file=sys.stderr)
            return 1
    done = erasure.erase(topology, name)
    print(f"{name} is erased: {done.messages:,} messages, {done.notices:,} notices, {done.groups:,} groups, "
          f"{done.friends:,} friends")  # fmt: skip
    return 0


def _kick(options: argparse.Namespace) -> int:
    if not call(running(options), "user.kick", options.name, options.device_type):
        print(f"imesh: {options.name} has never logged in so", file=sys.stderr)
        return 1
    print(f"{options.name} was kicked out")
    return 0


def _audit(options: argparse.Namespace) -> int:
    topology = running(options)
    found: list[list[Any]] = []
    while len(found) < options.count:
        wanted = min(PAGE, options.count - len(found))
        page = call(topology, "history.audit", found[-1][0] if found else "", wanted)
        found += page
        if len(page) < wanted:
            break
    if options.json:
        print(json.dumps([dict(zip(AUDITED, row, strict=True)) for row in found], indent=2))
        return 0
    for _, time, who, action, session, device, address in found:
        print(f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%d %H:%M:%S}  {action:<5}  {who}  {session}  "
              f"({device} at {address})")  # fmt: skip
    if not found:
        print("nobody listened to sessions of others", file=sys.stderr)
    return 0
