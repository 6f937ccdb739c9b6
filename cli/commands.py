"""What can be typed in a chat after a slash: one table of commands, each with its own help."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from cli.text import reason
from client.errors import ClientError
from client.events import Message
from client.sessions import session_of
from packs.enums import JoinMode
from packs.ids import is_group_id

if TYPE_CHECKING:
    from cli.chat import Chat

SHOWN = 20
"""Messages of history shown when a conversation is opened."""
HISTORY_MAX = 200
"""Messages in one page."""
_MODES = {JoinMode.MEMBERS: "members add others", JoinMode.OWNER: "the owner adds", JoinMode.OPEN: "anyone may join"}


class Wrong(Exception):
    """What was typed cannot be done; the text says why."""


class Command(NamedTuple):
    usage: str
    help: str
    run: Callable[[Chat, str], None]


COMMANDS: dict[str, Command] = {}
"""By name, without the slash."""


def command(usage: str, text: str) -> Callable[[Callable[[Chat, str], None]], Callable[[Chat, str], None]]:
    """Mark a function as the command that `usage` begins with."""

    def mark(function: Callable[[Chat, str], None]) -> Callable[[Chat, str], None]:
        COMMANDS[usage.split()[0]] = Command(usage, text, function)
        return function

    return mark


def run(chat: Chat, line: str) -> None:
    """Do what a line that begins with a slash says; what goes wrong is said in plain words."""
    name, _, rest = line[1:].partition(" ")
    found = COMMANDS.get(name)
    if found is None:
        chat.fail(f"no command /{name}; /help shows all")
        return
    try:
        found.run(chat, rest.strip())
    except Wrong as error:
        chat.fail(f"{error}" if str(error) else f"/{found.usage}")
    except ClientError as error:
        chat.fail(f"not done: {reason(error)}")
    except ValueError as error:
        chat.fail(str(error))


def help_text() -> str:
    width = max(len(c.usage) for c in COMMANDS.values()) + 3
    lines = [f"  {'text':{width}}say it", f"  {'@NAME text':{width}}say it to somebody else"]
    lines += [f"  {'/' + c.usage:{width}}{c.help}" for c in COMMANDS.values()]
    return "\n".join([*lines, "Tab completes commands and names. //text says what begins with a slash."])


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _users(chat: Chat, text: str) -> list[str]:
    users = _words(text)
    if not users:
        raise Wrong
    chat.names.meet(users)
    return users


def _group(chat: Chat) -> str:
    if not is_group_id(chat.peer):
        raise Wrong("this is no group; /to GROUP first")
    return chat.peer


def _peer(chat: Chat) -> str:
    if not chat.peer:
        raise Wrong("with whom? /to NAME first")
    return chat.peer


def _one(chat: Chat, text: str) -> str:
    users = _users(chat, text)
    if len(users) != 1:
        raise Wrong
    return users[0]


# ---- conversations


@command("help", "this")
def _help(chat: Chat, rest: str) -> None:
    chat.screen.show(help_text())


@command("to [NAME]", "talk with somebody, or in a group; alone: your conversations")
def _to(chat: Chat, rest: str) -> None:
    if rest:
        chat.talk_with(rest)
    else:
        chat.show_sessions()


@command("sessions", "your conversations, and how much of them is unread")
def _sessions(chat: Chat, rest: str) -> None:
    chat.show_sessions()


@command("history [N]", "the last N messages")
def _history(chat: Chat, rest: str) -> None:
    _peer(chat)
    if rest and not rest.isdecimal():
        raise Wrong
    chat.show_history(min(max(int(rest or SHOWN), 1), HISTORY_MAX))


@command("search TEXT", "messages anywhere that have these words, the newest last")
def _search(chat: Chat, rest: str) -> None:
    if not rest:
        raise Wrong
    chat.show_found(rest, SHOWN)


@command("read", "everything here is read")
def _read(chat: Chat, rest: str) -> None:
    chat.client.mark_read(_peer(chat))


@command("mute [off]", "do not disturb here")
def _mute(chat: Chat, rest: str) -> None:
    if rest not in ("", "on", "off"):
        raise Wrong
    chat.client.sessions.mute(_peer(chat), rest != "off")
    chat.done("unmuted" if rest == "off" else "muted")


# ---- messages


def _chosen(chat: Chat, rest: str) -> tuple[Message, str]:
    """Which message is meant, and what else was typed: -N counts back from the newest; without it one's own last."""
    session = session_of(chat.user, _peer(chat))
    number, _, text = rest.partition(" ")
    counted = number.startswith("-") and number[1:].isdecimal() and number != "-0"
    held = chat.messages_of(session)
    if counted:
        if len(held) < int(number[1:]):
            held = list(reversed(chat.client.history(session, count=HISTORY_MAX)))
        if len(held) < int(number[1:]):
            raise Wrong("there are not so many messages")
        return held[-int(number[1:])], text.strip()
    if not any(m.sender == chat.user for m in held):
        held = list(reversed(chat.client.history(session, count=HISTORY_MAX)))
    for message in reversed(held):
        if message.sender == chat.user and not message.revoked:
            return message, rest
    raise Wrong("you have said nothing here")


