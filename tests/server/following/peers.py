"""Peers of an outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio


class TapSender:
    """A peer that takes as many messages as it is told to."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self._credit = 0
        self._more = trio.lowlevel.ParkingLot()

    def open(self, messages: int) -> None:
        self._credit += messages
        self._more.unpark_all()

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return b"\n".join(messages)

    def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
        now, later = messages[: self._credit], messages[self._credit :]
        self._credit -= len(now)
        self.taken += now
        return later

    async def send(self, messages: list[bytes], note_progress: Callable[[], None]) -> bool:
        while messages := self.send_nowait(messages):
            await self._more.park()
        return True
