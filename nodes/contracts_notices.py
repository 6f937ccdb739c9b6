"""What is called for apps to change what they have told users. Sending it is `Notices` in nodes/contracts.py."""

from __future__ import annotations

from typing import Protocol

from mesh.contract import call, contract
from nodes.contracts import ANSWER_SECONDS


@contract
class NoticeControls(Protocol):
    """Controls (17) that apps make of their notices."""

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def control_notice(
        self, app: str, user: str, seq: int, pack_id: str, command: int, content: str, request: str
    ) -> None:
        """Revoke (1), override (2, with `content`) or delete (3) the notice that has both `seq` and `pack_id`, as the
        sender of a message may. `request` is the packId of the control. Raises `AppError`."""
        ...
