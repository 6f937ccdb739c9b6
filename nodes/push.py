"""The push node: where pushes for users go, and sending them.

push_feed.py         from the log to notices: rest, bursts, revocations
push_missed.py       what came while a connection was dead without anybody knowing
push_recipients.py   from notices to devices and queues
push_sender.py       from the queue of an outlet to its vendor
push_text.py         what a push says
push_settings.py     the table [push]
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import gevent
import msgspec

from mesh.errors import AppError
from mesh.loop import now
from nodes import hot
from nodes.contracts import Previewed, Push, PushInfo, PushRecord, RegInfo, Registered
from nodes.contracts_statistics import Statistics
from nodes.devices import require_user
from nodes.happenings import Happenings
from nodes.outcomes import Outcomes
from nodes.packs import Item, PackNode, handles
from nodes.push_entries import Note, Target, decode_record
from nodes.push_feed import Feed
from nodes.push_missed import Missed
from nodes.push_recipients import Recipients
from nodes.push_sender import Sender
from nodes.push_settings import PushSettings
from packs.codes import Code
from packs.ids import is_device_id, is_pack_id
from packs.structs import SUCCESS, CommonErrorCode
from packs.structs_social import PushRegistration, PushRegistrationsResp
from packs.table import PUSH_REGISTER, PUSH_REGISTRATIONS_GET, PUSH_UNREGISTER
from push.model import Verdict
from push.text import key_of
from store import log
from store.registrations import Registration

VERSION_MAX = 64
TEXT_MAX = 4000
RECORDS_MAX = 1000
RECORDS_READ = 100
RECORDS_SECONDS = 2.0
"""How long is looked for those of one user."""
DRAIN_SECONDS = 5.0
DEVICE_TYPES = range(16)
_QUIET = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class PushNode(PackNode, Push):
    """Pushing to phones."""

    sections = {**hot.SECTIONS, "push": PushSettings}
    publishes = True  # nothing: but so it sees who is there
    background = True
    olap: Statistics | None

    def start(self) -> None:
        settings: PushSettings = self.section("push")
        self._store = hot.opened(self.process)
        self._packages = settings.packages()
        self._settings = settings
        self._senders: dict[tuple[str, str], Sender] = {}
        self._happenings = Happenings(self.process)
        for outlet in settings.outlets(self.process.topology.path.parent):
            app, vendor = outlet.vendor.app.name, outlet.vendor.name
            queue = self._store.outgoing(outlet.name, self.process.name, settings.records)
            forget = self._store.registrations.forget
            sender = Sender(outlet, queue, self._store.unread, self.stats, self.log, forget, self._failed)
            self._senders[app, vendor] = sender
            self._gauges(f"push.{app}.{vendor}", sender)
        alone = len(self.process.topology.instances("push")) == 1
        self._recipients = Recipients(
            self._store, self.process.fanout, settings, self._senders, self._count, alone=alone
        )  # fmt: skip
        consumer = self._store.consumer(log.PUSH, self.process.name)
        trims = not self.process.topology.instances(hot.ARCHIVE_NODE)
        self._feed = Feed(consumer, self._recipients, settings, self.stats, self.log, trims)
        self._missed = Missed(self._store, self.process.fanout, self._recipients, self._feed, settings, self.log)
        self.stats.gauge("push.resting", lambda: self._feed.held)
        self._reports = Outcomes(self, self.olap, self._outcomes) if self.olap is not None else None

    def _failed(self, outlet: str, note: Note, target: Target, verdict: Verdict) -> None:
        """Tell other systems of a push that will never arrive."""
        data = {
            "user_id": target.user, "device_id": target.device, "outlet": outlet, "session_id": note.about,
            "seq_id": note.seq, "outcome": verdict.outcome.value, "reason": verdict.reason,
        }  # fmt: skip
        event_id = f"push-{key_of(f'{outlet} {note.name} {target.user} {target.field}', 22)}"
        self._happenings.to_user("push.failed", target.user, event_id, data)

    def _gauges(self, name: str, sender: Sender) -> None:
        self.stats.gauge(f"{name}.queued", lambda: sender.waiting.queued)
        self.stats.gauge(f"{name}.delayed", lambda: sender.waiting.delayed)
        self.stats.gauge(f"{name}.queue_age_seconds", lambda: round(sender.oldest, 3))
        self.stats.gauge(f"{name}.resting_seconds", lambda: round(sender.outlet.breaker.seconds, 1))
        self.stats.gauge(f"{name}.doubted_tokens", lambda: sender.outlet.dead.doubted)

    def _outcomes(self) -> Counter[str]:
        """What the archive keeps of the counters: what vendors answered, each try, and what never went to one."""
        found: Counter[str] = Counter()
        for name, number in self.stats.counts.items():
            if name.startswith("drops.push."):
                found["push.dropped"] += number
            elif name.startswith("push.") and name.count(".") > 1:
                found["push." + name.rpartition(".")[2]] += number
        return found

    def _count(self, name: str, number: int) -> None:
        self.stats.counts[name] += number

    def serve(self) -> None:
        for sender in self._senders.values():
            self.spawn(sender.run)
            self.spawn(sender.settle)
            self.spawn(sender.due)
        self.spawn(self._feed.run)
        self.spawn(self._missed.run)

    def drain(self) -> None:
        self._feed.stop()
        self._missed.stop()
        gevent.joinall([gevent.spawn(sender.stop, DRAIN_SECONDS) for sender in self._senders.values()])
        if self._reports is not None:
            self._reports.close()

    def describe(self) -> dict[str, Any]:
        return {"outlets": [sender.outlet.name for sender in self._senders.values()]}

    # ---- where pushes go

    @handles(PUSH_REGISTER)
    def _register(self, item: Item) -> CommonErrorCode:
        m, origin = item.message, item.origin
        self.register(
            RegInfo(
                item.request.pack_id, m.service_type, m.package_name, origin.user, m.app_version, m.token,
                origin.device_type, origin.device_id, m.quiet_hours, m.utc_offset,
            )
        )  # fmt: skip
        return SUCCESS

    @handles(PUSH_UNREGISTER)
    def _unregister(self, item: Item) -> CommonErrorCode:
        m, origin = item.message, item.origin
        app = self._app(m.package_name) if m.package_name else ""
        for found in self._store.registrations.of(origin.user):
            own = (found.device_type, found.device_id) == (origin.device_type, origin.device_id)
            if own and m.service_type in ("", found.vendor) and app in ("", found.app):
                self._store.registrations.forget(origin.user, found.field)
        return SUCCESS

    @handles(PUSH_REGISTRATIONS_GET)
    def _get(self, item: Item) -> PushRegistrationsResp:
        rows = [PushRegistration(**row._asdict()) for row in self.registrations(item.origin.user)]
        return PushRegistrationsResp(registrations=rows)

    def register(self, info: RegInfo) -> None:
        require_user(info.user_id)
        app = self._app(info.package_name)
        if (app, info.service_type) not in self._senders:
            raise AppError(Code.PARAM, f"serviceType: the app has no such vendor: {info.service_type[:20]!r}")
        if not re.fullmatch(self._senders[app, info.service_type].outlet.vendor.tokens, info.token):
            raise AppError(Code.PARAM, "token is malformed")
        if len(info.app_version) > VERSION_MAX:
            raise AppError(Code.PARAM, f"appVersion has more than {VERSION_MAX} characters")
        if info.device_type not in DEVICE_TYPES or not is_device_id(info.device_id):
            raise AppError(Code.PARAM, "the device is malformed")
        if not -16 * 60 <= info.utc_offset <= 16 * 60:
            raise AppError(Code.PARAM, "utcOffset is in minutes")
        quiet = _quiet(info.quiet_hours)
        self._store.registrations.put(
            info.user_id,
            Registration(
                info.device_type, info.device_id, app, info.service_type, info.token, info.app_version, 0, *quiet,
                info.utc_offset,
            ),
        )  # fmt: skip
        self.stats.counts["push.registered"] += 1

    def unregister(self, user: str, device_id: str, service_type: str, package_name: str) -> int:
        require_user(user)
        app = self._app(package_name) if package_name else ""
        return self._store.registrations.forget_all(
            user,
            [
                found.field
                for found in self._store.registrations.of(user)
                if device_id in ("", found.device_id) and service_type in ("", found.vendor) and app in ("", found.app)
            ],
        )

    def registrations(self, user: str) -> tuple[Registered, ...]:
        require_user(user)
        packages = {name: package for package, name in self._packages.items()}
        return tuple(
            Registered(
                r.vendor, packages.get(r.app, r.app), r.app_version, r.device_type, r.device_id, r.registered,
                _hours(r), r.utc_offset,
            )
            for r in self._store.registrations.of(user)
        )  # fmt: skip

    def _app(self, package: str) -> str:
        """The app of a package; where there is one app only, "" names it too."""
        found = self._packages.get(package)
        if found is None and len(self._packages) == 1 and (not package or "" in self._packages):
            (found,) = self._packages.values()
        if found is None:
            raise AppError(Code.PARAM, "packageName: no such app in the topology")
        return found

    # ---- pushing on request

    def push_message(self, info: PushInfo) -> int:
        return self._recipients.add(self._notes(info))

    def preview(self, info: PushInfo) -> tuple[Previewed, ...]:
        found = []
        for outlet, note in self._notes(info):
            sender = self._senders.get(outlet)
            for target in note.targets if sender is not None else ():
                assert sender is not None
                badge = note.badge if note.badge >= 0 else self._store.unread.totals([info.user_id])[0]
                request = sender.outlet.vendor.preview(note.push(target, badge))
                headers = tuple(request.headers.items())
                found.append(Previewed(outlet[1], target.device, request.path, headers, request.body))
        return tuple(found)

    def _notes(self, info: PushInfo) -> list[tuple[tuple[str, str], Note]]:
        require_user(info.user_id)
        if not is_pack_id(info.pack_id):
            raise AppError(Code.PARAM, "packId is malformed")
        for name in ("title", "content", "uri", "extra_data"):
            if len(getattr(info, name)) > TEXT_MAX:
                raise AppError(Code.PARAM, f"{name} has more than {TEXT_MAX} characters")
        if not info.title and not info.content:
            raise AppError(Code.PARAM, "title and content are empty")
        if not -1 <= info.un_read_count < 2**31:
            raise AppError(Code.PARAM, "unReadCount is out of range")
        _require_object(info.extra_data)
        (devices,) = self._store.registrations.targets([(info.user_id, "")])
        clock = time.time()
        notes = []
        for device in devices:
            target = Target(info.user_id, device.field, device.token)
            note = Note(
                "", 0, info.pack_id, info.title, info.content, info.uri, info.extra_data, info.un_read_count,
                clock + self._settings.ttl, not device.is_quiet(clock), (target,),
            )  # fmt: skip
            notes.append(((device.app, device.vendor), note))
        return notes

    # ---- what became of them

    def records(self, app: str, vendor: str, before: str, count: int, user: str) -> tuple[PushRecord, ...]:
        sender = self._senders.get((app, vendor))
        if sender is None:
            raise AppError(Code.PARAM, "no such app or vendor in the topology")
        if before and not re.fullmatch(r"\d+-\d+", before):
            raise AppError(Code.PARAM, "before is no id of a record")
        count = max(1, min(count, RECORDS_MAX))
        found: list[PushRecord] = []
        limit = now() + RECORDS_SECONDS
        while (page := sender.queue.records(before, min(count, RECORDS_READ))) and now() < limit:
            for before, packed in page:
                found += _records(before, app, vendor, packed, user)
                if len(found) >= count:
                    return tuple(found)
        return tuple(found)


def _records(id_: str, app: str, vendor: str, packed: bytes, wanted: str) -> Iterator[PushRecord]:
    for clock, user, session, seq, device, outcome, reason, vendor_id, tries, waited in decode_record(packed):
        if wanted in ("", user):
            yield PushRecord(
                id_, clock, user, session, seq, app, vendor, device, outcome, reason, vendor_id, tries, waited
            )  # fmt: skip


def _quiet(hours: str) -> tuple[int, int]:
    if not hours:
        return -1, -1
    match = _QUIET.fullmatch(hours)
    if match is None:
        raise AppError(Code.PARAM, "quietHours: expected HH:MM-HH:MM")
    numbers = [int(part) for part in match.groups()]
    return numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]


def _hours(r: Registration) -> str:
    if r.quiet_from < 0:
        return ""
    return f"{r.quiet_from // 60:02}:{r.quiet_from % 60:02}-{r.quiet_to // 60:02}:{r.quiet_to % 60:02}"


def _require_object(extra: str) -> None:
    if not extra:
        return
    try:
        good = isinstance(msgspec.json.decode(extra), dict)
    except msgspec.DecodeError:
        good = False
    if not good:
        raise AppError(Code.PARAM, "extraData is no JSON object")