def _only_chosen(chat: Chat, rest: str) -> Message:
    """A message of mine, with nothing said behind it."""
    message, text = _chosen(chat, rest)
    if text:
        raise Wrong
    return message


@command("revoke [-N]", "take your last message back (-N: the last but N-1 of all)")
def _revoke(chat: Chat, rest: str) -> None:
    message = _only_chosen(chat, rest)
    chat.client.revoke(message)
    chat.changed_here(message, "revoked")


@command("edit [-N] TEXT", "say something else instead")
def _edit(chat: Chat, rest: str) -> None:
    message, text = _chosen(chat, rest)
    if not text:
        raise Wrong
    chat.client.edit(message, text)
    chat.changed_here(message, "edited", text)


@command("delete [-N]", "remove it without a trace")
def _delete(chat: Chat, rest: str) -> None:
    message = _only_chosen(chat, rest)
    chat.client.delete(message)
    chat.changed_here(message, "deleted")


# ---- groups


@command("group [create NAME [USER …] | info | join ID]", "your groups; make one; what this is; join one")
def _groups(chat: Chat, rest: str) -> None:
    what, *words = _words(rest) or [""]
    if what == "create" and words:
        group = chat.client.groups.create(words[0], words[1:])
        chat.names.fetch_groups()
        chat.done(f"{words[0]} is {group}")
        chat.talk_with(group)
    elif what == "info" and not words:
        _group_info(chat, _group(chat))
    elif what == "join" and len(words) == 1:
        chat.client.groups.add(words[0], [chat.user])
        chat.names.fetch_groups()
        chat.talk_with(words[0])
    elif what == "" and not words:
        for found in chat.names.fetch_groups():
            chat.screen.show(f"{chat.screen.harmless(found.name)}  {found.group_id}")
    else:
        raise Wrong


def _group_info(chat: Chat, group: str) -> None:
    found = chat.client.groups.get(group)
    if found is None:
        raise Wrong("you are not in this group")
    harmless = chat.screen.harmless
    members = len(chat.client.groups.members(group))
    chat.screen.show(f"{harmless(found.name)} ({group}), owned by {found.owner}, {members} of {found.limit} members")
    chat.screen.show(f"{_MODES[found.join_mode]}. {harmless(found.description)}".rstrip())


@command("members", "who is in this group")
def _members(chat: Chat, rest: str) -> None:
    members = chat.client.groups.members(_group(chat))
    chat.names.meet(members)
    chat.screen.show("  ".join(chat.screen.colour(member) for member in members))


@command("invite USER …", "add members to this group")
def _invite(chat: Chat, rest: str) -> None:
    users = _users(chat, rest)
    chat.client.groups.add(_group(chat), users)


@command("kick USER …", "remove members from this group")
def _kick(chat: Chat, rest: str) -> None:
    users = _users(chat, rest)
    chat.client.groups.remove(_group(chat), users)


