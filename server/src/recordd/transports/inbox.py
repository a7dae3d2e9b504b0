"""Messages on their way from the library's task, which reads a WebSocket, to the session's.

Most messages never pass the library: they are taken out of their frames as they come, all of a
read together. The others are taken from the library, one by one. Both stand here in the order
in which they came; of the library's there is only the place.
"""

from __future__ import annotations

from typing import Final

from recordd.system.parking import SpareLot

__all__ = ["Inbox"]


class Inbox:
    """What came and is not handled yet: one burst of messages at most, and places."""

    __slots__ = ("_items", "_parked", "is_ended")

    def __init__(self) -> None:
        self.is_ended = False
        """Whether nothing more is put: the rest is between the library and the peer."""
        # A list, of a few at most: a deque takes 600 bytes where nothing is in it.
        self._items: Final[list[list[bytes] | None]] = []
        # One task takes and another puts, and never do both wait: for the one there has to be
        # nothing here, for the other a burst.
        self._parked: Final = SpareLot()

    def expect(self, messages: int) -> None:
        """Note the places of messages that the library will have."""
        if messages and not self.is_ended:
            self._items.extend([None] * messages)
            self._parked.unpark_all()

    async def put(self, messages: list[bytes]) -> None:
        """Add a burst, once the one before it is taken. Cancelled, it is not added."""
        await self.wait_taken()
        if not self.is_ended:
            self._items.append(messages)
            self._parked.unpark_all()

    async def wait_taken(self) -> None:
        """Wait until no burst is here: all that could be answered at once has been."""
        while not self.is_ended and any(self._items):
            await self._parked.park()

    async def take(self) -> list[bytes] | None:
        """Return the next burst; None: ask the library, for a message or for why it ended.

        Cancelled, nothing was taken.
        """
        while not self._items:
            if self.is_ended:
                return None
            await self._parked.park()
        messages = self._items.pop(0)
        if messages is not None:
            self._parked.unpark_all()
        return messages

    def end(self) -> None:
        """Let nobody wait any more; what is here may still be taken."""
        self.is_ended = True
        self._parked.unpark_all()
