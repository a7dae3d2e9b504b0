"""Retention: rows past their rule's age or number are deleted, in slices, by the writer.

A run is started at start and by a timer; its work is done inside the writer actor, a slice
between two batches, so that there is still only one task that writes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import msgspec
import trio

from recordd.config.rules import Rule
from recordd.extending.backend import (
    CleansUp,
    CleanupTarget,
    DiskFull,
    KeepsHouse,
    PassingBackendError,
    PersistenceError,
    RemembersTime,
    find_capability,
)
from recordd.extending.commit import Deletion, Deletions
from recordd.extending.points import RetentionReporter
from recordd.hub.hub import Hub
from recordd.persistence.retention_clock import RetentionClock
from recordd.system.clock import SYSTEM_CLOCK, Clock
from recordd.system.turns import Turns
from recordd.writing.committer import Committer
from recordd.writing.queue import WriteQueue
from recordd_protocol.methods import RetentionStats
from recordd_protocol.patterns import compile_patterns

__all__ = ["Retention", "RetentionPolicy"]

logger: Final = logging.getLogger(__name__)

_SLICE_ROWS: Final = 2000
"""Deleting 2,000 rows holds writes up for some 50 ms at worst; 500,000 for over 2 s."""

_LOOK_MS: Final = 3_600_000
"""How often retention's time is remembered: what a restart loses of it looks like a leap."""

_SLICE_RECORDS: Final = 500
"""Records looked at in one slice, whether they have anything to delete or not."""


class RetentionPolicy(msgspec.Struct, frozen=True):
    """How often retention runs, and whether a record's newest row is beyond its reach.

    `max_clock_leap_ms`: a leap of the clock beyond this is not believed.
    """

    interval_ms: int
    keep_latest: bool
    max_clock_leap_ms: int = 86_400_000


