"""Receiving from sockets whose peer mostly has yet to send."""

from __future__ import annotations

import os
from typing import Final

import trio

__all__ = ["RECEIVE_BYTES", "receive_waiting"]

RECEIVE_BYTES: Final = 65_536
"""What is read at once: others get their turn between two reads."""


async def receive_waiting(stream: trio.SocketStream) -> bytes:
    """Wait until something has come, and return it; empty at the end of the stream.

    Trio's own reads before it waits. Behind an answered request nothing is there yet: that read
    and its way through Trio took 5 of the 25 µs of a lone request. Others run before this
    returns, also where something is there already. Cancelled, nothing was read.

    Raises:
        trio.BrokenResourceError: the connection is broken.
    """
    descriptor = stream.socket.fileno()
    while True:
        await trio.lowlevel.wait_readable(descriptor)
        try:
            return os.read(descriptor, RECEIVE_BYTES)
        except BlockingIOError:  # what woke us is gone again
            continue
        except OSError:
            raise trio.BrokenResourceError from None