@command("leave", "leave this group")
def _leave(chat: Chat, rest: str) -> None:
    chat.client.groups.remove(_group(chat), [chat.user])
    chat.left()


@command("dismiss", "end this group, which you own")
def _dismiss(chat: Chat, rest: str) -> None:
    chat.client.groups.dismiss(_group(chat))
    chat.left()


@command("handover USER", "make a member the owner of this group")
def _hand_over(chat: Chat, rest: str) -> None:
    user = _one(chat, rest)
    chat.client.groups.hand_over(_group(chat), user)


@command("rename NAME", "call this group something else")
def _rename(chat: Chat, rest: str) -> None:
    if not rest:
        raise Wrong
    chat.client.groups.update(_group(chat), name=rest)
    chat.names.fetch_groups()


# ---- people


@command("friends", "your friends, and who asks to be one")
def _friends(chat: Chat, rest: str) -> None:
    friends = chat.client.friends.list()
    for user in chat.client.friends.requests():
        chat.screen.show(f"{chat.screen.colour(user)} asks to be your friend: /accept or /decline {user}")
    for friend in friends:
        remark = f"  {chat.screen.harmless(friend.remark)}" if friend.remark else ""
        chat.screen.show(chat.screen.colour(friend.user) + remark)
    if not friends:
        chat.screen.show("no friends yet; /add USER")


@command("add USER [REMARK]", "make friends; the remark is yours alone")
def _add(chat: Chat, rest: str) -> None:
    user, _, remark = rest.partition(" ")
    chat.client.friends.add(_one(chat, user), remark.strip())
    chat.names.refresh("friends")


@command("accept USER", "be friends with somebody who asks for it")
def _accept(chat: Chat, rest: str) -> None:
    chat.client.friends.accept(_one(chat, rest))
    chat.names.refresh("friends")


@command("decline USER", "do not")
def _decline(chat: Chat, rest: str) -> None:
    chat.client.friends.decline(_one(chat, rest))


@command("unfriend USER", "be friends no more")
def _unfriend(chat: Chat, rest: str) -> None:
    chat.client.friends.delete(_one(chat, rest))
    chat.names.refresh("friends")


@command("block [USER …]", "hear no more of somebody; alone: whom you have blocked")
def _block(chat: Chat, rest: str) -> None:
    if rest:
        chat.client.friends.block(_users(chat, rest))
    else:
        chat.screen.show("  ".join(chat.client.friends.blocked()) or "you have blocked nobody")


@command("unblock USER …", "undo that")
def _unblock(chat: Chat, rest: str) -> None:
    chat.client.friends.unblock(_users(chat, rest))


@command("who [USER …]", "who of your friends is online; or whether these are")
def _who(chat: Chat, rest: str) -> None:
    found = chat.client.presence.get(_words(rest))
    for presence in found:
        chat.screen.show(chat.feed.text.presence(presence))
    if not found:
        chat.screen.show("none of your friends is online")


@command("me [NAME]", "who you are; what you are called")
def _me(chat: Chat, rest: str) -> None:
    (mine,) = chat.client.profiles.get([chat.user])
    if rest:
        chat.client.profiles.update(name=rest, avatar=mine.avatar, mobile=mine.mobile, birthday=mine.birthday)
    else:
        chat.screen.show(f"{chat.user}  {chat.screen.harmless(mine.name)}".rstrip())


@command("devices [kick N]", "where you are logged in; log one out, by its number there")
def _devices(chat: Chat, rest: str) -> None:
    devices = sorted(chat.client.devices.list(), key=lambda device: device.device_type)
    what, *number = _words(rest) or [""]
    if what == "kick" and len(number) == 1:
        chosen = [device for device in devices if str(device.device_type) == number[0]]
        if not chosen:
            raise Wrong(f"no device {number[0]}; /devices shows all")
        chat.client.devices.kick(chosen[0])
    elif what == "":
        for device in devices:
            chat.screen.show(chat.feed.text.device(device))
    else:
        raise Wrong


@command("quit", "leave (Ctrl-D and Ctrl-C do, too)")
def _quit(chat: Chat, rest: str) -> None:
    chat.quit()
