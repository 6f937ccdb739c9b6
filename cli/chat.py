"""`imesh chat USER`: a chat in the terminal, over the SDK."""

from __future__ import annotations

import argparse
import os
import sqlite3
import ssl
import sys
import threading
import time
from itertools import islice
from pathlib import Path

from cli import commands
from cli.commands import SHOWN
from cli.feed import Feed
from cli.names import Names
from cli.screen import Screen
from cli.text import reason
from client.client import Client
from client.dial import parse_address
from client.errors import ClientError, LoginRefused, OutboxFull
from client.events import Changed, Ended, Event, How, Message, Sent
from client.requests import Done
from client.sessions import session_of
from client.store import FileStore, MemoryStore, Store
from mesh.cli import DEFAULT_TOPOLOGY, FAILED, OK, WRONG, Subparsers, add_command
from packs import structs as s
from packs import table as t
from packs.flags import COUNTER
from packs.ids import is_group_id, is_user_id

DEFAULT_SERVER = "127.0.0.1:7100"
FINISH_SECONDS, LEAVE_SECONDS = 30.0, 2.0
"""How long the next ack is waited for at the end: of a pipe, and when somebody leaves a terminal."""
TYPING_SECONDS = 3.0
"""How often it is said that something is being typed."""
POLL_SECONDS = 0.05
RETRY_SECONDS = 1.0
"""Between two tries to find a server."""


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    examples = (
        "  imesh chat alice --to bob\n  echo 'the build is green' | imesh chat robot --to alice\n"
        "  imesh chat robot --json | my-program\n\n"
        "From a pipe every line is sent as it is (without --to: @NAME text); with --commands, lines that begin with a\n"
        "slash are commands as on a terminal. The command ends with 0 when all is stored and done. The password or\n"
        "token is taken from --password, else from IMESH_PASSWORD."
    )
    parser = add_command(subparsers, "chat", "chat in the terminal", examples)
    parser.add_argument("user", metavar="USER", help="who you are")
    parser.add_argument("--to", metavar="NAME", default="", help="who you talk with: a user or a group")
    where = f"default: as topology.toml here says, else {DEFAULT_SERVER}"
    parser.add_argument("--server", metavar="HOST:PORT", help=where)
    secret = os.environ.get("IMESH_PASSWORD", "")
    parser.add_argument("--password", "--token", metavar="SECRET", default=secret, help="password or token")
    parser.add_argument("--tls", action="store_true", help="the server speaks TLS")
    parser.add_argument("--ca", metavar="FILE", help="certificates to trust instead of the system's (implies --tls)")
    parser.add_argument("--device", metavar="ID", default="terminal", help="device id (default: terminal)")
    kind = "kind of device, one connection of each: 1 iOS … 5 Linux, 6 web (default: 5)"
    parser.add_argument("--device-type", metavar="N", type=int, default=5, help=kind)
    parser.add_argument("--data", metavar="DIR", help="keep what was received and what is unsent in this directory")
    parser.add_argument("--commands", action="store_true", help="in a pipe, lines that begin with / are commands")
    parser.add_argument("--json", action="store_true", help="for programs: one JSON object per line")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The command."""
    try:
        chat = Chat(options)
    except (ValueError, OSError, sqlite3.Error) as error:
        print(f"imesh: {error}", file=sys.stderr)
        return WRONG
    return chat.run()


def server_of(topology: Path) -> str:
    """Where the topology in this directory lets clients connect."""
    import tomllib

    try:
        with topology.open("rb") as file:
            listen = str(tomllib.load(file)["node"]["broker"]["listen"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_SERVER
    if listen.endswith(":0"):
        return DEFAULT_SERVER
    return listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")


class Chat:
    """One run of the command. Raises `ValueError`, `OSError` or `sqlite3.Error` for options that cannot be."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.user: str = options.user
        self.peer: str = options.to
        """Who is talked with: a user or a group, "" for nobody."""
        if not is_user_id(self.user):
            raise ValueError(f"{self.user!r} is no user id: 1 to 64 of A-Z a-z 0-9 . _ @ + -")
        if self.peer and not (is_group_id(self.peer) or is_user_id(self.peer)):
            raise ValueError(f"{self.peer!r} is no user or group id")
        self._server: str = options.server or server_of(Path(DEFAULT_TOPOLOGY))
        parse_address(self._server)
        tls = ssl.create_default_context(cafile=options.ca) if options.tls or options.ca else None
        store: Store = MemoryStore()
        if options.data:
            Path(options.data).mkdir(parents=True, exist_ok=True)
            store = FileStore(Path(options.data) / f"{self.user}.db")
        self.screen = Screen(
            sys.stdin, sys.stdout, False if options.json else None, self._completions, self._typed, self._tick
        )
        self.client = Client(
            self._server, self.user, options.password, device_type=options.device_type, device_id=options.device,
            tls=tls, store=store, on_message=self._event, on_event=self._event, catch_up=bool(options.data),
        )  # fmt: skip
        self.names = Names(self.client)
        self.feed = Feed(self.user, self.screen, self.names, options.json, self._mark_read)
        self._json: bool = options.json
        self._commands: bool = options.commands or self.screen.interactive
        self._over = threading.Event()  # the client has ended
        self._leaving = False
        self._typing_told = 0.0
        self._exit_code = OK
        self._welcomed = False
        self._later = "; they will be at the next start" if options.data else ""

    # ---- life

    def run(self) -> int:
        """Chat until the end; the exit code."""
        try:
            if not self._connect():
                return FAILED
            if self._commands:
                self.names.start()
            self._welcome()
            for line in self.screen.lines(self._prompt):
                if self._over.is_set():
                    break
                self._line(line)
                if self._leaving:
                    break
            self._finish()
        except KeyboardInterrupt:
            return self._exit_code
        finally:
            self._over.set()
            self.names.close()
            self.client.close()
            self.screen.close()
        return self._exit_code

    def _connect(self) -> bool:
        """Log in. On a terminal, try until there is a server."""
        told = ""
        while True:
            try:
                self.client.connect()
                return True
            except LoginRefused as error:
                print(f"imesh: {error.text} ({error.code})", file=sys.stderr)
                return False
            except ClientError as error:
                text = f"{error}\nstart it with `imesh up`, or name another one with --server"
                if text != told:
                    told = text
                    print(text, file=sys.stderr)
                if not self.screen.interactive:
                    return False
                time.sleep(RETRY_SECONDS)

    def _welcome(self) -> None:
        if self.screen.interactive:
            self.screen.show(self.screen.dim(f"You are {self.user}, on {self._server}. /help shows what you can do."))
            self.show_sessions(only_unread=True)
            if not self.peer:
                self.screen.show(self.screen.dim("Who do you talk with? /to NAME"))
        if self.peer:
            self._go_to(self.peer)
        self._welcomed = True
        self.feed.open()

    def _finish(self) -> None:
        """Wait until all is stored, as long as that goes on."""
        patience = LEAVE_SECONDS if self.screen.interactive else FINISH_SECONDS
        left = self.client.unacknowledged
        limit = time.monotonic() + patience
        while left and not self._over.wait(POLL_SECONDS):
            if self.client.unacknowledged < left:
                left = self.client.unacknowledged
                limit = time.monotonic() + patience
            elif time.monotonic() > limit:
                print(f"imesh: {left} messages are not stored yet{self._later}", file=sys.stderr)
                self._exit_code = FAILED
                return

    def quit(self) -> None:
        """This was the last line."""
        self._leaving = True

    def _event(self, event: Event) -> None:
        """Anything that the client tells, on its thread."""
        if isinstance(event, Ended) and self._welcomed:
            self._exit_code = FAILED
            self._over.set()
            self.screen.interrupt()
        self.feed.take(event)

    # ---- what is shown

    def _prompt(self) -> str:
        waiting = self.feed.unread_elsewhere()
        more = f" [{waiting} elsewhere]" if waiting else ""
        return f"{self.feed.text.name(self.peer) or 'nobody'}{more}> "

    def _tick(self) -> None:
        if self.screen.interactive:
            self.feed.tick()

    def _typed(self, text: str) -> None:
        """Let the others know, now and then; commands are nobody's business."""
        now = time.monotonic()
        if self.peer and text[:1] not in ("/", "@") and now - self._typing_told > TYPING_SECONDS:
            self._typing_told = now
            self.client.typing(self.peer)

    def _completions(self, before: str) -> list[str]:
        word = before.rpartition(" ")[2]
        if before.startswith("/") and word == before:
            return [f"/{name}" for name in sorted(commands.COMMANDS) if name.startswith(word[1:])]
        if before.startswith("@") and word == before:
            return [f"@{name}" for name in self.names.beginning_with(word[1:])]
        return self.names.beginning_with(word) if word else []

    def show_history(self, count: int) -> None:
        """The newest messages of the open conversation."""
        try:
            self.feed.page(reversed(self.client.history(self.peer, count=count)))
        except ClientError as error:
            self.fail(f"no history: {reason(error)}")

    def show_found(self, text: str, count: int) -> None:
        """The newest messages that have these words, in all conversations."""
        found = list(islice(self.client.search(text), count))
        self.feed.found(reversed(found))
        if not found:
            self.feed.note("nothing found")

    def show_sessions(self, only_unread: bool = False) -> None:
        """The recent conversations."""
        try:
            sessions = self.client.hot_sessions()
        except ClientError as error:
            self.fail(f"no conversations: {reason(error)}")
            return
        self.feed.hot(sessions, only_unread)
        if not sessions and not only_unread:
            self.feed.note("no conversations yet")

    def messages_of(self, session: str) -> list[Message]:
        """What is shown of a session, oldest first."""
        return self.feed.messages_of(session)

    def changed_here(self, message: Message, how: How, content: str = "") -> None:
        """A change that this chat has made itself: the server tells the other devices only."""
        now = int(time.time() * 1000)
        change = Changed(message.session_id, message.seq_id, message.pack_id, how, content, self.user, now)
        if self._json:
            self.feed.take(change)
        else:
            self.feed.changed(change)

    def _mark_read(self, session: str, seq_id: int) -> None:
        self.client.ask(t.MSG_READ, s.MsgReaded(session_id=session, seq_id=seq_id))

    def done(self, text: str) -> None:
        """A command has done something that cannot be seen otherwise."""
        self.screen.show(self.screen.dim(text))

    def fail(self, text: str) -> None:
        """A command could not be done."""
        self._exit_code = self._exit_code if self.screen.interactive else FAILED
        if self._json:
            self.feed.tell("failed", error=text)
        else:
            self.feed.note(text)

    # ---- what is typed

    def _line(self, line: str) -> None:
        if self.screen.interactive:
            line = line.strip()
        if not line:
            return
        if not self._commands:
            self._send(line, literal=bool(self.peer))
        elif line.startswith("//"):
            self._send(line[1:], literal=True)
        elif line.startswith("/"):
            if not self.screen.interactive:
                self._settle()
            commands.run(self, line)
        else:
            self._send(line)

    def _settle(self) -> None:
        """In a pipe, a command follows the messages before it."""
        while self.client.unacknowledged and not self._over.wait(POLL_SECONDS):
            continue

    def talk_with(self, name: str) -> None:
        """Open a conversation. Raises `ValueError` for a name that is none."""
        found = self.names.find(name)
        if found is None:
            raise ValueError(f"{name!r} is no user, and no group of yours is called so")
        self._go_to(found)

    def _go_to(self, peer: str) -> None:
        self.peer = peer
        self.feed.here = session_of(self.user, peer)
        self.names.meet([peer])
        if self.screen.interactive:
            self.show_history(SHOWN)
            self.feed.seen()

    def left(self) -> None:
        """The open conversation is none of ours any more."""
        self.peer = self.feed.here = ""
        self.names.refresh("groups")

    def _send(self, line: str, literal: bool = False) -> None:
        """`literal`: what begins with @ is text as well."""
        to, text = self.peer, line
        if line.startswith("@") and not literal:
            name, _, text = line[1:].partition(" ")
            to = self.names.find(name) or ""
        if not text.strip() or not to:
            self.fail("to whom? /to NAME, or @NAME text" if self.screen.interactive else f"to whom? {line}")
            return
        key = object()

        def done(sent: Sent | None, error: Exception | None) -> None:
            self._settled(key, sent, error, to, text)

        if self.screen.interactive:
            name = "you" if to == self.peer else f"you to {self.feed.text.name(to)}"
            self.screen.under_way(key, f"{name}: {self.screen.harmless(text)}")
        try:
            self._offer(to, text, done)
        except ClientError as error:
            done(None, error)

    def _offer(self, to: str, text: str, done: Done) -> None:
        """Send; in a pipe, wait until there is room for it."""
        while True:
            try:
                self.client.send(to, text, wait=False, done=done)
                return
            except OutboxFull:
                if self.screen.interactive or self._over.wait(POLL_SECONDS):
                    raise

    def _settled(self, key: object, sent: Sent | None, error: Exception | None, to: str, text: str) -> None:
        if sent is None and not self.screen.interactive:
            self._exit_code = FAILED
        if sent is not None:
            mine = Message(
                sent.session_id, sent.seq_id, 0, sent.timestamp, self.user, to, text, 1, COUNTER, sent.pack_id, "live"
            )
            self.feed.sent(mine, key)
        elif self._json:
            self.feed.tell("failed", to=to, content=text, error=str(error))
        else:
            why = reason(error) if error is not None else ""
            line = f"not sent ({why}): {self.screen.harmless(text)}"
            if self.screen.interactive:
                self.screen.settle(key, line)
            else:
                self.feed.note(line)
