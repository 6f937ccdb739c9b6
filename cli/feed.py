"""What a chat shows of what happens: as lines for people, changed where they stand; or as JSON for programs."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from cli.names import Names
from cli.screen import Screen
from cli.text import Text
from client.events import (
    Changed,
    Connected,
    Disconnected,
    Ended,
    Event,
    ListChanged,
    Message,
    Missed,
    Read,
    Resync,
    Typing,
)
from client.sessions import HotSession, peer_of
from client.view import View

TYPING_SECONDS = 6.0
"""How long somebody is taken to be typing who has said so; clients say it again every few seconds."""
WRITERS_SHOWN = 3


class Feed:
    """Of one user. `here` is the session that is open, "" for none. May be used from any thread."""

    def __init__(
        self, user: str, screen: Screen, names: Names, as_json: bool, mark_read: Callable[[str, int], None]
    ) -> None:
        """`mark_read(session, seqId)`: that much was seen; must not wait."""
        self.here = ""
        self.view = View(user)
        self.text = Text(user, screen, names)
        self._user = user
        self._screen = screen
        self._names = names
        names.renamed = self._respell
        self._json = as_json
        self._mark_read = mark_read
        self._lock = threading.RLock()  # of the view, and of the order of lines
        self._early: list[Message | Changed] | None = []  # came while the history was being shown; None: no longer
        self._lost = False
        self._writers: dict[str, tuple[str, float]] = {}  # who is writing: in which session, until when that is so

    # ---- what happens

    def take(self, event: Event) -> None:
        """Anything that the client tells."""
        with self._lock:
            if self._early is not None and isinstance(event, Message | Changed):
                self._early.append(event)
                return
            self._show(event)

    def open(self) -> None:
        """The beginning has been shown; what came meanwhile follows, unless it was in there."""
        with self._lock:
            early, self._early = self._early or [], None
            for event in early:
                if isinstance(event, Changed) or self._held(event) is None:
                    self._show(event)

    def _held(self, message: Message) -> Message | None:
        return self.view.of(message.session_id).find(message.seq_id)

    def _show(self, event: Event) -> None:
        if self._json:
            self._tell_program(event)
        elif isinstance(event, Message):
            self._message(event)
        elif isinstance(event, Changed):
            self.changed(event)
        elif isinstance(event, Read):
            self._read(event)
        else:
            self._news(event)

    def _message(self, message: Message) -> None:
        self.view.take(message)
        self._names.meet([message.sender])
        self._typing(Typing(message.session_id, message.sender, False))
        self.line(message)
        if message.session_id == self.here:
            self.seen()

    def sent(self, message: Message, key: object) -> None:
        """A message of this chat is stored; `key` is what it was under way as."""
        with self._lock:
            self.view.take(message)
            if self._json:
                self.tell(
                    "sent", session=message.session_id, seq=message.seq_id, timestamp=message.timestamp, to=message.to,
                    content=message.content,
                )  # fmt: skip
            elif self._screen.interactive:
                line = self.text.message(message, self.here, self.view.of(message.session_id))
                self._screen.settle(key, line, (message.session_id, message.seq_id))

    def line(self, message: Message) -> None:
        """Show a message."""
        conversation = self.view.of(message.session_id)
        self._screen.show(self.text.message(message, self.here, conversation), (message.session_id, message.seq_id))

    def changed(self, change: Changed) -> None:
        """A message is not what it was: change its line, or say so when that cannot be seen."""
        with self._lock:
            conversation = self.view.of(change.session_id)
            before = conversation.find(change.seq_id)
            self.view.take(change)
            after = conversation.find(change.seq_id)
            if after is not None:
                line = self.text.message(after, self.here, conversation)
            elif before is not None:
                line = self.text.gone(before)
            else:
                line = ""
            if not line or not self._screen.change((change.session_id, change.seq_id), line):
                self._screen.show(self.text.change(change, self.here))

    def _read(self, read: Read) -> None:
        conversation = self.view.of(read.session_id)
        before = conversation.peer_read
        self.view.take(read)
        for message in conversation.messages:
            if before < message.seq_id <= conversation.peer_read and message.sender == self._user:
                line = self.text.message(message, self.here, conversation)
                self._screen.change((message.session_id, message.seq_id), line)

    def _typing(self, typing: Typing) -> None:
        if typing.typing:
            self._writers[typing.user] = (typing.session_id, time.monotonic() + TYPING_SECONDS)
        elif self._writers.get(typing.user, ("",))[0] == typing.session_id:
            del self._writers[typing.user]
        self.tick()

    def tick(self) -> None:
        """Show who is writing in the open conversation; who has not said so for a while is not."""
        now = time.monotonic()
        with self._lock:
            for user, (_, until) in list(self._writers.items()):
                if now > until:
                    del self._writers[user]
            here = [user for user, (session, _) in self._writers.items() if session == self.here]
        verb = "is" if len(here) == 1 else "are"
        self._screen.status(f"{', '.join(here[:WRITERS_SHOWN])} {verb} typing …" if here else "")

    def _respell(self, groups: set[str]) -> None:
        """Groups are called otherwise now: so are they in the lines that can be seen, and at the bottom."""
        with self._lock:
            for group in groups & self.view.conversations.keys():
                conversation = self.view.of(group)
                for message in conversation.messages:
                    line = self.text.message(message, self.here, conversation)
                    self._screen.change((message.session_id, message.seq_id), line)
        self._screen.refresh()

    def _news(self, event: Event) -> None:
        if isinstance(event, Typing):
            self._typing(event)
        elif isinstance(event, ListChanged):
            self._names.refresh("friends" if event.what == "friends" else "groups")
            if event.what == "requests":
                self.note("somebody asks to be your friend; /friends shows who")
        elif isinstance(event, Disconnected):
            self._lost = True
            self.note("the connection is lost; reconnecting …")
        elif isinstance(event, Connected) and self._lost:
            self._lost = False
            self.note("connected again")
        elif isinstance(event, Missed) and event.session_id:
            self.note(f"older messages with {peer_of(self._user, event.session_id)} are in the /history only")
        elif isinstance(event, Ended) and event.kicked:
            self.note("This chat is over: you logged in elsewhere with the same kind of device, or logged it out.")
        elif isinstance(event, Ended) and self._early is None:
            self.note(f"The server does not let you in any more: {event.reason}")

    # ---- what is asked for

    def page(self, messages: Iterable[Message]) -> None:
        """Show messages of the history, oldest first."""
        with self._lock:
            for message in messages:
                self.view.page([message])
                self._names.meet([message.sender])
                self.line(message)

    def found(self, messages: Iterable[Message]) -> None:
        """Show messages that were searched for, oldest first. They are no part of the conversation as it is shown."""
        with self._lock:
            for message in messages:
                self._names.meet([message.sender])
                if self._json:
                    self.tell(
                        "found", session=message.session_id, seq=message.seq_id, timestamp=message.timestamp,
                        sender=message.sender, content=message.content,
                    )  # fmt: skip
                else:
                    self._screen.show(self.text.message(message, self.here))

    def hot(self, sessions: list[HotSession], only_unread: bool = False) -> None:
        """Show conversations."""
        with self._lock:
            for session in sessions:
                self.view.hot(session)
                conversation = self.view.of(session.session_id)
                self._names.meet([conversation.peer])
                if only_unread and not conversation.unread:
                    continue
                unread = f" ({conversation.unread} unread)" if conversation.unread else ""
                muted = " (muted)" if session.muted else ""
                last = self.text.message(session.newest, session.session_id) if session.newest else ""
                self._screen.show(f"{self._screen.colour(self.text.name(conversation.peer))}{unread}{muted}  {last}")

    def seen(self) -> None:
        """All of the open conversation was seen, if a person looks at it."""
        with self._lock:
            conversation = self.view.of(self.here)
            if self._screen.interactive and conversation.unread and conversation.newest:
                self.view.take(Read(self.here, conversation.newest, self._user))
                self._mark_read(self.here, conversation.newest)

    def unread_elsewhere(self) -> int:
        """Messages in other conversations that wait, muted ones left out."""
        others = list(self.view.conversations.values())
        return sum(c.unread for c in others if c.session_id != self.here and not c.muted)

    def messages_of(self, session: str) -> list[Message]:
        """Those that were shown, oldest first."""
        with self._lock:
            return list(self.view.of(session).messages)

    # ---- lines that are no messages

    def note(self, text: str) -> None:
        """Something about the chat itself. Not between the messages when those go into a pipe."""
        if self._screen.interactive:
            self._screen.show(self._screen.dim(text))
        else:
            print(f"imesh: {text}", file=sys.stderr)

    def tell(self, event: str, **details: Any) -> None:
        """A line for programs."""
        self._screen.show(json.dumps({"event": event, **details}, ensure_ascii=False))

    def _tell_program(self, event: Event) -> None:
        self.view.take(event)
        if isinstance(event, Message):
            self.tell(
                "message", session=event.session_id, seq=event.seq_id, timestamp=event.timestamp, sender=event.sender,
                to=event.to, type=event.content_type, content=event.content, revoked=event.revoked,
                edited=event.edited, via=event.via,
            )  # fmt: skip
        elif isinstance(event, Changed):
            self.tell(
                event.how, session=event.session_id, seq=event.seq_id, timestamp=event.timestamp,
                operator=event.operator, content=event.content,
            )  # fmt: skip
        elif isinstance(event, Read):
            self.tell("read", session=event.session_id, seq=event.seq_id, user=event.user)
        elif isinstance(event, Resync):
            self.tell("resync")
        else:
            self.tell(type(event).__name__.lower(), **asdict(event))
