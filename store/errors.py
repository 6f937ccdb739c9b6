"""What can go wrong with a store."""

from __future__ import annotations


class StoreError(Exception):
    """Base. `ran`: whether the command may have been executed."""

    ran = "maybe"


class StoreUnavailable(StoreError):
    """No answer within the deadline, or the connection died: what was under way may have happened."""


class StoreRefused(StoreError):
    """Redis answered with an error (out of memory, read-only replica, wrong type ...)."""

    ran = "no"
