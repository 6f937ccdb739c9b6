"""The table [push] of the topology: policy, texts, and the apps with their vendors.

[push.app.main]                   an app, by a name of ours
package = "org.example.chat"      its package or bundle id

[push.app.main.apns]              a vendor of it; keys as in push/vendors/apns.py
key = "file:secrets/AuthKey.p8"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from mesh.errors import ConfigError
from mesh.problems import suggest
from mesh.topology import NAME, Topology
from push.outlet import Outlet
from push.secret import read_secret
from push.vendor import App, VendorSettings
from push.vendors import all_vendors

ALL, MENTIONS, DIGEST, OFF = "all", "mentions", "digest", "off"
SILENT = "silent"
DEVELOPMENT: dict[str, dict[str, Any]] = {"main": {"log": {}}}
"""The apps of a topology that names none."""


class PushSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When pushes are sent, and what they say. Texts may hold {sender}, {group}, {content} and {count}."""

    rest: float = 2.0
    """Seconds that a message rests before it is pushed: whoever is online reads it meanwhile."""
    ttl: int = 86_400
    """Seconds after which a push is worth nothing any more."""
    burst: float = 5.0
    """Seconds after a push in which more messages of that session are gathered into one summary."""
    computer_online: bool = True
    """Whether pushes go to the phones of a user who is online, but with a computer only."""
    quiet_hours: str = "silent"
    """In the quiet hours of a device, pushes are "silent" or "off"."""
    large_group: int = 500
    """A group of more members is large."""
    large_group_policy: str = "mentions"
    """What is pushed of large groups: "all" messages, "mentions" only, a "digest" now and then, or "off"."""
    digest: float = 600.0
    """Seconds between two digests of a large group."""
    revoked: str = "replace"
    """When a message that was pushed is revoked: "replace" its notification, or "off"."""
    hide_content: bool = False
    """True: pushes never say what a message says."""
    title: str = "{sender}"
    """Title for messages of single chats and notices."""
    body: str = "{content}"
    """Their text."""
    group_title: str = "{group}"
    """Title for messages of groups."""
    group_body: str = "{sender}: {content}"
    """Their text."""
    summary: str = "{count} new messages"
    """Text that stands for several."""
    other: str = "New message"
    """Stands for content that is not shown: what is no text, and all with hide_content."""
    withdrawn: str = "The message was withdrawn"
    """Text in place of a revoked one."""
    records: int = 100_000
    """Records of pushes that are kept of each app and vendor, about."""
    app: dict[str, dict[str, Any]] = {}
    """The apps; none: one for development, whose only vendor is the log."""

    def problems(self) -> Iterator[tuple[str, str]]:
        choices = {
            "quiet_hours": (SILENT, OFF), "revoked": ("replace", OFF),
            "large_group_policy": (ALL, MENTIONS, DIGEST, OFF),
        }  # fmt: skip
        for key, known in choices.items():
            if getattr(self, key) not in known:
                yield key, f"must be one of {', '.join(known)}, not {getattr(self, key)!r}"
        ranges = {"rest": (0, 60), "ttl": (60, 28 * 86_400), "burst": (0, 60), "digest": (1, 86_400)}
        for key, (least, most) in ranges.items():
            if not least <= getattr(self, key) <= most:
                yield key, f"must be from {least} to {most}"
        if self.large_group < 0:
            yield "large_group", "must be at least 0"
        if not 0 <= self.records <= 10_000_000:
            yield "records", "must be from 0 to 10000000"

    @classmethod
    def check(cls, topology: Topology) -> Iterator[tuple[str, str, str]]:
        """What is wrong with the apps and their vendors."""
        packages: dict[str, str] = {}
        for name, table in topology.section("push").app.items():
            where = f"push.app.{name}"
            if not NAME.fullmatch(name):
                yield where, "", f'"{name}" is no name: expected {NAME.pattern}'
            package = table.get("package", "")
            if not isinstance(package, str):
                yield where, "package", "expected str"
            elif packages.setdefault(package, name) != name:
                yield where, "package", f"is also that of [push.app.{packages[package]}]"
            for vendor, values in table.items():
                if vendor == "package":
                    continue
                if vendor not in all_vendors():
                    yield where, vendor, "unknown vendor" + suggest(vendor, all_vendors())
                elif not isinstance(values, dict):
                    yield where, vendor, "must be a table"
                else:
                    yield from _problems(f"{where}.{vendor}", values, all_vendors()[vendor].Settings)

    def packages(self) -> dict[str, str]:
        """Package -> name of the app."""
        return {str(table.get("package", "")): name for name, table in (self.app or DEVELOPMENT).items()}

    def outlets(self, directory: Path) -> list[Outlet]:
        """Every app at every vendor of it; files are looked for from `directory` on. Raises `ConfigError`."""
        found = []
        for name, table in (self.app or DEVELOPMENT).items():
            app = App(name, str(table.get("package", "")))
            for vendor, values in table.items():
                if vendor != "package":
                    found.append(_outlet(app, vendor, values, directory))
        return found


def _problems(where: str, values: dict[str, Any], struct: type[VendorSettings]) -> Iterator[tuple[str, str, str]]:
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    wrong = False
    for key in values:
        if key not in fields:
            wrong = True
            yield where, key, "unknown key" + suggest(key, fields)
    for key, field in fields.items():
        if key in values:
            try:
                msgspec.convert(values[key], field.type)
            except msgspec.ValidationError as error:
                wrong = True
                yield where, key, str(error).partition(" - at ")[0].replace("`", "")
        elif field.required:
            wrong = True
            yield where, "", f'"{key}" is missing'
    if not wrong:
        for key, text in msgspec.convert(values, struct).problems():
            yield where, key, text


def _outlet(app: App, vendor: str, values: dict[str, Any], directory: Path) -> Outlet:
    kind = all_vendors()[vendor]
    settings = msgspec.convert(values, kind.Settings)
    if settings.ca_file:
        settings = msgspec.structs.replace(settings, ca_file=str(directory / settings.ca_file))
    secret: Callable[[str], str] = lambda value: read_secret(value, directory)  # noqa: E731
    try:
        return Outlet(kind(app, settings, secret))
    except ValueError as error:
        raise ConfigError(f"[push.app.{app.name}.{vendor}] {error}") from None
