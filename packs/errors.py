"""What is wrong with the other side's bytes.

`BadPack`: the header does not decode, so the connection is closed. `PayloadError`: the payload is refused, so the
request is answered with its code. Nothing else leaves the decoders of this package, whatever the input.
"""

from __future__ import annotations

from packs.codes import Code, describe


class BadPack(Exception):
    """A body whose pack header cannot be decoded; the sender is cut, so the text is for the log only."""


class PayloadError(Exception):
    """A refused payload; `code` and `desc` go into the response and give nothing away."""

    def __init__(self, code: Code, desc: str = "") -> None:
        self.code = code
        self.desc = desc or describe(code)
        super().__init__(f"{self.code.value}: {self.desc}")
