"""`imesh chat USER`: a chat in the terminal, over the SDK."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import ssl
import sys
import threading
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from cli.screen import Screen
from client.client import Client
from client.dial import parse_address
from client.errors import ClientError, LoginRefused, Refused
from client.events import Connected, Disconnected, Ended, Event, Message, Sent
from client.store import FileStore, MemoryStore, Store
from mesh.cli import DEFAULT_TOPOLOGY, FAILED, OK, WRONG, Subparsers, add_command
from packs.ids import is_group_id, is_user_id, single_members

DEFAULT_SERVER = "127.0.0.1:7100"
SHOWN = 20
"""Messages of history shown when a conversation is opened."""
FINISH_SECONDS, LEAVE_SECONDS = 30.0, 2.0
"""How long the next ack is waited for at the end: of a pipe, and when somebody leaves a terminal."""
POLL_SECONDS = 0.05
RETRY_SECONDS = 1.0
"""Between two tries to find a server."""
HISTORY_MAX = 200
"""Messages in one page."""
HELP = """\
  text            send it to the one you talk with       @NAME text    send it to somebody else
  /to NAME        talk with somebody else                //text        send a text that begins with /
  /history [N]    the last N messages                    /sessions     your conversations
  /help           this                                   /quit         leave (Ctrl-D and Ctrl-C do, too)"""


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    examples = (
        "  imesh chat alice --to bob\n  echo 'the build is green' | imesh chat robot --to alice\n"
        "  imesh chat robot --json | my-program\n\n"
        "From a pipe every line is sent as it is (without --to: @NAME text), and the command ends with 0 when all are\n"
        "stored. The password or token is taken from --password, else from IMESH_PASSWORD."
    )
    parser = add_command(subparsers, "chat", "chat in the terminal", examples)
    parser.add_argument("user", metavar="USER", help="who you are")
    parser.add_argument("--to", metavar="NAME", default="", help="who you talk with")
    where = f"default: as topology.toml here says, else {DEFAULT_SERVER}"
    parser.add_argument("--server", metavar="HOST:PORT", help=where)
    secret = os.environ.get("IMESH_PASSWORD", "")
    parser.add_argument("--password", "--token", metavar="SECRET", default=secret, help="password or token")
    parser.add_argument("--tls", action="store_true", help="the server speaks TLS")
    parser.add_argument("--ca", metavar="FILE", help="certificates to trust instead of the system's (implies --tls)")
    parser.add_argument("--device", metavar="ID", default="terminal", help="device id (default: terminal)")
    parser.add_argument("--data", metavar="DIR", help="keep what was received and what is unsent in this directory")
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
        if not is_user_id(self.user):
            raise ValueError(f"{self.user!r} is no user id: 1 to 64 of A-Z a-z 0-9 . _ @ + -")
        if self.peer and not _is_name(self.peer):
            raise ValueError(f"{self.peer!r} is no user or group id")
        self._server: str = options.server or server_of(Path(DEFAULT_TOPOLOGY))
        parse_address(self._server)
        tls = ssl.create_default_context(cafile=options.ca) if options.tls or options.ca else None
        store: Store = MemoryStore()
        if options.data:
            Path(options.data).mkdir(parents=True, exist_ok=True)
            store = FileStore(Path(options.data) / f"{self.user}.db")
        self._json: bool = options.json
        self.screen = Screen(sys.stdin, sys.stdout, interactive=False if options.json else None)
        self.client = Client(
            self._server, self.user, options.password, device_id=options.device, tls=tls, store=store,
            on_message=self._received, on_event=self._event, catch_up=bool(options.data),
        )  # fmt: skip
        self._over = threading.Event()
        self._exit_code = OK
        self._lost = False
        self._welcomed = False
        self._early: list[Message] = []  # came while the history was being shown
        self._lock = threading.Lock()  # of the two
        self._later = "; they will be at the next start" if options.data else ""

    def run(self) -> int:
        """Chat until the end; the exit code."""
        try:
            if not self._connect():
                return FAILED
            self._welcome()
            for line in self.screen.lines(self._prompt):
                if self._over.is_set() or not self._line(line):
                    break
            self._finish()
        except KeyboardInterrupt:
            return self._exit_code
        finally:
            self._over.set()
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

    # ---- what is shown

    def _prompt(self) -> str:
        return f"{self.peer or 'nobody'}> "

    def _welcome(self) -> None:
        if self.screen.interactive:
            self.screen.show(self.screen.dim(f"You are {self.user}, on {self._server}. /help shows what you can do."))
            self._sessions(only_unread=True)
            shown = self._history(SHOWN) if self.peer else set()
            if not self.peer:
                self.screen.show(self.screen.dim("Who do you talk with? /to NAME"))
        else:
            shown = set()
        with self._lock:
            self._welcomed = True
            for message in self._early:
                if (message.session_id, message.seq_id) not in shown:
                    self._show(message)

    def _received(self, message: Message) -> None:
        with self._lock:
            if self._welcomed:
                self._show(message)
            else:
                self._early.append(message)

    def _show(self, message: Message) -> None:
        if self._json:
            self._tell(
                "message", session=message.session_id, seq=message.seq_id, timestamp=message.timestamp,
                sender=message.sender, to=message.to, type=message.content_type, content=message.content,
                via=message.via,
            )  # fmt: skip
        else:
            self.screen.show(self._spelled(message))

    def _spelled(self, message: Message) -> str:
        name = "you" if message.sender == self.user else message.sender
        if self.user not in (message.sender, message.to):
            name += f" in {message.to}"
        elif message.sender == self.user and message.to != self.peer:
            name += f" to {message.to}"
        return self._line_of(message.timestamp, name, message.content)

    def _line_of(self, timestamp: int, name: str, text: str) -> str:
        at = datetime.fromtimestamp(timestamp / 1000)
        clock = at.strftime("%H:%M" if at.date() == datetime.now().date() else "%Y-%m-%d %H:%M")
        return f"{self.screen.dim(clock)} {self.screen.colour(name)}: {self.screen.harmless(text)}"

    def _tell(self, event: str, **details: Any) -> None:
        """A line for programs."""
        self.screen.show(json.dumps({"event": event, **details}, ensure_ascii=False))

    def _event(self, event: Event) -> None:
        if isinstance(event, Ended) and self._welcomed:
            self._exit_code = FAILED
            self._over.set()
            self.screen.interrupt()
        if self._json:
            self._tell(type(event).__name__.lower(), **asdict(event))
        elif isinstance(event, Disconnected):
            self._lost = True
            self._note("the connection is lost; reconnecting …")
        elif isinstance(event, Connected) and self._lost:
            self._lost = False
            self._note("connected again")
        elif isinstance(event, Ended) and event.kicked:
            self._note("You logged in elsewhere with the same kind of device; this chat is over.")
        elif isinstance(event, Ended) and self._welcomed:
            self._note(f"The server does not let you in any more: {event.reason}")

    def _note(self, text: str) -> None:
        """Something about the chat itself. Not between the messages when those go into a pipe."""
        if self.screen.interactive:
            self.screen.show(self.screen.dim(text))
        else:
            print(f"imesh: {text}", file=sys.stderr)

    # ---- what is typed

    def _line(self, line: str) -> bool:
        """One line; False ends the chat."""
        if not self.screen.interactive:
            if line:
                self._send(line, literal=bool(self.peer))
            return True
        line = line.strip()
        if not line.startswith("/"):
            if line:
                self._send(line)
            return True
        if line.startswith("//"):
            self._send(line[1:], literal=True)
            return True
        command, _, rest = line.partition(" ")
        return self._command(command, rest.strip())

    def _command(self, command: str, rest: str) -> bool:
        if command in ("/quit", "/exit"):
            return False
        if command == "/to":
            self._talk_with(rest)
        elif command == "/history":
            self._history(int(rest) if rest.isdecimal() else SHOWN)
        elif command == "/sessions":
            self._sessions()
        elif command == "/help":
            self.screen.show(HELP)
        else:
            self.screen.show(f"no command {command}; /help shows all")
        return True

    def _talk_with(self, name: str) -> None:
        if not _is_name(name):
            self.screen.show("say with whom: /to NAME")
            return
        self.peer = name
        self._history(SHOWN)

    def _send(self, line: str, literal: bool = False) -> None:
        """`literal`: what begins with @ is text as well."""
        to, text = self.peer, line
        if line.startswith("@") and not literal:
            to, _, text = line[1:].partition(" ")
        if not text.strip() or not _is_name(to):
            self._note("to whom? /to NAME, or @NAME text" if self.screen.interactive else f"to whom? {line}")
            self._exit_code = self._exit_code if self.screen.interactive else FAILED
            return
        name = "you" if to == self.peer else f"you to {to}"
        key = object()

        def done(sent: Sent | None, error: Exception | None) -> None:
            self._settled(key, sent, error, name, to, text)

        if self.screen.interactive:
            self.screen.under_way(key, f"{name}: {self.screen.harmless(text)}")
        try:
            self.client.send(to, text, wait=False, done=done)
        except ClientError as error:
            done(None, error)

    def _settled(
        self, key: object, sent: Sent | None, error: Exception | None, name: str, to: str, text: str
    ) -> None:
        if sent is None and not self.screen.interactive:
            self._exit_code = FAILED
        if self._json:
            if sent is not None:
                self._tell(
                    "sent", session=sent.session_id, seq=sent.seq_id, timestamp=sent.timestamp, to=to, content=text
                )
            else:
                self._tell("failed", to=to, content=text, error=str(error))
        elif sent is None:
            reason = error.text if isinstance(error, Refused) else str(error)
            line = f"not sent ({reason}): {self.screen.harmless(text)}"
            if self.screen.interactive:
                self.screen.settle(key, line)
            else:
                self._note(line)
        elif self.screen.interactive:
            self.screen.settle(key, f"{self._line_of(sent.timestamp, name, text)} {self.screen.dim('✓')}")

    def _history(self, count: int) -> set[tuple[str, int]]:
        """Show the newest messages with the peer; which they were."""
        if not self.peer:
            self.screen.show("of whom? /to NAME")
            return set()
        try:
            found = self.client.history(self.peer, count=min(max(count, 1), HISTORY_MAX))
        except ClientError as error:
            self._note(f"no history: {error}")
            return set()
        for message in reversed(found):
            self.screen.show(self._spelled(message))
        return {(message.session_id, message.seq_id) for message in found}

    def _sessions(self, only_unread: bool = False) -> None:
        try:
            sessions = self.client.hot_sessions()
        except ClientError as error:
            self._note(f"no sessions: {error}")
            return
        for session in sessions:
            if only_unread and not session.unread:
                continue
            members = single_members(session.session_id)
            name = next((m for m in members if m != self.user), self.user) if members else session.session_id
            unread = f" ({session.unread} unread)" if session.unread else ""
            last = self._spelled(session.newest) if session.newest else ""
            self.screen.show(f"{self.screen.colour(name)}{unread}  {last}")
        if not sessions and not only_unread:
            self._note("no conversations yet")


def _is_name(name: str) -> bool:
    return is_group_id(name) or is_user_id(name)
