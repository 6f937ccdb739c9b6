"""How a chat spells things."""

from __future__ import annotations

from datetime import datetime

from cli.names import Names
from cli.screen import Screen
from client.devices import Device
from client.errors import Refused
from client.events import Changed, Message, Presence
from client.sessions import peer_of
from client.view import Conversation
from packs.codes import describe
from packs.enums import DeviceType

KINDS = {
    DeviceType.IOS: "iOS", DeviceType.ANDROID: "Android", DeviceType.MACOS: "macOS", DeviceType.WINDOWS: "Windows",
    DeviceType.LINUX: "Linux", DeviceType.WEB: "web",
}  # fmt: skip


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
        return f"{self._screen.dim(_clock(timestamp))} {self._screen.colour(name)}: {text}"

    def change(self, change: Changed, here: str) -> str:
        """That a message, which cannot be seen any more, was changed."""
        who = "you" if change.operator == self._user else change.operator or "somebody"
        where = "" if change.session_id == here else f" with {self.name(peer_of(self._user, change.session_id))}"
        if change.how == "edited":
            return f"{self._screen.colour(who)} edited a message{where}: {self._screen.harmless(change.content)}"
        return f"{self._screen.colour(who)} {change.how} a message{where}"

    def presence(self, presence: Presence) -> str:
        """Whether somebody is there, and on what."""
        if presence.online:
            kinds = ", ".join(_kind(number) for number in presence.device_types)
            return f"{self._screen.colour(presence.user)} is online" + (f" ({kinds})" if kinds else "")
        seen = f", last seen {_clock(presence.last_seen)}" if presence.last_seen else ""
        return f"{self._screen.colour(presence.user)} is not online, as far as you may know{seen}"

    def device(self, device: Device) -> str:
        """A device of one's own, with the number that commands know it by."""
        seen = f"last seen {_clock(device.last_seen)}" if device.last_seen else "offline"
        state = "online" if device.online else seen
        name = self._screen.harmless(f"{device.name} {device.device_id}".strip())
        return f"{device.device_type}  {_kind(device.device_type)}  {name}, {state}"

    def name(self, name: str) -> str:
        """A user or group, as it is called."""
        return self._screen.harmless(self._names.title(name))


def _clock(timestamp: int) -> str:
    at = datetime.fromtimestamp(timestamp / 1000)
    return at.strftime("%H:%M" if at.date() == datetime.now().date() else "%Y-%m-%d %H:%M")


def _kind(device_type: int) -> str:
    try:
        return KINDS[DeviceType(device_type)]
    except (ValueError, KeyError):
        return f"kind {device_type}"


def reason(error: Exception) -> str:
    """Why something did not happen, in plain words."""
    if isinstance(error, Refused):
        return error.text or describe(error.code)
    return str(error)
