"""What a client asks to follow."""

from __future__ import annotations

import msgspec

from recordd_protocol.patterns import Pattern

__all__ = ["Opening"]


class Opening(msgspec.Struct, frozen=True):
    """What is to be followed, from where, and whether every update has to come.

    `after_rev` is the last rev of `epoch` that the client has seen, None where it begins
    with what is current. Without `late` no late row comes, but of rings.
    """

    pattern: Pattern
    snapshot: bool
    after_rev: int | None
    epoch: str | None
    every: bool
    late: bool = True
