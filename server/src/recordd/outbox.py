"""What one connection still has to be sent: filled without waiting, emptied by one task."""

from __future__ import annotations

from typing import Final

import trio

__all__ = ["Outbox"]


class Outbox:
    """Whole messages on their way out. Bounded by `wait_room`, which readers respect."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes: Final = max_bytes
        self._messages: list[bytes] = []
        self._size = 0
        self._in_transit = 0
        self._filled = trio.Event()
        self._emptied: Final = trio.lowlevel.ParkingLot()
        self._closed = False

    @property
    def is_over(self) -> bool:
        """Whether more than the limit waits to be sent."""
        return self._size + self._in_transit > self._max_bytes

    def put(self, message: bytes) -> None:
        """Add a message; one that comes after `close` is dropped, for nobody is there."""
        if not self._closed:
            self._messages.append(message)
            self._size += len(message)
            self._filled.set()

    async def take(self) -> list[bytes]:
        """Wait for messages and take all; an empty list says that there will be no more.

        What was taken before counts as sent now. Cancelled, nothing was taken.
        """
        self._in_transit = 0
        if not self.is_over:
            self._emptied.unpark_all()
        if not self._messages and not self._closed:
            await self._filled.wait()
        messages, self._messages = self._messages, []
        self._in_transit, self._size = self._size, 0
        if not self._closed:
            self._filled = trio.Event()
        return messages

    async def wait_room(self) -> None:
        """Wait until no more than the limit waits to be sent."""
        while self.is_over and not self._closed:
            await self._emptied.park()

    def close(self) -> None:
        """Let `take` return what is left and then say that this was all."""
        self._closed = True
        self._filled.set()
        self._emptied.unpark_all()

    def discard(self) -> None:
        """Close, and drop what is left: the peer will not take it."""
        self._messages = []
        self._size = 0
        self.close()