class Retention(RetentionReporter):
    """The runs of retention, and what came of the last one."""

    def __init__(
        self,
        hub: Hub,
        backend: CleansUp,
        committer: Committer,
        queue: WriteQueue,
        policy: RetentionPolicy,
        *,
        clock: Clock = SYSTEM_CLOCK,
        turns: Turns | None = None,
    ) -> None:
        """Wait for `turns` with the others who have them; alone without."""
        self._hub: Final = hub
        self._backend: Final = backend
        self._committer: Final = committer
        self._kept: Final = find_capability(backend, KeepsHouse)
        self._memory: Final = find_capability(backend, RemembersTime)
        self._queue: Final = queue
        self._policy: Final = policy
        self._wall: Final = clock
        self._clock: Final = RetentionClock(clock, policy.max_clock_leap_ms)
        self._is_clock_set = False
        self._is_time_due = False
        self._is_leap_told = False
        self._turns: Final = turns or Turns()
        self._targets: list[CleanupTarget] | None = None
        self._is_due = False
        self._is_due_again = False
        self._due_rev = 0
        self._runs = 0
        self._started_at_ms: int | None = None
        self._finished_at_ms: int | None = None
        self._deleted = 0
        self._last_error: str | None = None

    async def run(self) -> None:
        """Start a run now and then, and look at the clock more often, for ever; a start hook."""
        interval_ms = self._policy.interval_ms
        looks = max(1, interval_ms // _LOOK_MS, 2 * interval_ms // self._policy.max_clock_leap_ms)
        while True:
            self.request_run()
            for _ in range(looks):
                self._is_time_due = True
                self._queue.wake()
                await trio.sleep(interval_ms / looks / 1000)

    def request_run(self) -> None:
        """Have the writer do a run, over what is there now; behind one that is under way."""
        if self._targets is None:
            self._is_due = True
            self._due_rev = self._hub.rev
        else:
            self._is_due_again = True
        self._queue.wake()

    async def housekeep(self, idle: bool) -> bool:
        """Do a slice of the run, if one is due; return whether there is more. A housekeeper."""
        try:
            if self._is_due:
                await self._do_slice()
            elif self._is_time_due:  # last: on a full disk only a run makes room
                await self._remember_time()
        except PersistenceError as error:
            if self._is_due:
                self._finish(str(error))
                if isinstance(error, PassingBackendError):
                    # Due still: on a full disk nothing else makes room before the next run.
                    self._is_due = True
            raise  # the writer decides what an error of the storage means
        return self._is_due or self._is_time_due

    def confirm_clock(self) -> int:
        """Believe the system's clock, and run; return how far it had leapt, in ms."""
        self._read_clock()
        leap_ms = self._clock.confirm()
        if leap_ms:
            logger.warning("the clock is confirmed, %s ahead", _format_span(leap_ms))
        self._is_leap_told = False
        self._is_time_due = True
        self.request_run()
        return leap_ms

    def statistics(self) -> RetentionStats:
        """Return the rules and what the last run did."""
        return RetentionStats(
            rules=[rule.as_info() for rule in self._hub.rules.rules],
            keep_latest=self._policy.keep_latest,
            runs=self._runs,
            last_started_at_ms=self._started_at_ms,
            last_finished_at_ms=self._finished_at_ms,
            last_deleted=self._deleted,
            last_error=self._last_error or self._describe_leap(),
            clock_leap_ms=self._clock.leap_ms,
        )

    def _read_clock(self) -> int:
        """Return retention's time; say so where it does not follow the system's clock."""
        if not self._is_clock_set:
            self._clock.resume(self._find_known_time())
            self._is_clock_set = True
        time_ms = self._clock.read()
        text = self._describe_leap()
        if text is not None and not self._is_leap_told:
            logger.error("%s", text)
        self._is_leap_told = text is not None
        return time_ms

    def _find_known_time(self) -> int | None:
        """Return the time that storage remembers, or else that of the newest row.

        A row that is ahead of the clock tells nothing of the time that has passed.
        """
        remembered_ms = None if self._memory is None else self._memory.remembered_time_ms
        if remembered_ms is not None:
            return remembered_ms
        now_ms = self._wall.wall_ms()
        states = self._hub.catalogue.match(compile_patterns("#"))
        times = [s.ts for s in states if s.rev is not None and s.ts <= now_ms]
        return max(times, default=None)

    async def _remember_time(self) -> None:
        self._read_clock()
        if self._memory is not None:
            await self._memory.remember_time(self._clock.known_ms)
        self._is_time_due = False

    def _describe_leap(self) -> str | None:
        if not self._clock.leap_ms:
            return None
        return (
            f"the clock is {_format_span(self._clock.leap_ms)} ahead of the time that is known to"
            " have passed (max_clock_leap); retention does not follow at once: if the clock is"
            " right, confirm it with: recordctl retention confirm"
        )

    async def _do_slice(self) -> None:
        if self._targets is None:
            # Only what is indexed can be cleaned up: let the backend catch up with what
            # was there when the run fell due; not with what is written meanwhile.
            if await self._catch_up():
                return
            await self._turns.run(self._start())
        targets = self._targets or []
        with self._hub.purge() as purge:
            purged, done = await self._backend.cleanup(targets[:_SLICE_RECORDS], _SLICE_ROWS)
            purge.note(purged)
        self._deleted += sum([what.rows for what in purged.values()])
        await self._end_records([name for name, what in purged.items() if what.is_spent])
        del targets[:done]
        if not targets:
            self._finish(None)

    async def _end_records(self, names: list[str]) -> None:
        """Delete records whose last row is due too; fewer at a time where the disk is full."""
        at_once = len(names)
        while names:
            some = names[:at_once]
            try:
                await self._committer.commit(Deletions(self._plan_deletions(some)))
            except DiskFull:
                if len(some) == 1:
                    raise
                at_once = max(1, len(some) // 4)
            else:
                del names[: len(some)]
                self._deleted += len(some)

    def _plan_deletions(self, names: list[str]) -> list[Deletion]:
        hub, now_ms = self._hub, self._wall.wall_ms()
        return [
            Deletion(name, hub.id_of(name), now_ms, rev, is_of_history=True)
            for rev, name in enumerate(names, hub.rev + 1)
        ]

    async def _catch_up(self) -> bool:
        """Have the backend do a slice of the work that a run has to wait for, if there is any."""
        if self._kept is None or self._kept.indexed_rev >= self._due_rev:
            return False
        return await self._kept.maintain(self._due_rev)

    def _start(self) -> Iterator[None]:
        """Find out, in steps, what a run has to look at."""
        self._is_leap_told = False  # once a run, too
        now_ms = self._read_clock()
        self._started_at_ms = self._wall.wall_ms()
        self._finished_at_ms = None
        self._deleted = 0
        self._targets = []  # only the writer makes and deletes records, and this is its time
        keep_latest = self._policy.keep_latest
        for number, state in enumerate(self._hub.catalogue.states_after(-1)):
            if state.rows:
                self._add_target(state.name, state.rule, now_ms, keep_latest=keep_latest)
            if number % 64 == 63:
                yield
        for name in self._hub.archive:  # none of these rows is a latest one
            rule = self._hub.rules.rule_for(name)
            self._add_target(name, rule, now_ms, keep_latest=False)

    def _add_target(self, name: str, rule: Rule, now_ms: int, *, keep_latest: bool) -> None:
        if rule.retention_ms is None and rule.max_rows is None:
            return
        older_than = None if rule.retention_ms is None else now_ms - rule.retention_ms
        assert self._targets is not None, "a run has begun"
        self._targets.append(CleanupTarget(name, older_than, rule.max_rows, keep_latest))

    def _finish(self, error: str | None) -> None:
        self._is_due, self._is_due_again = self._is_due_again, False
        self._due_rev = self._hub.rev
        self._targets = None
        self._runs += 1
        self._finished_at_ms = self._wall.wall_ms()
        self._last_error = error
        if error is None:
            logger.info("retention deleted %d rows", self._deleted)


def _format_span(span_ms: int) -> str:
    hours = span_ms / 3_600_000
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
