"""`imesh chat USER`: a chat in the terminal, over the SDK."""

from __future__ import annotations

import argparse
import os
import ssl
import sys
import threading
from datetime import datetime
from pathlib import Path

from cli.screen import Screen
from client.client import Client, Sent
from client.errors import ClientError, ConnectionLost, LoginRefused
from client.inbox import Message
from client.store import FileStore, MemoryStore, Store
from mesh.cli import DEFAULT_TOPOLOGY, Subparsers, add_command
from packs.ids import is_group_id, is_user_id, single_members

DEFAULT_SERVER = "127.0.0.1:7100"
SHOWN = 20
"""Messages of history shown when a conversation is opened."""
FINISH_SECONDS = 30.0
"""How long a chat that reads from a pipe waits at its end for the last acks."""
HELP = """\
  text            send it to the one you talk with       @NAME text    send it to somebody else
  /to NAME        talk with somebody else                /history [N]  the last N messages
  /sessions       your conversations                     /quit         leave (Ctrl-D does, too)"""


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    examples = (
        "  imesh chat alice --to bob\n  echo 'the build is green' | imesh chat robot --to alice\n\n"
        "The password or token is taken from --password, else from IMESH_PASSWORD."
    )
    parser = add_command(subparsers, "chat", "chat in the terminal", examples)
    parser.add_argument("user", metavar="USER", help="who you are")
    parser.add_argument("--to", metavar="NAME", help="who you talk with")
    where = f"default: as topology.toml here says, else {DEFAULT_SERVER}"
    parser.add_argument("--server", metavar="HOST:PORT", help=where)
    parser.add_argument("--password", default=os.environ.get("IMESH_PASSWORD", ""), help="password or token")
    parser.add_argument("--tls", action="store_true", help="the server speaks TLS")
    parser.add_argument("--ca", metavar="FILE", help="certificates to trust instead of the system's")
    parser.add_argument("--device", default="terminal", help="device id (default: terminal)")
    parser.add_argument("--data", metavar="DIR", help="keep what was received and what is unsent in this directory")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The command."""
    if options.to and not (is_user_id(options.to) or is_group_id(options.to)):
        print(f"imesh: {options.to} is no user or group id", file=sys.stderr)
        return 2
    return Chat(options).run()


def server_of(topology: Path) -> str:
    """Where the topology in this directory lets clients connect."""
    import tomllib

    try:
        with topology.open("rb") as file:
            listen = str(tomllib.load(file)["node"]["broker"]["listen"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_SERVER
    return DEFAULT_SERVER if listen.endswith(":0") else listen.replace("0.0.0.0", "127.0.0.1")


class Chat:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.peer: str = options.to or ""
        self.user: str = options.user
        self.screen = Screen(sys.stdin, sys.stdout)
        self.over = threading.Event()
        self.exit_code = 0
        self._server = options.server or server_of(Path(DEFAULT_TOPOLOGY))
        tls = ssl.create_default_context(cafile=options.ca) if options.tls or options.ca else None
        store: Store = MemoryStore()
        if options.data:
            Path(options.data).mkdir(parents=True, exist_ok=True)
            store = FileStore(Path(options.data) / f"{options.user}.db")
        self.client = Client(
            self._server, options.user, options.password, device_id=options.device, tls=tls, store=store,
            on_message=self._received, on_event=self._event, catch_up=bool(options.data),
        )  # fmt: skip
        self._told_lost = False

    def run(self) -> int:
        if not self._connect():
            return 1
        if self.screen.interactive:
            self._welcome()
        try:
            for line in self.screen.lines(self._prompt):
                if self.over.is_set() or not self._line(line.strip()):
                    break
        except KeyboardInterrupt:
            self.screen.show("")
        finally:
            self._finish()
        return self.exit_code

    def _connect(self) -> bool:
        told = False
        while True:
            try:
                self.client.connect(timeout=10)
                return True
            except LoginRefused as error:
                print(f"imesh: {error.text} ({error.code})", file=sys.stderr)
                return False
            except ConnectionLost:
                if not told:
                    print(f"no imesh on {self._server}: start it with `imesh up`; trying again …", file=sys.stderr)
                    told = True
                if not self.screen.interactive:
                    return False
                try:
                    self.over.wait(1.0)
                except KeyboardInterrupt:
                    return False
                self.client.reopen()

    def _finish(self) -> None:
        if not self.screen.interactive and not self.over.is_set():
            for _ in range(int(FINISH_SECONDS / 0.05)):
                if not self.client.unacknowledged:
                    break
                self.over.wait(0.05)
            else:
                print(f"imesh: {self.client.unacknowledged} messages were not acknowledged", file=sys.stderr)
                self.exit_code = 1
        self.client.close()
        self.screen.close()

    # ---- what is shown

    def _prompt(self) -> str:
        return f"{self.peer or 'nobody'}> "

    def _welcome(self) -> None:
        self.screen.show(self.screen.dim(f"You are {self.user}, on {self._server}. /help shows what you can do."))
        self._sessions(only_unread=True)
        if self.peer:
            self._history(SHOWN)
        else:
            self.screen.show(self.screen.dim("Who do you talk with? /to NAME"))

    def _received(self, message: Message) -> None:
        self.screen.show(self._spell(message))

    def _spell(self, message: Message, mark: str = "") -> str:
        at = datetime.fromtimestamp(message.timestamp / 1000)
        clock = at.strftime("%H:%M" if at.date() == datetime.now().date() else "%Y-%m-%d %H:%M")
        name = "you" if message.sender == self.user else message.sender
        if self.user not in (message.sender, message.to):
            name += f" in {message.to}"
        text = self.screen.harmless(message.content)
        return f"{self.screen.dim(clock)} {self.screen.colour(name)}: {text}{mark}"

    def _event(self, name: str, detail: str) -> None:
        if name == "disconnected":
            self._told_lost = True
            self.screen.show(self.screen.dim("the connection is lost; reconnecting …"))
        elif name == "connected" and self._told_lost:
            self._told_lost = False
            self.screen.show(self.screen.dim("connected again"))
        elif name == "kicked":
            self.screen.show("You logged in elsewhere with the same kind of device; this chat is over.")
            self.exit_code = 1
            self.over.set()
            self.screen.interrupt()

    # ---- what is typed

    def _line(self, line: str) -> bool:
        """One line; False ends the chat."""
        if not line:
            return True
        if not line.startswith("/"):
            self._send(line)
            return True
        command, _, rest = line.partition(" ")
        rest = rest.strip()
        if command in ("/quit", "/exit"):
            return False
        if command == "/to":
            self._talk_with(rest)
        elif command == "/history":
            self._history(int(rest) if rest.isdigit() else SHOWN)
        elif command == "/sessions":
            self._sessions()
        elif command == "/help":
            self.screen.show(HELP)
        else:
            self.screen.show(f"no command {command}; /help shows all")
        return True

    def _talk_with(self, name: str) -> None:
        if not (is_user_id(name) or is_group_id(name)):
            self.screen.show("say with whom: /to NAME")
            return
        self.peer = name
        if self.screen.interactive:
            self._history(SHOWN)

    def _send(self, line: str) -> None:
        to, text = self.peer, line
        if line.startswith("@"):
            to, _, text = line[1:].partition(" ")
        if not text.strip() or not (is_user_id(to) or is_group_id(to)):
            self.screen.show("to whom? /to NAME, or @NAME text")
            return

        def done(sent: Sent | None, error: Exception | None) -> None:
            if sent is not None:
                if self.screen.interactive:
                    clock = datetime.fromtimestamp(sent.timestamp / 1000).strftime("%H:%M")
                    name = "you" if to == self.peer else f"you to {to}"
                    row = f"{self.screen.dim(clock)} {self.screen.colour(name)}: {self.screen.harmless(text)}"
                    self.screen.show(f"{row} {self.screen.dim('✓')}")
            elif not self.over.is_set():
                self.screen.show(f"not sent ({error}): {self.screen.harmless(text)}")
                self.exit_code = self.exit_code or (0 if self.screen.interactive else 1)

        self.client.send(to, text, wait=False, done=done)

    def _history(self, count: int) -> None:
        if not self.peer:
            self.screen.show("of whom? /to NAME")
            return
        try:
            found = self.client.history(self.peer, count=min(max(count, 1), 200))
        except ClientError as error:
            self.screen.show(f"no history: {error}")
            return
        for message in reversed(found):
            self.screen.show(self._spell(message))

    def _sessions(self, only_unread: bool = False) -> None:
        try:
            sessions = self.client.hot_sessions()
        except ClientError as error:
            self.screen.show(f"no sessions: {error}")
            return
        for session in sessions:
            if only_unread and not session.unread:
                continue
            members = single_members(session.session_id)
            name = next((m for m in members if m != self.user), self.user) if members else session.session_id
            last = self._spell(session.newest) if session.newest else ""
            unread = f" ({session.unread} unread)" if session.unread else ""
            self.screen.show(f"{self.screen.colour(name)}{unread}  {last}")
