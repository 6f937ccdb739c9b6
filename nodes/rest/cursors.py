"""Cursors of pages."""

from __future__ import annotations

from webapi.exchange import ApiError


def number_of(cursor: str) -> int:
    """A cursor that is a number; 0 for the first page. Raises `ApiError` 422."""
    if not cursor:
        return 0
    if not (cursor.isdecimal() and cursor.isascii() and len(cursor) < 17):
        raise ApiError(422, "param", "no page ends with this cursor", field="cursor")
    return int(cursor)
