"""Sending to peers that may be slow, stuck or gone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

import trio

__all__ = [
    "COPIED_BYTES",
    "LARGE_BYTES",
    "PIECE_BYTES",
    "linger",
    "send_all_or_give_up",
    "send_in_pieces",
    "write_nowait",
    "writev_nowait",
]

PIECE_BYTES: Final = 65_536
"""A large answer goes out in pieces, so that a slow peer that takes some is not a dead one."""

COPIED_BYTES: Final = 4 << 20
"""What is longer is sent from where it is: each copy of it would stop the loop for a while."""

LARGE_BYTES: Final = 16_384
"""A single message from here on goes out from where it is: to join it with its frame or line end
would take longer (10 µs for 150 kB) than a write of two parts (0.3 µs)."""

_LINGER_S: Final = 1.0
_LINGER_BYTES: Final = 16 << 20


def writev_nowait(descriptor: int, parts: Sequence[bytes]) -> int:
    """Do as `write_nowait` with parts of one text, without joining them."""
    try:
        return os.writev(descriptor, parts)
    except BlockingIOError:
        return 0
    except OSError:
        raise trio.BrokenResourceError from None


def write_nowait(descriptor: int, data: bytes | memoryview) -> int:
    """Write what a socket takes at once; return how much that was.

    That needs no pass of the loop: Trio's own send takes one in any case, which made a lone
    request a fifth slower. Who keeps the descriptor of a stream puts `CLOSED` there before the
    stream is closed. To ask the stream each time costs 0.2 µs, a tenth of an event.

    Raises:
        trio.BrokenResourceError: the peer will take no more.
    """
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0
    except OSError:
        raise trio.BrokenResourceError from None


async def send_in_pieces(
    stream: trio.abc.SendStream, data: bytes, note_progress: Callable[[], None]
) -> bool:
    """Send `data`, noting each piece that is out; return False when the peer is gone.

    After False, or cancelled, an unknown part was sent: the stream is of no more use.
    """
    try:
        if len(data) <= PIECE_BYTES:
            await stream.send_all(data)
            return True
        for start in range(0, len(data), PIECE_BYTES):
            await stream.send_all(data[start : start + PIECE_BYTES])
            note_progress()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return False
    return True


async def send_all_or_give_up(stream: trio.abc.SendStream, data: bytes, timeout_s: float) -> bool:
    """Send `data`; return False when the peer is gone, or has not taken it in `timeout_s`."""
    with trio.move_on_after(timeout_s):
        return await send_in_pieces(stream, data, lambda: None)
    return False


async def linger(stream: trio.SocketStream) -> None:
    """Read on for a moment after a last answer.

    To close with input unread resets the connection, and the peer, still sending, might
    lose the answer that says why.
    """
    received = 0
    with trio.move_on_after(_LINGER_S):
        try:
            await stream.send_eof()
            while received < _LINGER_BYTES and (data := await stream.receive_some(65_536)):
                received += len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
