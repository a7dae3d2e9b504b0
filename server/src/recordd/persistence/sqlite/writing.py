"""The writing side of a file: one connection, and what stands beside the file.

A commit counts when it went into the files that have the names still, and the mark beside
them knows of it. What makes room, or has to go on, may use the reserve on a full disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

import apsw
import trio

from recordd.backend import BackendOptions, DiskFull, FatalBackendError, Loaded
from recordd.persistence.sqlite import schema, standing
from recordd.persistence.sqlite.damage import DamageReport
from recordd.persistence.sqlite.mark import MarkFile
from recordd.persistence.sqlite.reserve import Reserve
from recordd.persistence.sqlite.watch import FileWatch
from recordd.persistence.sqlite.worker import SqliteWorker

__all__ = ["FindRev", "WritingSide"]

P = ParamSpec("P")
T = TypeVar("T")
FindRev = Callable[[T], int | None]
"""Finds in the result of a commit the newest rev that it gave."""

_SLICE_ROWS: Final = 2000
"""Rows that housekeeping handles in one transaction: a stall of some ms for a write behind it."""

_CAREFUL_SLICE_ROWS: Final = 200
"""The same where the reserve is all the room there is: each row may take a page of the WAL."""

_CHECKPOINT_PAGES: Final = 1000
_BUSY_MS: Final = 100
_SLACK_BYTES: Final = 65_536


class WritingSide:
    """A writing connection over a file that was found to be the right one."""

    def __init__(
        self,
        worker: SqliteWorker,
        options: BackendOptions,
        reserve: Reserve,
        damage: DamageReport,
    ) -> None:
        self.reserve: Final = reserve
        self._damage: Final = damage
        self._worker: Final = worker
        self._options: Final = options
        self._watch: FileWatch | None = None
        self._mark: MarkFile | None = None
        self._is_whole = True

    @property
    def slice_rows(self) -> int:
        """How many rows housekeeping may handle in one transaction."""
        return _CAREFUL_SLICE_ROWS if self.reserve.is_out else _SLICE_ROWS

    def take_up(self, db: apsw.Connection, loaded: Loaded) -> Loaded:
        """Compare the file with its mark; from here on it is ours to change. On the thread.

        Raises:
            BackendError: as `standing.take_up`.
        """
        options = self._options
        self._watch = FileWatch(options.database)
        loaded, self._mark = standing.take_up(
            db,
            options.database,
            loaded,
            accept_loss=options.accept_loss,
            synchronous=options.synchronous,
        )
        schema.keep(db)
        self.reserve.start()
        if self.reserve.wanted_bytes:
            # To fold the WAL in takes as much room again: no more than half the reserve.
            pages = self.reserve.wanted_bytes // 2 // int(db.pragma("page_size"))
            db.wal_autocheckpoint(max(1, min(_CHECKPOINT_PAGES, pages)))
        return loaded

    async def store(self, rev: int, call: Callable[[apsw.Connection], None]) -> None:
        """Commit an ordinary write.

        Raises:
            DiskFull: also while the reserve is out.
        """
        if self.reserve.is_out:
            raise DiskFull("the disk is full: writes go on when reserve_bytes are free again")
        await self._run(rev, call)

    async def commit(self, rev: int | FindRev[T] | None, call: Callable[[apsw.Connection], T]) -> T:
        """Commit what must go on when the disk is full; `rev` is the newest it gives.

        To the end, also when cancelled: a cancelled COMMIT may have happened.
        """
        try:
            return await self._run(rev, call)
        except DiskFull:
            if not self.reserve.release():
                raise
        with trio.CancelScope(shield=True):
            await self._worker.run(self._make_room)
        return await self._run(rev, call)

    async def check(self) -> None:
        """Look that the files are in their places; bring the mark and the reserve up to date."""
        await self._on_thread(self._keep_up)

    def close(self) -> None:
        """Say in the mark whether all is in one file now: then no -wal is left.

        The connection is to be closed before.
        """
        if self._mark is not None:
            self._note_damage(self._mark)
            is_folded = not os.path.exists(self._options.database + "-wal")
            self._mark.close(is_clean=self._is_whole and is_folded)
            self.reserve.stop()

    async def _run(self, rev: int | FindRev[T] | None, call: Callable[[apsw.Connection], T]) -> T:
        return await self._on_thread(self._commit_on_thread, rev, call)

    async def _on_thread(
        self,
        function: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        try:
            with trio.CancelScope(shield=True):
                result = await self._worker.run(function, *args, **kwargs)
        except FatalBackendError:
            self._is_whole = False
            raise
        return result

    def _commit_on_thread(
        self,
        db: apsw.Connection,
        rev: int | FindRev[T] | None,
        call: Callable[[apsw.Connection], T],
    ) -> T:
        """Commit, see that it went into the files that are there, and mark it."""
        assert self._watch is not None, "made by `take_up`"
        assert self._mark is not None, "made by `take_up`"
        with db:
            result = call(db)
        self._watch.check()
        given = rev(result) if callable(rev) else rev
        if given is not None:
            self._mark.note(given)
        return result

    def _keep_up(self, db: apsw.Connection) -> None:
        assert self._watch is not None, "made by `take_up`"
        assert self._mark is not None, "made by `take_up`"
        self._watch.check_size(db)
        self._note_damage(self._mark)
        self._mark.sync()
        if self.reserve.is_out:
            self._make_room(db)
        if self.reserve.size_bytes < self.reserve.wanted_bytes:
            free_pages = int(db.pragma("freelist_count"))
            self.reserve.take_back(free_pages * int(db.pragma("page_size")))

    def _note_damage(self, mark: MarkFile) -> None:
        """Have the next start look at what cannot be looked at while all goes on."""
        if self._damage.is_news:
            mark.suspect()
            self._damage.is_news = False

    def _make_room(self, db: apsw.Connection) -> None:
        """Fold the WAL into the file and give its room back, where there is room to.

        Begun without, it would leave the disk full and the WAL as large as it is.
        """
        database = self._options.database
        if not _size_of(f"{database}-wal"):
            return
        whole_bytes = int(db.pragma("page_count")) * int(db.pragma("page_size"))
        growth_bytes = max(0, whole_bytes - _size_of(database))
        if growth_bytes + _SLACK_BYTES > self.reserve.free_bytes:
            return
        db.set_busy_timeout(_BUSY_MS)
        try:
            with contextlib.suppress(apsw.BusyError, apsw.FullError):  # the next time, then
                db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            db.set_busy_timeout(schema.BUSY_MS)


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
