"""The bounded channel in front of the writer.

Bounded in requests and in bytes. A full queue makes the connection wait, which stops its
reading and so pushes back to the client's socket; nothing is dropped.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Final

import trio

from recordd.writing.requests import WriteRequest
from recordd.writing.statistics import QueueStatistics
from recordd_protocol.errors import Reason, RequestError

__all__ = ["WriteQueue"]


class WriteQueue:
    """First in, first out. Many connections put, one writer takes."""

    def __init__(self, *, max_requests: int, max_bytes: int) -> None:
        self._max_requests: Final = max_requests
        self._max_bytes: Final = max_bytes
        self._requests: Final[collections.deque[WriteRequest]] = collections.deque()
        self._count = 0
        self._bytes = 0
        self._closed = False
        self._room: Final = trio.lowlevel.ParkingLot()
        self._wakeup = trio.Event()
        self._take_at_once: Callable[[], bool] = _take_nothing

    def __len__(self) -> int:
        """Return how many requests wait, each of a burst counted."""
        return self._count

    def statistics(self) -> QueueStatistics:
        """Return how much waits now."""
        return QueueStatistics(requests=self._count, bytes=self._bytes)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def is_awake(self) -> bool:
        """Whether `wait_wakeup` returns at once."""
        return self._wakeup.is_set()

    @property
    def lone(self) -> WriteRequest | None:
        """The request that waits, where it is the only one."""
        return self._requests[0] if len(self._requests) == 1 else None

    def on_announce(self, take_at_once: Callable[[], bool]) -> None:
        """Have a function asked to take what waits, when that is announced; False: it does not."""
        self._take_at_once = take_at_once

    def put_nowait(self, request: WriteRequest, *, quietly: bool = False) -> None:
        """Accept a request, or raise `trio.WouldBlock` when the queue is full.

        `quietly` wakes nobody: the caller goes on to `announce` before it gives way to others.

        Raises:
            RequestError: `unavailable` once the queue is closed.
        """
        if self._closed:
            raise RequestError(Reason.UNAVAILABLE, "the daemon is shutting down")
        # A request larger than the whole queue passes when it is alone; of a burst, each does.
        if (self._requests or request.requests > 1) and (
            self._count + request.requests > self._max_requests
            or self._bytes + request.size_bytes > self._max_bytes
        ):
            raise trio.WouldBlock
        self._requests.append(request)
        self._count += request.requests
        self._bytes += request.size_bytes
        if not quietly:
            self._wakeup.set()

    def announce(self) -> None:
        """Have what was put `quietly` taken: now, where that can be, or by the writer's task."""
        if not self._requests or self._wakeup.is_set():
            return
        is_taken = False
        try:
            is_taken = self._take_at_once()
        finally:
            if not is_taken:
                self._wakeup.set()

    async def put(self, request: WriteRequest) -> None:
        """Accept a request, waiting for room; cancelled, it was not accepted.

        Raises:
            RequestError: `unavailable` once the queue is closed, while waiting too.
        """
        while True:
            try:
                return self.put_nowait(request)
            except trio.WouldBlock:
                await self._room.park()

    def take_nowait(self, max_bytes: int) -> list[WriteRequest]:
        """Take what waits, oldest first, up to about `max_bytes`; empty where nothing does."""
        taken = []
        size = count = 0
        while self._requests and size < max_bytes:
            request = self._requests.popleft()
            size += request.size_bytes
            count += request.requests
            taken.append(request)
        self._bytes -= size
        self._count -= count
        # Only one that is set: the writer waits for the other.
        if not self._requests and not self._closed and self._wakeup.is_set():
            self._wakeup = trio.Event()
        if self._room:
            self._room.unpark_all()
        return taken

    async def wait_wakeup(self) -> None:
        """Wait until a request is there, or `wake` or `close` was called since the last take."""
        await self._wakeup.wait()

    def wake(self) -> None:
        """Make `wait_wakeup` return although nothing was put."""
        self._wakeup.set()

    def close(self) -> None:
        """Accept nothing more; what was accepted stays to be taken."""
        self._closed = True
        self._wakeup.set()
        self._room.unpark_all()


def _take_nothing() -> bool:
    return False
