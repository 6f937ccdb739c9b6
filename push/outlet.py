"""An outlet: one app at one vendor, and what governs its pace."""

from __future__ import annotations

from collections.abc import Sequence

from push.flow import Breaker, DeadTokens, Throttle
from push.model import Outcome, Push, Verdict
from push.vendor import Vendor

THROTTLED_SECONDS = 1.0
"""How long nothing is sent after the vendor said that it was too fast, when it does not say for how long."""
RESTING = Verdict(Outcome.UNREACHABLE, "resting")


class Outlet:
    """Calls to one vendor for one app: not too fast, not while the vendor is down."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.name = f"{vendor.app.name}/{vendor.name}"
        self.breaker = Breaker()
        self.dead = DeadTokens()
        self._throttle = Throttle(vendor.settings.per_second or vendor.per_second)

    def calls(self, pushes: Sequence[Push]) -> list[list[int]]:
        """How these go into calls: positions of those in each. A token is in a call once."""
        most, shared = self.vendor.batch, self.vendor.shared
        if most == 1:
            return [[n] for n in range(len(pushes))]
        open_: dict[object, tuple[list[int], set[str]]] = {}
        found: list[list[int]] = []
        for number, push in enumerate(pushes):
            key = shared(push)
            held = open_.get(key)
            if held is None or len(held[0]) >= most or push.token in held[1]:
                held = open_[key] = ([], set())
                found.append(held[0])
            held[0].append(number)
            held[1].add(push.token)
        return found

    def call(self, pushes: Sequence[Push]) -> list[Verdict]:
        """Make a call, when its time has come: what became of each. Blocks. While the vendor is left alone, none is
        made."""
        self._throttle.wait()
        if self.breaker.seconds:
            return [RESTING] * len(pushes)
        verdicts = self.vendor.send(pushes)
        self.breaker.note(verdicts)
        pauses = [v.retry_after or THROTTLED_SECONDS for v in verdicts if v.outcome is Outcome.THROTTLED]
        if pauses:
            self._throttle.pause(max(pauses))
        return verdicts

    def close(self) -> None:
        self.vendor.close()
