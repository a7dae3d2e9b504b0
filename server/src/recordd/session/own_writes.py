"""The writes of one connection, from the writer's queue to their answers."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Sequence
from typing import Final, cast

import trio

from recordd.connections.outbox import Outbox
from recordd.extending.columns import RowColumns
from recordd.session.replies import Replies
from recordd.system.parking import SpareLot
from recordd.writing.queue import WriteQueue
from recordd.writing.requests import NewRow, WriteBurst, WriteRequest, WriteRows, to_written
from recordd_protocol.dialect import Call, PlainCall, Result
from recordd_protocol.errors import RequestError
from recordd_protocol.rows import Row

__all__ = ["OwnWrites"]


_BURST_BYTES: Final = 65_536
"""Of writes that are queued as one: what the writer takes at once is bounded."""


class OwnWrites:
    """Those that the writer has not settled yet; `settled` is unparked when it has all."""

    __slots__ = ("_flush", "_outbox", "_queue", "_replies", "_settled", "pending")

    def __init__(
        self,
        queue: WriteQueue,
        outbox: Outbox,
        replies: Replies,
        settled: SpareLot,
    ) -> None:
        self.pending = 0
        self._queue: Final = queue
        self._outbox: Final = outbox
        self._flush: Final = outbox.flush_nowait
        self._replies: Final = replies
        self._settled: Final = settled

    def begin(self, call: Call, request: WriteRequest) -> Awaitable[None] | None:
        """Queue a write, or return what has to be awaited to have it queued; then `announce`."""
        return None if self.begin_nowait(call, request) else self._begin_later(call, request)

    def begin_nowait(self, call: Call, request: WriteRequest) -> bool:
        """Queue a write; return False where there is no room.

        Raises:
            RequestError: as `WriteQueue.put_nowait`.
        """
        request.deliver = functools.partial(self._settle, call)
        request.flush = self._flush
        try:
            self._queue.put_nowait(request, quietly=True)
        except trio.WouldBlock:
            return False
        self.pending += 1
        return True

    def begin_burst(self, calls: Sequence[PlainCall], rows: list[NewRow]) -> bool:
        """Queue writes of one row each as one; return False, nothing done, where that is too much.

        The calls are of one class. As `begin` with each, for less.
        """
        burst = WriteBurst(rows, lambda: self._split(calls, rows))
        if burst.size_bytes > _BURST_BYTES:
            return False
        burst.deliver = functools.partial(self._settle_burst, calls)
        burst.flush = self._flush
        try:
            self._queue.put_nowait(burst, quietly=True)
        except (trio.WouldBlock, RequestError):
            return False
        self.pending += len(calls)
        return True

    def announce(self) -> None:
        """Have what was begun committed; to be called before anybody else runs."""
        if self.pending:
            self._queue.announce()

    async def wait(self) -> None:
        """Wait until the writer has settled all."""
        while self.pending:
            await self._settled.park()

    async def _begin_later(self, call: Call, request: WriteRequest) -> None:
        try:
            await self._queue.put(request)
        except RequestError as error:
            self._replies.refuse(call, error)
        else:
            # The writer has not settled it yet: `put` returns without letting others run.
            self.pending += 1

    def _split(self, calls: Sequence[PlainCall], rows: list[NewRow]) -> Sequence[WriteRows]:
        """Have each write of a burst be settled for itself."""
        writes = [WriteRows([row], to_written) for row in rows]
        for call, write in zip(calls, writes, strict=True):
            write.deliver = functools.partial(self._settle, call)
            write.flush = self._flush
        return writes

    def _settle_burst(self, calls: Sequence[PlainCall], outcome: Result | RequestError) -> None:
        """Answer all of a burst with their rows, or with what refused them."""
        if isinstance(outcome, RequestError):
            for call in calls:
                self._settle(call, outcome)
            return
        rows = RowColumns.of(cast("Sequence[Row]", outcome))
        answers = calls[0].answer_written(calls, rows.revs, rows.times, rows.late)
        self._outbox.put_all_unsent(answers)
        self.pending -= len(calls)
        if not self.pending:
            self._settled.unpark_all()

    def _settle(self, call: Call, outcome: Result | RequestError) -> None:
        self.pending -= 1
        if isinstance(outcome, RequestError):
            self._replies.refuse(call, outcome)
        elif (reply := call.answer(outcome)) is not None:
            self._outbox.put_unsent(reply)  # the writer flushes: to wake `run` costs some 10 µs
        if not self.pending:
            self._settled.unpark_all()
