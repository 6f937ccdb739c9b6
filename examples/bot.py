"""A bot: it repeats what it is told, rolls dice, and in groups speaks only when it is mentioned.

    imesh up &
    python examples/bot.py robot 127.0.0.1:7100
    imesh chat alice --to robot                  # say hello, /roll 20
"""

import random
import sys

from client.client import Client
from client.errors import Refused
from client.events import Message

HELP = "Say anything and I repeat it. /roll [SIDES] rolls a die, /help shows this."


def answer(text: str) -> str:
    """What there is to say to a text."""
    command, _, rest = text.partition(" ")
    if command == "/help":
        return HELP
    if command == "/roll":
        sides = int(rest) if rest.isdecimal() and int(rest) else 6
        return f"🎲 {random.randint(1, sides)}"
    return text


def addressed(message: Message, me: str) -> bool:
    """Whether a message wants an answer from the bot."""
    at_me = me in message.mentions or message.content.startswith(f"@{me} ")
    return message.sender != me and not message.revoked and (at_me or not message.in_group)


def main(me: str, address: str) -> None:
    with Client(address, me, device_id="bot") as bot:
        print(f"{me} is here", flush=True)
        for message in bot.messages():
            if addressed(message, me):
                text = answer(message.content.removeprefix(f"@{me} "))
                try:
                    bot.send(message.to if message.in_group else message.sender, text)
                except Refused as error:
                    print(f"{message.sender} gets no answer: {error.text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
