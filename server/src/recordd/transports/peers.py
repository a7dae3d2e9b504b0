"""Who is at the other end of a socket, as far as the system can tell."""

from __future__ import annotations

import socket
import struct
from typing import Final

import trio

from recordd.methods.peer import Peer

__all__ = ["find_address", "find_peer"]

_CREDENTIALS: Final = struct.Struct("3i")
"""Linux's `struct ucred`, unix(7): process, user and group."""


def find_peer(stream: trio.SocketStream, transport: str) -> Peer:
    """Return the peer: its address, or of a Unix socket its user, as of when it connected."""
    return Peer(transport, address=find_address(stream), uid=_find_uid(stream))


def find_address(stream: trio.SocketStream) -> str | None:
    """Return the peer's address; None of a Unix socket, and of a peer that has left."""
    try:
        name = stream.socket.getpeername()
    except OSError:
        return None
    return str(name[0]) if isinstance(name, tuple) else None


def _find_uid(stream: trio.SocketStream) -> int | None:
    """Return the peer's user; None where the system does not tell, as of a TCP socket."""
    if stream.socket.family is not socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    try:
        told = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    uid: int = _CREDENTIALS.unpack(told)[1]
    return uid
