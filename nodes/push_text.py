"""What a push says: from a stored message, or in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from nodes.push_settings import PushSettings
from packs.enums import ContentType
from packs.structs import NO_PUSH_INFO, MsgReq

LONGEST = 1000
"""Characters of content that are looked at; each vendor takes fewer."""
TEXTS = (ContentType.NONE, ContentType.TEXT)
_FIELD = re.compile(r"\{(sender|group|content|count)\}")


class Text(NamedTuple):
    """What is shown, and what a tap opens."""

    title: str
    body: str
    url: str = ""


class Names(NamedTuple):
    """How those are called who stand in a push."""

    sender: str
    group: str


class Wording:
    """Puts texts together from the topology's templates."""

    def __init__(self, settings: PushSettings) -> None:
        self._settings = settings

    def message(self, message: MsgReq, names: Names, content: str) -> Text:
        """A message, with `content` in place of its own when it was overridden. What its sender wrote for pushes
        comes first."""
        own = message.push_info if content == message.content else NO_PUSH_INFO
        text = self._text(names, self._shown(message.content_type, content), 1)
        summary = "" if self._settings.hide_content else own.summary
        return Text(own.title or text.title, summary or text.body, message.push_info.url)

    def several(self, message: MsgReq, names: Names, count: int) -> Text:
        """`count` messages, of which this is the newest."""
        text = self._text(names, self._shown(message.content_type, message.content), count)
        body = self._settings.summary if count != 1 else self._settings.other
        return text._replace(body=_fill(body, {"sender": names.sender, "group": names.group, "count": str(count)}))

    def withdrawn(self, names: Names) -> Text:
        """In place of a message that was revoked."""
        return self._text(names, "", 1)._replace(body=self._settings.withdrawn)

    def unnamed(self, names: Names) -> Text:
        """New messages, however many."""
        return self._text(names, "", 1)._replace(body=self._settings.other)

    def _shown(self, content_type: int, content: str) -> str:
        if self._settings.hide_content or content_type not in TEXTS or not content.strip():
            return self._settings.other
        return content[:LONGEST]

    def _text(self, names: Names, content: str, count: int) -> Text:
        s = self._settings
        title, body = (s.group_title, s.group_body) if names.group else (s.title, s.body)
        if s.hide_content:
            body = "{content}"
        values = {"sender": names.sender, "group": names.group, "content": content, "count": str(count)}
        return Text(_fill(title, values), _fill(body, values))


def _fill(template: str, values: Mapping[str, str]) -> str:
    """In one pass: what is put in is not looked at again."""
    return _FIELD.sub(lambda match: values.get(match[1], ""), template)
