"""`imesh apikey`: keys of the HTTP API of a running system."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime

from cli.user import call, running
from mesh.cli import Subparsers, add_command, add_topology_options

FIELDS = ("id", "name", "scopes", "created", "expires", "per_second")


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    examples = (
        "  imesh apikey create shop --scope messages:write --scope users:read\n"
        "  imesh apikey create nightly --days 30\n  imesh apikey list\n  imesh apikey revoke 3f0k9a1c7b2e"
    )
    parser = add_command(subparsers, "apikey", "keys of the HTTP API of a running system", examples)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    create = actions.add_parser("create", help="make a key and show it this once")
    create.add_argument("name", metavar="NAME", help="whose it is, for people")
    create.add_argument("--scope", action="append", metavar="SCOPE", help="what it may do (default: everything)")
    create.add_argument("--days", type=float, default=0, metavar="N", help="how long it is good (default: for ever)")
    create.add_argument("--rate", type=float, default=0, metavar="N", help="requests per second (default: as for all)")
    create.set_defaults(run=_create)

    listing = actions.add_parser("list", help="all keys, oldest first, without their secrets")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(run=_list)

    revoke = actions.add_parser("revoke", help="end a key, within a second")
    revoke.add_argument("id", metavar="ID")
    revoke.set_defaults(run=_revoke)
    for action in (create, listing, revoke):
        add_topology_options(action)


def _create(options: argparse.Namespace) -> int:
    scopes = options.scope or ["*"]
    print(call(running(options), "http.create_key", options.name, scopes, int(options.days * 86_400), options.rate))
    return 0


def _list(options: argparse.Namespace) -> int:
    found = call(running(options), "http.list_keys")
    if options.json:
        print(json.dumps([dict(zip(FIELDS, row, strict=True)) for row in found], indent=2))
        return 0
    for key_id, name, scopes, created, expires, _ in found:
        until = _date(expires) if expires else "for ever"
        print(f"{key_id}  {_date(created)}  until {until}  {name}: {', '.join(scopes)}")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    if not call(running(options), "http.revoke_key", options.id):
        print(f"imesh: there is no key {options.id}", file=sys.stderr)
        return 1
    print(f"{options.id} is no key any more")
    return 0


def _date(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"
