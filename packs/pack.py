"""One pack: header and payload. On the msgpack wire it is the array `[type, version, flags, packId, payload]`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
"""An int that every codec can carry as int32."""

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""An int that every codec can carry as int64 (JSON would let any number through)."""

VERSION = 1
"""Protocol version that we send; the other side's is kept, not checked."""


class Pack(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A pack. `payload` is canonical (a msgpack map, or empty) except where a codec says otherwise."""

    type: Int32
    version: Int32
    flags: Int64
    pack_id: str
    payload: bytes
