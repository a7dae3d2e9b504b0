"""Who is at the other end."""

from __future__ import annotations

import msgspec

__all__ = ["Peer"]


class Peer(msgspec.Struct, frozen=True):
    """By which transport somebody asks, and from which address or as which user, where known."""

    transport: str
    address: str | None = None
    uid: int | None = None

    def __str__(self) -> str:
        return self.transport
