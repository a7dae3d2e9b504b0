"""Receiving from sockets whose peer mostly has yet to send."""

from __future__ import annotations

import os
from typing import Final

import trio

__all__ = ["RECEIVE_BYTES", "read_nowait"]

RECEIVE_BYTES: Final = 65_536
"""What is read at once: others get their turn between two reads."""


def read_nowait(descriptor: int) -> bytes | None:
    """Return what is there to be read; empty at the end of the stream, None where nothing is.

    For use behind `trio.lowlevel.wait_readable`, which lets others run. Trio's own
    `receive_some` reads before it waits, but behind an answered request nothing is there yet:
    that read and its way through Trio took a fifth of a lone request.

    Raises:
        trio.BrokenResourceError: the connection is broken.
    """
    try:
        return os.read(descriptor, RECEIVE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        raise trio.BrokenResourceError from None
