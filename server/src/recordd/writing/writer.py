"""The writer actor: whatever is committed, it commits.

It drains what has queued up into one transaction (group commit), publishes after COMMIT,
and only then answers. Batches form by themselves: what arrived while the last one was
being committed is the next one, so no timer delays a lone write. Between batches it runs
housekeeping (index merge, retention) one slice at a time, so that no write waits long.

It is one task, and one step without a wait: `_commit_at_once`, which is run for a lone write
while the task rests. Nothing else commits, and no two commits overlap.

A batch is retried request by request only when the backend cannot serialize one of its
rows: then the faulty request alone is refused. Trouble of the storage itself (disk full)
refuses the whole batch; retrying each request would find the same.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from typing import Final, cast

import trio

from recordd.extending.backend import (
    FatalBackendError,
    PersistenceBackend,
    PersistenceError,
    SerializationError,
)
from recordd.extending.commit import Deletion, Deletions
from recordd.extending.extensions import Housekeeper
from recordd.hub.hub import Hub
from recordd.hub.records import RecordState
from recordd.system.clock import SYSTEM_CLOCK
from recordd.system.turns import Turns
from recordd.writing.committer import Committer
from recordd.writing.gathering import Gathering
from recordd.writing.housekeeping import Housekeeping
from recordd.writing.lone import LoneWriter
from recordd.writing.plan import Plan
from recordd.writing.queue import WriteQueue
from recordd.writing.requests import (
    DeleteRecord,
    TrimRecord,
    WriteRequest,
    WriteRows,
    settle_all,
)
from recordd.writing.statistics import WriterStatistics
from recordd.writing.trimming import Trimmer
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import Trimmed

__all__ = ["Writer"]

logger: Final = logging.getLogger(__name__)

_BATCH_BYTES: Final = 4 << 20
"""A transaction's size: past it, larger batches gain nothing and only delay answers."""

_IDLE_AFTER_S: Final = 1.0
"""With no write for this long, housekeeping may do what it put off."""


