"""A vendor for development: a push is a line in the log. A token that begins with `dead` is one that vendors refuse."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from push.model import Outcome, Push, Verdict
from push.vendor import Request, Vendor

_log = logging.getLogger("push.log")


class Log(Vendor):
    """Writes what it would push, but not the text: titles and bodies are no matter for logs."""

    name = "log"
    batch = 100
    per_second = 10_000.0

    def attempt(self, pushes: Sequence[Push], credential: str) -> list[Verdict]:
        verdicts = []
        for token, n in pushes:
            dead = token.startswith("dead")
            verdicts.append(Verdict(Outcome.DEAD, "dead") if dead else Verdict(Outcome.ACCEPTED, id=n.id))
            _log.warning(
                "pushed id=%s app=%s collapse=%s badge=%d title=%d body=%d dead=%s",
                n.id, self.app.name, n.collapse, n.badge, len(n.title), len(n.body), dead,
            )  # fmt: skip
        return verdicts

    def preview(self, push: Push) -> Request:
        return Request("", {}, msgspec.json.encode(push.notification))
