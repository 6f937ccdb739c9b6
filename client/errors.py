"""What can go wrong at a client.

    ClientError
      ConnectionLost    there is no connection, or it broke before the answer; for sends the outbox tries again
      LoginRefused      the server does not let this user in: code and text
      Refused           a request was answered with an error code: it did not happen
      NotAnswered       no answer in time: it may have happened
      OutboxFull        more messages wait for their acknowledgement than the client keeps: send slower
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of all."""


class ConnectionLost(ClientError):
    """No connection, or it broke before the answer came."""


class NotAnswered(ClientError):
    """No answer in time; the outcome is unknown."""


class OutboxFull(ClientError):
    """The message was not taken: too many wait for their acknowledgement."""


class Refused(ClientError):
    """The server said no. `code` as in the protocol, `text` for people, `retry_after` in ms (0: never)."""

    def __init__(self, code: int, text: str, retry_after: int = 0) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text
        self.retry_after = retry_after


class LoginRefused(Refused):
    """The login was refused."""