class Writer:
    """Plans what the queue brings, and has it committed."""

    def __init__(
        self,
        hub: Hub,
        backend: PersistenceBackend | None,
        queue: WriteQueue,
        turns: Turns,
        committer: Committer,
    ) -> None:
        """Commit by `committer`, which applies to this hub and backend."""
        self.queue: Final = queue
        self._gathering: Final = Gathering(queue)
        self._lone: Final = LoneWriter()
        self._rest: trio.CancelScope | None = None  # while the task has nothing to do
        self._rests_until = math.inf
        self._idle_at = 0.0
        self._fault: Exception | None = None
        if committer.can_at_once:
            queue.on_announce(self._commit_at_once)
        self._commits = 0
        self._rows_committed = 0
        self._hub: Final = hub
        self._backend: Final = backend
        self._turns: Final = turns
        self._committer: Final = committer
        self._trimmer: Final = None if backend is None else Trimmer(hub, backend, committer)
        self._housekeeping: Final = Housekeeping(hub, backend)

    def add_housekeeper(self, housekeeper: Housekeeper) -> None:
        """Have `housekeeper` run between batches; call `queue.wake` when it has work."""
        self._housekeeping.add(housekeeper)

    def statistics(self) -> WriterStatistics:
        """Return what it has done since the start."""
        return WriterStatistics(self._commits, self._rows_committed, self._housekeeping.errors)

    async def run(self) -> None:
        """Serve the queue until it is closed and drained; then index what is not yet.

        Raises:
            FatalBackendError: when the storage cannot be trusted any more; the requests
                of the batch were refused.
        """
        self._idle_at = trio.current_time() + _IDLE_AFTER_S
        while True:
            await self._gathering.gather()
            if batch := self.queue.take_nowait(_BATCH_BYTES):
                await self._commit(batch)
                self._lone.note_batch(batch)
                self._gathering.note_commit(sum([request.requests for request in batch]))
                self._idle_at = trio.current_time() + _IDLE_AFTER_S
            elif self.queue.closed:
                return await self._housekeeping.index_all()
            await self._housekeeping.check()
            is_idle = trio.current_time() >= self._idle_at
            if await self._housekeeping.run(is_idle) or len(self.queue):
                continue
            await self._sleep(self._housekeeping.not_before if is_idle else self._idle_at)

    async def _sleep(self, until: float) -> None:
        """Wait until there is work, or until a time that is yet to come; look at the storage."""
        self._rests_until = until if until > trio.current_time() else math.inf
        while not await self._wait_wakeup():
            if trio.current_time() >= self._rests_until:
                return
            await self._housekeeping.check()

    async def _wait_wakeup(self) -> bool:
        try:
            with trio.move_on_at(
                min(self._rests_until, self._housekeeping.check_not_before)
            ) as self._rest:
                await self.queue.wait_wakeup()
                return True
            return False
        finally:
            self._rest = None

    def _note_at_once(self) -> None:
        """Have the task wake when it may do what it put off: it knows of no write since it rests.

        One that rests until then, or less long, finds out for itself.
        """
        self._idle_at = trio.current_time() + _IDLE_AFTER_S
        if self._rest is not None and self._rests_until > self._idle_at:
            self._rests_until = self._idle_at
            self._rest.deadline = min(self._rest.deadline, self._idle_at)

    def _commit_at_once(self) -> bool:
        """Commit the lone write that waits, before anybody else runs, where it is that soon done.

        The task of whoever put it runs this, as a part of the writer's: only while that one has
        nothing to do, and from the plan to the answer without a wait. So there is one writer
        still, and nobody can cancel it. It spares a lone write a pass of the loop and a switch of
        tasks, 30 µs. Returns False, nothing done, where the writer's task is to do it.
        """
        request = self.queue.lone
        if self._rest is None or not isinstance(request, WriteRows):
            return False
        if self._fault is not None or not self._lone.may_commit(request):
            return False
        plan = self._plan([request])
        for _ in plan.make():
            pass
        if plan.planned and not self._can_commit_at_once(plan):
            self._lone.note_refusal()
            return False
        self.queue.take_nowait(_BATCH_BYTES)
        self._note_at_once()
        self._gathering.note_commit(request.requests)
        _refuse(plan)
        self._answer(plan)
        return True

    def _can_commit_at_once(self, plan: Plan) -> bool:
        """Commit what was planned, without a wait; return whether that could be."""
        try:
            return self._committer.commit_at_once(plan.commit(), plan.records)
        except Exception as error:
            # Who put the write has no part in it. The writer's task meets it: again, where the
            # storage refuses; or at once, where nothing can go on.
            if isinstance(error, FatalBackendError) or not isinstance(error, PersistenceError):
                self._fault = error
            return False

    async def _commit(self, batch: Sequence[WriteRequest]) -> None:
        """Commit runs of writes together; a deletion takes its turn between them.

        Every request of the batch is settled on return, and also when this raises.
        """
        try:
            if self._fault is not None:
                raise self._fault
            for are_rows, run in itertools.groupby(batch, _is_of_rows):
                if are_rows:
                    await self._commit_writes(cast("list[WriteRows]", list(run)))
                else:
                    for item in run:
                        await self._commit_removal(item)
        except FatalBackendError as fault:
            for request in batch:
                if not request.is_settled:
                    request.settle(fault)
            raise

    async def _commit_writes(self, writes: list[WriteRows]) -> None:
        plan = self._plan(writes)
        await self._turns.run(plan.make())
        _refuse(plan)
        if not plan.planned:
            return
        try:
            await self._committer.commit(plan.commit(), plan.records)
        except FatalBackendError:
            raise
        except SerializationError as error:
            singles = [single for write in plan.planned for single in write.split()]
            if len(singles) == 1:
                singles[0].settle(error)
                return
            for write in singles:
                await self._commit_writes([write])
        except PersistenceError as error:
            refused = sum([write.requests for write in plan.planned])
            logger.warning("%d writes refused: %s", refused, error)
            for write in plan.planned:
                write.settle(error)
        else:
            self._answer(plan)

    def _plan(self, writes: list[WriteRows]) -> Plan:
        storing = self._backend is not None
        return Plan(writes, self._hub.catalogue, now_ms=SYSTEM_CLOCK.wall_ms(), storing=storing)

    def _answer(self, plan: Plan) -> None:
        """Count what is committed, and answer those who asked for it."""
        if plan.stored_rows:
            self._commits += 1
            self._rows_committed += plan.stored_rows
        settle_all(plan.results())

    async def _commit_removal(self, item: WriteRequest) -> None:
        assert not isinstance(item, WriteRows), "those are committed together"
        if isinstance(item, TrimRecord):
            await self._commit_trim(item)
        else:
            await self._commit_deletion(item)

    async def _commit_trim(self, trim: TrimRecord) -> None:
        state = self._hub.catalogue.find(trim.name)
        is_stored = self._is_stored(trim.name, state)
        if state is None and not is_stored:
            return trim.settle(_unknown(trim.name))
        trimmed = Trimmed(deleted=0, more=False)
        try:
            if is_stored and self._trimmer is not None:
                trimmed = await self._trimmer.trim(
                    trim.name, trim.newer_than_ms, now_ms=SYSTEM_CLOCK.wall_ms()
                )
            # A transient value has no other behind it.
            if state is not None and state.rev is None and not trimmed.more:
                await self._forget_if_newer(state, trim.newer_than_ms)
        except FatalBackendError:
            raise
        except RequestError as error:
            trim.settle(error)
        else:
            trim.settle(trimmed)

    async def _forget_if_newer(self, state: RecordState, than_ms: int) -> None:
        if state.ts > than_ms:
            deletion = Deletion(state.name, state.record_id, SYSTEM_CLOCK.wall_ms(), None)
            await self._committer.commit(Deletions([deletion]))

    async def _commit_deletion(self, request: DeleteRecord) -> None:
        name = request.name
        state = self._hub.catalogue.find(name)
        is_stored = self._is_stored(name, state)
        if state is None and not is_stored:
            return request.settle(_unknown(name))
        rows = self._hub.archive.rows_of(name) + (0 if state is None else state.rows)
        rev = self._hub.rev + 1 if is_stored else None
        deletion = Deletion(name, self._hub.id_of(name), SYSTEM_CLOCK.wall_ms(), rev)
        try:
            await self._committer.commit(Deletions([deletion]))
        except FatalBackendError:
            raise
        except PersistenceError as error:
            request.settle(error)
        else:
            request.settle(request.to_result(rows))

    def _is_stored(self, name: str, state: RecordState | None) -> bool:
        """Tell whether storage has rows of a record; `state` is its current one, if it is there."""
        if name in self._hub.archive:
            return True
        return state is not None and state.rule.persist and self._backend is not None


def _refuse(plan: Plan) -> None:
    for write, refusal in plan.refused:
        write.settle(refusal)


def _is_of_rows(request: WriteRequest) -> bool:
    return isinstance(request, WriteRows)


def _unknown(name: str) -> RequestError:
    return RequestError(Reason.NOT_FOUND, f"record {name!r} does not exist")
