"""How a chat spells things."""

from __future__ import annotations

from datetime import datetime

from cli.names import Names
from cli.screen import Screen
from client.errors import Refused
from client.events import Changed, Message
from client.sessions import peer_of
from client.view import Conversation
from packs.codes import describe


class Text:
    """As one user reads it."""

    def __init__(self, user: str, screen: Screen, names: Names) -> None:
        self._user = user
        self._screen = screen
        self._names = names

    def message(self, message: Message, here: str, conversation: Conversation | None = None) -> str:
        """A message; `here` is the session that is open, and needs not be named."""
        mine = message.sender == self._user
        name = "you" if mine else message.sender
        if message.session_id != here:
            if message.in_group:
                name += f" in {self.name(message.session_id)}"
            elif mine:
                name += f" to {message.to}"
        return self.line(message.timestamp, name, self.content(message) + self._mark(message, conversation))

    def gone(self, message: Message) -> str:
        """In the place of a message that was deleted."""
        mine = message.sender == self._user
        return self.line(message.timestamp, "you" if mine else message.sender, self._screen.dim("(deleted)"))

    def content(self, message: Message) -> str:
        """What it says, unable to command the terminal."""
        if message.revoked:
            return self._screen.dim("(revoked)")
        edited = " " + self._screen.dim("(edited)") if message.edited else ""
        return self._screen.harmless(message.content) + edited

    def _mark(self, message: Message, conversation: Conversation | None) -> str:
        if message.sender != self._user or conversation is None:
            return ""
        return " " + self._screen.dim("✓ read" if 0 < message.seq_id <= conversation.peer_read else "✓")

    def line(self, timestamp: int, name: str, text: str) -> str:
        """A line that somebody said; `text` as it is."""
        at = datetime.fromtimestamp(timestamp / 1000)
        clock = at.strftime("%H:%M" if at.date() == datetime.now().date() else "%Y-%m-%d %H:%M")
        return f"{self._screen.dim(clock)} {self._screen.colour(name)}: {text}"

    def change(self, change: Changed, here: str) -> str:
        """That a message, which cannot be seen any more, was changed."""
        who = "you" if change.operator == self._user else change.operator or "somebody"
        where = "" if change.session_id == here else f" with {self.name(peer_of(self._user, change.session_id))}"
        if change.how == "edited":
            return f"{self._screen.colour(who)} edited a message{where}: {self._screen.harmless(change.content)}"
        return f"{self._screen.colour(who)} {change.how} a message{where}"

    def name(self, name: str) -> str:
        """A user or group, as it is called."""
        return self._screen.harmless(self._names.title(name))


def reason(error: Exception) -> str:
    """Why something did not happen, in plain words."""
    if isinstance(error, Refused):
        return error.text or describe(error.code)
    return str(error)
