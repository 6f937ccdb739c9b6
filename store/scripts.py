"""Lua scripts: each lies beside the module that runs it, and is loaded on every new connection."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path


class Script:
    """A Lua script of this package, by file name; `libraries` are put before it."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, *libraries: str) -> None:
        self.name = name
        self.text = "".join((Path(__file__).parent / part).read_text() for part in (*libraries, name))
        self.sha = sha1(self.text.encode()).hexdigest()


COMMIT = Script("commit.lua", "stamps.lua", "marks.lua", "noting.lua")
RECENT = Script("recent.lua", "noting.lua")
RECENT_REPAIR = Script("recent_repair.lua")
OVERVIEW = Script("overview.lua")
PAGE = Script("page.lua")
NEWEST = Script("newest.lua")
IDEMPOTENCY = Script("idempotency.lua")
LEASE = Script("lease.lua")
ENTER = Script("enter.lua", "happened.lua", "came_and_went.lua")
PUT_PROFILE = Script("put_profile.lua", "marks.lua")
ADD_ACCOUNT = Script("add_account.lua", "marks.lua")
LEFT = Script("left.lua", "happened.lua", "came_and_went.lua")
GONE = Script("gone.lua", "happened.lua", "came_and_went.lua")
BROKERS = Script("brokers.lua")
EXPEL = Script("expel.lua", "marks.lua")
SEEN = Script("seen.lua")
FORGET = Script("forget.lua", "marks.lua")

CONTROL = Script("control.lua", "stamps.lua", "marks.lua")
READ = Script("read.lua", "marks.lua", "happened.lua")
ENQUEUE = Script("enqueue.lua", "stamps.lua", "marks.lua")
PRIORITY = Script("priority.lua")

CHANGE = ("marks.lua", "happened.lua", "group_told.lua")
GROUP_CREATE = Script("group_create.lua", *CHANGE)
GROUP_JOIN = Script("group_join.lua", *CHANGE)
GROUP_QUIT = Script("group_quit.lua", *CHANGE)
GROUP_DISMISS = Script("group_dismiss.lua", *CHANGE)
GROUP_OWNER = Script("group_owner.lua", *CHANGE)
GROUP_UPDATE = Script("group_update.lua", *CHANGE)
GROUP_PRESENT = Script("group_present.lua")
GROUP_MEMBERS = Script("group_members.lua")
GROUP_PROFILES = Script("group_profiles.lua")
MEMBERSHIPS = Script("memberships.lua")
MY_GROUPS = Script("my_groups.lua", "marks.lua")

GROUPS = (
    GROUP_CREATE, GROUP_JOIN, GROUP_QUIT, GROUP_DISMISS, GROUP_OWNER, GROUP_UPDATE, GROUP_PRESENT, GROUP_MEMBERS,
    GROUP_PROFILES, MEMBERSHIPS, MY_GROUPS,
)  # fmt: skip

RELATE_OWN = Script("relate_own.lua", "marks.lua", "people.lua")
RELATE_OTHER = Script("relate_other.lua", "marks.lua", "people.lua")
RELATE_PAIR = Script("relate_pair.lua")
FRIENDS = Script("friends.lua", "marks.lua", "people.lua")
ATTRIBUTE = Script("attribute.lua", "marks.lua", "people.lua")
ATTRIBUTES = Script("attributes.lua", "marks.lua", "people.lua")

PEOPLE = (
    LEFT, GONE, BROKERS, EXPEL, SEEN, FORGET, RELATE_OWN, RELATE_OTHER, RELATE_PAIR, FRIENDS, ATTRIBUTE, ATTRIBUTES,
)  # fmt: skip

LOG_OPEN = Script("log_open.lua")
LOG_TRIM = Script("log_trim.lua")

WINDOW = Script("window.lua")

LOG = (LOG_OPEN, LOG_TRIM, WINDOW)

PUSH_TARGETS = Script("push_targets.lua")
PUSH_PUT = Script("push_put.lua", "marks.lua")
PUSH_FORGET = Script("push_forget.lua", "marks.lua")
PUSH_ENQUEUE = Script("push_enqueue.lua")
PUSH_SETTLE = Script("push_settle.lua")
PUSH_DUE = Script("push_due.lua")
UNREAD = Script("unread.lua")

PUSH = (PUSH_TARGETS, PUSH_PUT, PUSH_FORGET, PUSH_ENQUEUE, PUSH_SETTLE, PUSH_DUE, UNREAD)

ALL = (
    COMMIT, RECENT, RECENT_REPAIR, OVERVIEW, PAGE, NEWEST, ENTER, PUT_PROFILE, ADD_ACCOUNT,
    IDEMPOTENCY, LEASE, CONTROL, READ, ENQUEUE, PRIORITY,
    *GROUPS, *PEOPLE, *LOG, *PUSH,
)  # fmt: skip
