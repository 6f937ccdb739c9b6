"""`imesh webhook`: other systems that are told of events."""

from __future__ import annotations

import argparse
import json
import sys

from cli.user import call, running
from mesh.cli import Subparsers, add_command, add_topology_options

FIELDS = ("name", "url", "events", "waiting", "trouble")


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    examples = "  imesh webhook list\n  imesh webhook secret shop\n  imesh webhook test shop"
    parser = add_command(subparsers, "webhook", "other systems that are told of events", examples)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="the endpoints of the topology, and how they do")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(run=_list)

    secret = actions.add_parser("secret", help="show what requests to an endpoint are signed with")
    secret.set_defaults(run=_secret)
    test = actions.add_parser("test", help="send an endpoint a signed event that means nothing")
    test.set_defaults(run=_test)
    for action in (secret, test):
        action.add_argument("name", metavar="NAME", help="of the topology, or message.before_send")
    for action in (listing, secret, test):
        add_topology_options(action)


def _list(options: argparse.Namespace) -> int:
    found = call(running(options), "hooks.endpoints")
    if options.json:
        print(json.dumps([dict(zip(FIELDS, row, strict=True)) for row in found], indent=2))
        return 0
    for name, url, events, waiting, trouble in found:
        print(f"{name}  {url}  {', '.join(events)}: {trouble or 'well'}, {waiting} under way")
    if not found:
        print("nobody is told: name somebody in [hooks.endpoint.NAME]", file=sys.stderr)
    return 0


def _secret(options: argparse.Namespace) -> int:
    print(call(running(options), "hooks.secret_of", options.name))
    return 0


def _test(options: argparse.Namespace) -> int:
    event_id, trouble, took = call(running(options), "hooks.test", options.name)
    if trouble:
        print(f"imesh: {event_id} was not taken: {trouble} ({took:g} ms)", file=sys.stderr)
        return 1
    print(f"{event_id} was taken ({took:g} ms)")
    return 0
