"""Retention: rows past their rule's age or number are deleted, in slices, by the writer.

A run is started at start and by a timer; its work is done inside the writer actor, a slice
between two batches, so that there is still only one task that writes.
"""

from __future__ import annotations

import logging
import time
from typing import Final

import msgspec
import trio

from recordd.backend import CleanupTarget, PersistenceBackend, PersistenceError
from recordd.deletion import deletion_of
from recordd.extension_points import RetentionReporter
from recordd.hub import Hub
from recordd.write_queue import WriteQueue
from recordd_protocol.methods import RetentionStats
from recordd_protocol.patterns import compile_patterns

__all__ = ["Retention", "RetentionPolicy"]

logger: Final = logging.getLogger(__name__)

_SLICE_ROWS: Final = 2000
"""Deleting 2,000 rows holds writes up for some 50 ms at worst; 500,000 for over 2 s."""

_SLICE_RECORDS: Final = 500
"""Records looked at in one slice, whether they have anything to delete or not."""


class RetentionPolicy(msgspec.Struct, frozen=True):
    """How often retention runs, and whether a record's newest row is beyond its reach."""

    interval_ms: int
    keep_latest: bool


class Retention(RetentionReporter):
    """The runs of retention, and what came of the last one."""

    def __init__(
        self, hub: Hub, backend: PersistenceBackend, queue: WriteQueue, policy: RetentionPolicy
    ) -> None:
        self._hub: Final = hub
        self._backend: Final = backend
        self._queue: Final = queue
        self._policy: Final = policy
        self._targets: list[CleanupTarget] | None = None
        self._is_due = False
        self._due_rev = 0
        self._runs = 0
        self._started_at_ms: int | None = None
        self._finished_at_ms: int | None = None
        self._deleted = 0
        self._last_error: str | None = None

    async def run(self) -> None:
        """Start a run now and then, for ever; a start hook."""
        while True:
            self.request_run()
            await trio.sleep(self._policy.interval_ms / 1000)

    def request_run(self) -> None:
        """Have the writer do a run, over what is there now."""
        self._is_due = True
        self._due_rev = self._hub.rev
        self._queue.wake()

    async def housekeep(self, idle: bool) -> bool:
        """Do a slice of the run, if one is due; return whether there is more. A housekeeper."""
        if not self._is_due:
            return False
        try:
            await self._do_slice()
        except PersistenceError as error:
            self._finish(str(error))
            raise  # the writer decides what an error of the storage means
        return self._is_due

    def statistics(self) -> RetentionStats:
        """Return the rules and what the last run did."""
        return RetentionStats(
            rules=[rule.as_info() for rule in self._hub.rules.rules],
            keep_latest=self._policy.keep_latest,
            runs=self._runs,
            last_started_at_ms=self._started_at_ms,
            last_finished_at_ms=self._finished_at_ms,
            last_deleted=self._deleted,
            last_error=self._last_error,
        )

    async def _do_slice(self) -> None:
        if self._targets is None:
            # Only what is indexed can be cleaned up: let the backend catch up with what
            # was there when the run fell due; not with what is written meanwhile.
            lags = self._backend.indexed_rev < self._due_rev
            if lags and await self._backend.maintain(self._due_rev):
                return
            self._start()
        targets = self._targets or []
        with self._hub.purging():
            purged, done = await self._backend.cleanup(
                targets[:_SLICE_RECORDS], _SLICE_ROWS, next_rev=self._hub.rev + 1
            )
            for name, what in purged.items():
                self._hub.forget_rows(name, what)
                self._deleted += what.rows
                if what.deletion_rev is not None:
                    self._hub.remove(deletion_of(name, what.deletion_rev))
        del targets[:done]
        if not targets:
            self._finish(None)

    def _start(self) -> None:
        self._started_at_ms = now_ms = time.time_ns() // 1_000_000
        self._finished_at_ms = None
        self._deleted = 0
        self._targets = []
        for state in self._hub.match(compile_patterns("#")):
            age, max_rows = state.rule.retention_ms, state.rule.max_rows
            if state.rows and (age is not None or max_rows is not None):
                older_than = None if age is None else now_ms - age
                self._targets.append(
                    CleanupTarget(state.name, older_than, max_rows, self._policy.keep_latest)
                )

    def _finish(self, error: str | None) -> None:
        self._is_due = False
        self._targets = None
        self._runs += 1
        self._finished_at_ms = time.time_ns() // 1_000_000
        self._last_error = error
        if error is None:
            logger.info("retention deleted %d rows", self._deleted)
