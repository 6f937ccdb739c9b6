"""Lua scripts: each lies beside the module that runs it, and is loaded on every new connection."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path


class Script:
    """A Lua script of this package, by file name."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (Path(__file__).parent / name).read_text()
        self.sha = sha1(self.text.encode()).hexdigest()


COMMIT = Script("commit.lua")
RECENT = Script("recent.lua")
OVERVIEW = Script("overview.lua")
ENTER = Script("enter.lua")
ADD_ACCOUNT = Script("add_account.lua")
CONTROL = Script("control.lua")
READ = Script("read.lua")
ENQUEUE = Script("enqueue.lua")
PRIORITY = Script("priority.lua")

ALL = (COMMIT, RECENT, OVERVIEW, ENTER, ADD_ACCOUNT, CONTROL, READ, ENQUEUE, PRIORITY)
