"""What one connection still has to be sent: filled without waiting, emptied in order.

Two tasks may empty it, one at a time. The connection's reading task sends the answers of
what it has just handled itself: to wake another task for them costs more than the rest of
a request (measured: 97 µs instead of 46 µs for one line there and back). Everything else,
such as the answer to a write that was committed meanwhile, is sent by a task that waits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

__all__ = ["Outbox", "Send"]

Send = Callable[[list[bytes], Callable[[], None]], Awaitable[bool]]
"""Sends whole messages in order, calling the function whenever the peer has taken something;
returns False when the peer will take no more."""


class Outbox:
    """Whole messages on their way out. Bounded by `wait_room`, which readers respect."""

    def __init__(self, max_bytes: int, send: Send) -> None:
        self._max_bytes: Final = max_bytes
        self._send: Final = send
        self._messages: list[bytes] = []
        self._size = 0
        self._in_transit = 0
        self._is_held = False
        self._is_closed = False
        self._sending_since = math.inf
        self._wakeup = trio.Event()
        self._changed: Final = trio.lowlevel.ParkingLot()

    @property
    def is_over(self) -> bool:
        """Whether more than the limit waits to be sent."""
        return self._size + self._in_transit > self._max_bytes

    def put(self, message: bytes) -> None:
        """Add a message; one that comes after `close` is dropped, for nobody is there."""
        if not self._is_closed:
            self._messages.append(message)
            self._size += len(message)
            if not self._is_held:
                self._wakeup.set()

    def hold(self) -> None:
        """Wake nobody for what is put from now on: the caller will `flush` or `release`."""
        self._is_held = True

    def release(self) -> None:
        """End `hold` without sending, as before anything that may wait."""
        self._is_held = False
        if self._messages:
            self._wakeup.set()

    async def flush(self) -> None:
        """Send what is there, unless another task is at it and will go on with this.

        Cancelled, an unknown part was sent: the connection is of no more use.
        """
        self._is_held = False
        if self._in_transit:
            self._wakeup.set()
        elif self._messages:
            await self._send_all()

    async def run(self) -> None:
        """Send what nobody flushes, until the outbox is closed and empty; one task's work."""
        while not (self._is_closed and not self._messages and not self._in_transit):
            await self._wakeup.wait()
            while self._in_transit:
                await self._changed.park()
            if self._messages:
                await self._send_all()
            elif not self._is_closed:
                self._wakeup = trio.Event()

    async def wait_room(self) -> None:
        """Wait until no more than the limit waits to be sent."""
        while self.is_over:
            await self._changed.park()

    def stuck_for_s(self) -> float:
        """Return for how long the peer has taken nothing of what is being sent."""
        return time.monotonic() - self._sending_since

    def close(self) -> None:
        """Let `run` send what is left and return; nothing can be put any more."""
        self._is_closed = True
        self._wakeup.set()

    def discard(self) -> None:
        """Close, and drop what is left: the peer will not take it."""
        self._messages = []
        self._size = 0
        self.close()
        self._changed.unpark_all()

    def _note_progress(self) -> None:
        self._sending_since = time.monotonic()

    async def _send_all(self) -> None:
        messages, self._messages = self._messages, []
        self._in_transit, self._size = self._size, 0
        self._note_progress()
        try:
            if not await self._send(messages, self._note_progress):
                self.discard()
        finally:
            self._in_transit = 0
            self._sending_since = math.inf
            if self._changed:
                self._changed.unpark_all()
