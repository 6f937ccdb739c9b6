"""`imesh push`: pushes of a running system."""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

from mesh.cli import Subparsers, add_command, add_topology_options, load_topology, require_running
from mesh.errors import AppError, MeshError

CALL_SECONDS = 10.0
RECORD = ("id", "time", "user", "session", "seq", "app", "vendor", "device", "outcome", "reason", "vendor_id", "tries",
          "waited")  # fmt: skip


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    examples = (
        '  imesh push test alice\n  imesh push test alice --title Hello --body "How are you?" --url app://chat/bob\n'
        "  imesh push preview alice\n  imesh push list alice\n  imesh push records main apns --user alice --count 20"
    )
    parser = add_command(subparsers, "push", "pushes to phones, of a running system", examples)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    test = actions.add_parser("test", help="push to all devices of a user, online or not")
    preview = actions.add_parser("preview", help="show the calls to vendors that `test` would make")
    for action, run in ((test, _test), (preview, _preview)):
        action.add_argument("user", metavar="USER")
        action.add_argument("--title", default="Test", help="default: Test")
        action.add_argument("--body", default="This is a test.", metavar="TEXT", help="default: This is a test.")
        action.add_argument("--url", default="", help="what a tap opens")
        action.add_argument("--badge", type=int, default=-1, metavar="N", help="default: what the user has not read")
        action.add_argument("--extra", default="", metavar="JSON", help="an object for the app")
        action.set_defaults(run=run)

    listing = actions.add_parser("list", help="the devices of a user that take pushes")
    listing.add_argument("user", metavar="USER")
    listing.set_defaults(run=_list)

    records = actions.add_parser("records", help="what became of pushes, newest first")
    records.add_argument("app", metavar="APP", help="an app of the topology, by its name there")
    records.add_argument("vendor", metavar="VENDOR", help="apns, fcm, …")
    records.add_argument("--count", type=int, default=50, metavar="N", help="how many (default: 50)")
    records.add_argument("--user", default="", help="only his")
    records.set_defaults(run=_records)
    for action in (preview, listing, records):
        action.add_argument("--json", action="store_true", help="for programs")
    for action in (test, preview, listing, records):
        add_topology_options(action)


def _call(options: argparse.Namespace, method: str, *args: Any) -> Any:
    from mesh.control import call_method

    topology = require_running(load_topology(options))
    try:
        return call_method(topology, method, list(args), CALL_SECONDS)
    except AppError as error:
        raise MeshError(error.text) from None


def _info(options: argparse.Namespace) -> list[Any]:
    pack_id = f"test-{uuid.uuid4().hex[:16]}"
    return [pack_id, options.user, options.badge, options.title, options.body, options.url, options.extra]


def _test(options: argparse.Namespace) -> int:
    count = _call(options, "push.push_message", _info(options))
    if not count:
        print(f"imesh: no device of {options.user} takes pushes now", file=sys.stderr)
        return 1
    print(f"queued for {count} device{'s' if count != 1 else ''} of {options.user}")
    return 0


def _preview(options: argparse.Namespace) -> int:
    found = _call(options, "push.preview", _info(options))
    rows = [
        {"vendor": vendor, "device": device, "path": path, "headers": dict(headers), "body": _text(body)}
        for vendor, device, path, headers, body in found
    ]
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    for row in rows:
        print(f"{row['vendor']}  device {row['device']}\nPOST {row['path']}")
        for key, value in row["headers"].items():
            print(f"{key}: {value}")
        print(f"\n{row['body']}\n")
    if not rows:
        print(f"imesh: no device of {options.user} takes pushes now", file=sys.stderr)
    return 0 if rows else 1


def _text(body: Any) -> str:
    """Bytes come as base64."""
    import base64

    return base64.b64decode(body).decode(errors="replace")


def _list(options: argparse.Namespace) -> int:
    names = ("vendor", "package", "app_version", "device_type", "device", "registered", "quiet_hours", "utc_offset")
    found = _call(options, "push.registrations", options.user)
    if options.json:
        print(json.dumps([dict(zip(names, row, strict=True)) for row in found], indent=2))
        return 0
    for vendor, package, version, kind, device, registered, quiet, _ in found:
        print(f"{_time(registered)}  {vendor:<7} {package or '-'} {version or '-'}  device {device} (type {kind})"
              f"{'  quiet ' + quiet if quiet else ''}")  # fmt: skip
    if not found:
        print("no device takes pushes", file=sys.stderr)
    return 0


def _records(options: argparse.Namespace) -> int:
    asked = options.app, options.vendor, "", options.count, options.user
    found = _call(options, "push.records", *asked)[: options.count]
    if options.json:
        print(json.dumps([dict(zip(RECORD, row, strict=True)) for row in found], indent=2))
        return 0
    for _, time, user, session, _, _, _, device, outcome, reason, _, tries, waited in found:
        print(
            f"{_time(time)}  {outcome:<12} {user} {device}  {session or '-'}  {reason or '-'}  try {tries}, {waited} ms"
        )
    if not found:
        print("no records", file=sys.stderr)
    return 0


def _time(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}"
