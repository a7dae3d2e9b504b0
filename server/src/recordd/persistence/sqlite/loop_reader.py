"""Small reads on the event loop: a hop to a thread and back takes three times as long.

Theory of operation. A page of one record with few rows takes 0.1 ms where its pages are in
memory. Nobody can tell beforehand whether they are, so SQLite is stopped when a read has waited
for the disk and taken too long: a thread begins it anew, and the loop leaves reads to the threads
for many times as long as that took. So waits take no more than a twentieth of the loop's time, on
whatever disk, and mostly a millisecond each; a page of the file that does not come, as long as
that. A read that does not wait is stopped by its steps: a machine that is busy with other programs
says nothing of the disk.

What is odd is left to the threads too: damage, a file that others hold, more rows than few.
"""

from __future__ import annotations

import functools
import resource
import time
from collections.abc import Callable
from typing import Final

import apsw
import trio

from recordd.extending.backend import DamagedStorage
from recordd.persistence.sqlite import schema
from recordd.persistence.sqlite.damage import take_fault_offset
from recordd.persistence.sqlite.page_text import read_few, read_indexed
from recordd.persistence.sqlite.plans import Found, FoundText, Place, QueryPlan
from recordd.persistence.sqlite.reads import read_with_tick
from recordd.persistence.sqlite.worker import VFS, open_vfs, translate_error

__all__ = ["LoopReader"]

_MOST_ROWS: Final = 256
"""Of a page."""

_MOST_BYTES: Final = 65_536
"""Of a page's text; with as many rows as may be, it takes some 0.2 ms."""

_MOST_IN_TAIL: Final = 1024
"""Rows of the record that are not indexed on disk: each is looked at."""

_STEPS_BETWEEN_LOOKS: Final = 200
"""Of SQLite's machine, some six rows: a twentieth of the time that they take."""

_MOST_LOOKS: Final = 100
"""Some half a millisecond; as many rows as may be take half of that."""

_MOST_WAIT_S: Final = 0.001
"""Time of a read from which on a wait for the disk in it counts: the time of some hops."""

_REST_FACTOR: Final = 20
"""Reads go to threads for so many times as long as one took that waited."""


def _count_waits() -> int:
    """Return how often this thread has waited for something, the disk or another thread.

    One whose turn is over, because other programs want theirs, does not wait by that.
    """
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


class LoopReader:
    """A reading connection of the loop's own, and whether it is quick enough to be used."""

    def __init__(
        self,
        db: apsw.Connection,
        clock: Callable[[], float] = time.perf_counter,
        count_waits: Callable[[], int] = _count_waits,
    ) -> None:
        self._db: Final = db
        self._clock: Final = clock
        self._count_waits: Final = count_waits
        self._looks = 0
        self._began_s = self._late_at_s = 0.0
        self._waits_before = 0
        self._rests_until_s = 0.0
        self._is_closed = False
        db.set_busy_timeout(0)
        db.limit(apsw.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
        db.set_progress_handler(self._is_over, _STEPS_BETWEEN_LOOKS)

    @classmethod
    async def open(cls, path: str) -> LoopReader:
        """Open a connection to a file that is there.

        Raises:
            BackendError: when SQLite cannot open it.
        """
        open_vfs()
        open_it = functools.partial(apsw.Connection, path, flags=apsw.SQLITE_OPEN_READONLY, vfs=VFS)
        try:
            db = await trio.to_thread.run_sync(open_it)
            schema.prepare_reader(db)
        except apsw.Error as error:
            raise translate_error(error, path) from error
        return cls(db)

    def read(self, plan: QueryPlan, tick: int) -> Found | FoundText | None:
        """Return a page that is whole, as it was at a tick; None where a thread is to be asked."""
        limit = plan.limit_per_record
        if limit is not None and limit > _MOST_ROWS:
            return None
        record = plan.records.find_one()
        if record is None or plan.count_in_tail(record) > _MOST_IN_TAIL:
            return None
        return self._read(lambda db: read_few(db, plan, record, _MOST_ROWS), tick)

    def read_indexed(self, place: Place, tick: int) -> Found | FoundText | None:
        """Return the same of a record whose rows are all indexed on disk."""
        if place.limit is not None and place.limit > _MOST_ROWS:
            return None
        return self._read(lambda db: read_indexed(db, place, _MOST_ROWS), tick)

    def _read(
        self, function: Callable[[apsw.Connection], Found | FoundText | None], tick: int
    ) -> Found | FoundText | None:
        """Return what a function finds at the tick, if the loop may ask for it."""
        self._began_s = self._clock()
        if self._is_closed or self._began_s < self._rests_until_s:
            return None
        self._late_at_s = self._began_s + _MOST_WAIT_S
        self._looks = 0
        self._waits_before = self._count_waits()
        try:
            found, tick_found = read_with_tick(self._db, function)
        except (apsw.Error, DamagedStorage):
            self._clean_up()
            return None
        finally:
            if self._has_waited():
                now_s = self._clock()
                self._rests_until_s = now_s + (now_s - self._began_s) * _REST_FACTOR
        return found if tick_found == tick else None

    def close(self) -> None:
        """Close the connection; nothing is read from then on."""
        if not self._is_closed:
            self._is_closed = True
            self._db.close()

    def _is_over(self) -> bool:
        """Tell SQLite whether to stop."""
        self._looks += 1
        if self._clock() < self._late_at_s:  # mostly: 0.2 µs
            return False
        return self._looks > _MOST_LOOKS or self._has_waited()

    def _has_waited(self) -> bool:
        """Tell whether the read has taken too long, and waited in that time."""
        return self._clock() >= self._late_at_s and self._count_waits() != self._waits_before

    def _clean_up(self) -> None:
        """Leave no transaction open, and nothing that a later error could be taken for."""
        take_fault_offset()
        if self._db.in_transaction:
            self._looks = 0
            self._db.execute("ROLLBACK")
