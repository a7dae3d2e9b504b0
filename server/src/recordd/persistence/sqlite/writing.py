"""The writing side of a file: one connection, and what stands beside the file.

A commit counts when it went into the files that have the names still, and the mark beside
them knows of it.

Theory of a full disk. At every commit the reserve holds at least what folding the WAL into
the file would add to it: how much the file will have grown is known before COMMIT, and a
transaction for whose growth there is no room is rolled back. SQLite may then meet a full
disk while it writes the WAL, which harms nothing: what is not committed is overwritten, or
cut off when the WAL is folded in. So a WAL on a full disk can always be folded in, once no
reader holds it back, and the room that it took is there again for what makes room. And no
ordinary write lets the file grow into the room that the reserve comes back to.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

import apsw
import trio

from recordd.extending.backend import DiskFull, FatalBackendError, Loaded
from recordd.persistence.sqlite import schema, standing
from recordd.persistence.sqlite.checkpoints import Checkpoints
from recordd.persistence.sqlite.damage import DamageReport
from recordd.persistence.sqlite.mark import MarkFile
from recordd.persistence.sqlite.need import ENTRY_BYTES, Need
from recordd.persistence.sqlite.options import OpenOptions
from recordd.persistence.sqlite.pace import Pace
from recordd.persistence.sqlite.reserve import Reserve
from recordd.persistence.sqlite.sizes import size_of
from recordd.persistence.sqlite.watch import FileWatch
from recordd.persistence.sqlite.writing_connection import WritingConnection
from recordd_protocol.integers import MAX_INTEGER

__all__ = ["WritingSide"]

P = ParamSpec("P")
T = TypeVar("T")
_SLICE_ROWS: Final = 2000
"""Rows that housekeeping handles in one transaction: a stall of some ms for a write behind it."""

_CHECKPOINT_PAGES: Final = 1000
"""Of the WAL: from then on housekeeping folds it in, which takes some 10 ms, when nobody waits."""
_OVERDUE_PAGES: Final = 4000
"""From then on a write waits for it."""
_BUSY_MS: Final = 100
_QUICK_BYTES: Final = 1 << 20
"""What a write may need at most (`Need`) for the loop to wait for it: a thousand rows of 60
characters, some 1.2 ms of inserts; on a thread beside a busy loop 3.3."""
_FOLD_SLACK_BYTES: Final = 65_536
"""What the file system may need beside for a file that grows: its own maps of blocks."""


class WritingSide:
    """A writing connection over a file that was found to be the right one."""

    def __init__(
        self,
        connection: WritingConnection,
        options: OpenOptions,
        reserve: Reserve,
        damage: DamageReport,
    ) -> None:
        self.reserve: Final = reserve
        self._damage: Final = damage
        self._connection: Final = connection
        self._options: Final = options
        self._watch: FileWatch | None = None
        self._mark: MarkFile | None = None
        self._pace: Final = Pace()
        self._checkpoints = Checkpoints(_CHECKPOINT_PAGES, _OVERDUE_PAGES)
        self._is_whole = True
        self._page_bytes = 0
        self._whole_bytes = 0  # of the database with its WAL, when it was last looked at
        self._spare_bytes = 0  # how much it may grow before that is to be looked at again
        self.slice_rows = _SLICE_ROWS
        """How many rows housekeeping may handle in one transaction."""

    @property
    def max_unmerged_rows(self) -> int:
        """How many rows may wait for the index: to merge them, twice as many, the reserve does."""
        wanted_bytes = self.reserve.wanted_bytes - self.reserve.deleting_bytes
        return wanted_bytes // (2 * ENTRY_BYTES) or MAX_INTEGER

    async def in_slices(self, do_slice: Callable[[int], Awaitable[T]], times: int = 1) -> T:
        """Do a slice of housekeeping, `times` as large as others; a small one on a full disk.

        Each row may take some pages of the WAL, which is all the room there is then.

        Raises:
            DiskFull: also for a slice of one row.
        """
        while True:
            try:
                is_small = self.slice_rows < _SLICE_ROWS
                return await do_slice(self.slice_rows * (1 if is_small else times))
            except DiskFull:
                if self.slice_rows == 1:
                    raise
                self.slice_rows = max(1, self.slice_rows // 4)

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
        self._page_bytes = int(db.pragma("page_size"))
        if self.reserve.wanted_bytes:
            # To fold the WAL in takes as much room again: no more than half the reserve.
            pages = self.reserve.wanted_bytes // 2 // self._page_bytes
            self._checkpoints = Checkpoints(
                max(1, min(_CHECKPOINT_PAGES, pages)), max(1, min(_OVERDUE_PAGES, pages))
            )
        db.set_wal_hook(self._note_wal)  # in the place of the one that checkpoints
        with contextlib.suppress(DiskFull):  # deleting will find out
            self._whole_bytes = self._ask_for_room(db, None)
        self.reserve.start()
        return loaded

    async def store(self, rev: int, call: Callable[[apsw.Connection], T], need: Need) -> T:
        """Commit an ordinary write.

        It leaves room to delete in, whatever the WAL takes, and lets the file grow only where
        the reserve can be whole when the WAL is folded in and these rows are indexed.

        Raises:
            DiskFull: also while the reserve is out.
        """
        if self.reserve.is_out:
            raise DiskFull("the disk is full: writes go on when reserve_bytes are free again")
        try:
            return await self._run(rev, call, need)
        except DiskFull:
            if not await self._make_room():
                raise
        return await self._run(rev, call, need)

    def store_at_once(
        self, rev: int, call: Callable[[apsw.Connection], object], need: Need
    ) -> bool:
        """Do as `store` on the loop; return False, nothing changed, where that would take long.

        Raises:
            BackendError: nothing was changed either: `store` makes the best of it.
        """
        if self.reserve.is_out or self._checkpoints.is_due or not self._is_quick(need):
            return False
        try:
            self._commit_here(rev, call, need)
        except trio.WouldBlock:
            return False
        return True

    def _is_quick(self, need: Need) -> bool:
        return need.most_bytes <= _QUICK_BYTES and self._pace.is_quick

    async def commit(self, rev: int | None, call: Callable[[apsw.Connection], T]) -> T:
        """Commit what must go on when the disk is full; `rev` is the newest it gives.

        To the end, also when cancelled: a cancelled COMMIT may have happened.
        """
        for make_room in (self._make_room, self._release):
            try:
                return await self._run(rev, call)
            except DiskFull:
                await make_room()
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

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether the WAL is as long as it should become."""
        return self._checkpoints.is_due

    async def checkpoint_if_due(self) -> None:
        """Copy the WAL into the file when it is long, so that a later commit begins it anew.

        What goes wrong is met again by the next one: all is in the WAL still.
        """
        if self._checkpoints.is_due:
            await self._on_thread(self._checkpoint)

    async def _run(
        self,
        rev: int | None,
        call: Callable[[apsw.Connection], T],
        need: Need | None = None,
    ) -> T:
        """Commit where that is quicker: on the loop, or on a thread."""
        if self._checkpoints.is_overdue:
            await self._on_thread(self._checkpoint)
        if need is not None and self._is_quick(need):
            with contextlib.suppress(trio.WouldBlock):
                return self._commit_here(rev, call, need)
        return await self._on_thread(self._transact, rev, call, need)

    def _commit_here(self, rev: int | None, call: Callable[[apsw.Connection], T], need: Need) -> T:
        try:
            return self._connection.run_here(self._transact, rev, call, need)
        except FatalBackendError:
            self._is_whole = False
            raise

    async def _on_thread(
        self,
        function: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        try:
            with trio.CancelScope(shield=True):
                result = await self._connection.run(function, *args, **kwargs)
        except FatalBackendError:
            self._is_whole = False
            raise
        return result

    def _transact(
        self,
        db: apsw.Connection,
        rev: int | None,
        call: Callable[[apsw.Connection], T],
        need: Need | None,
    ) -> T:
        """Commit, see that it went into the files that are there, and mark it."""
        assert self._watch is not None, "made by `take_up`"
        assert self._mark is not None, "made by `take_up`"
        try:
            with db:
                result = call(db)
                whole_bytes = self._ask_for_room(db, need)
                self._pace.begin()
        finally:
            self._pace.end()
        self._whole_bytes = whole_bytes
        self._watch.check()
        if rev is not None:
            self._mark.note(rev)
        return result

    def _note_wal(self, _: apsw.Connection, __: str, pages: int) -> int:
        """Note how long the WAL is; SQLite calls this behind each commit."""
        self._checkpoints.note_length(pages)
        return apsw.SQLITE_OK

    def _checkpoint(self, db: apsw.Connection) -> None:
        with contextlib.suppress(apsw.Error):  # as SQLite does behind a commit
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self._checkpoints.note_done()

    def _ask_for_room(self, db: apsw.Connection, need: Need | None) -> int:
        """Hold the room that is needed behind this transaction; return the database's size then.

        Of an ordinary one it is given what it needs. A look takes some 20 µs, so there is none
        while what it needs at most is well within what the last look found to spare.

        Raises:
            DiskFull: there is no such room.
        """
        if not self.reserve.wanted_bytes:
            return 0
        if need is not None and need.most_bytes <= self._spare_bytes:
            self._spare_bytes -= need.most_bytes
            return self._whole_bytes
        self._spare_bytes = 0
        whole_bytes = self._count_bytes(db)
        growth_bytes = max(0, whole_bytes - size_of(self._options.database))
        needed_bytes = _fold_bytes(growth_bytes)
        if need is None:
            self.reserve.hold(needed_bytes)
            return whole_bytes
        needed_bytes += self.reserve.deleting_bytes
        spare_bytes = self._count_spare(growth_bytes + need.unmerged_rows * ENTRY_BYTES)
        # Free pages may always be written to.
        if spare_bytes < 0 and whole_bytes > self._whole_bytes:
            raise DiskFull()
        self.reserve.hold(needed_bytes)
        # Half: what is folded takes some room beside, and a row its place in the index.
        self._spare_bytes = min(spare_bytes, self.reserve.size_bytes - needed_bytes) // 2
        return whole_bytes

    def _count_spare(self, taken_bytes: int) -> int:
        """Return how much the database may grow beyond this, and leave the reserve its room.

        Else it would come back smaller each time the disk was full, and in the end not at all.
        """
        wal_bytes = size_of(f"{self._options.database}-wal")
        left_bytes = self.reserve.size_bytes + self.reserve.free_bytes + wal_bytes - taken_bytes
        return left_bytes - self.reserve.wanted_bytes - self.reserve.deleting_bytes

    def _keep_up(self, db: apsw.Connection) -> None:
        assert self._watch is not None, "made by `take_up`"
        assert self._mark is not None, "made by `take_up`"
        self._watch.check_size(db)
        self._note_damage(self._mark)
        self._mark.sync()
        self._look_again(db)  # others fill the disk too
        reserve = self.reserve
        if reserve.is_out:
            self._fold(db)
        self._trim(db)
        if reserve.is_out or reserve.size_bytes < reserve.wanted_bytes:
            reserve.take_back(int(db.pragma("freelist_count")) * self._page_bytes)
        if not reserve.is_out:
            self.slice_rows = _SLICE_ROWS

    def _note_damage(self, mark: MarkFile) -> None:
        """Have the next start look at what cannot be looked at while all goes on."""
        if self._damage.is_news:
            mark.suspect()
            self._damage.is_news = False

    async def _make_room(self) -> bool:
        """Fold the WAL in; return whether that gave room back."""
        return await self._on_thread(self._fold)

    async def _release(self) -> bool:
        """Release the room to delete in, and fold the WAL in; return whether that gave room."""
        return await self._on_thread(self._release_on_thread)

    def _release_on_thread(self, db: apsw.Connection) -> bool:
        self.reserve.release(self._fold_bytes(db))
        return self._fold(db)

    def _fold(self, db: apsw.Connection) -> bool:
        """Fold the WAL into the file and cut it off; return whether it has become smaller."""
        wal = f"{self._options.database}-wal"
        before_bytes = size_of(wal)
        self._look_again(db)
        if not before_bytes:
            return False
        db.set_busy_timeout(_BUSY_MS)
        try:
            with (
                self.reserve.lent(self._fold_bytes(db)),
                contextlib.suppress(apsw.BusyError, apsw.FullError),  # the next time, then
            ):
                db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            db.set_busy_timeout(schema.BUSY_MS)
        self._trim(db)
        return size_of(wal) < before_bytes

    def _trim(self, db: apsw.Connection) -> None:
        """Give back what the reserve held beyond its size, as far as folding takes it no more."""
        if self.reserve.size_bytes > self.reserve.wanted_bytes:
            self.reserve.trim(self._fold_bytes(db) + self.reserve.deleting_bytes)

    def _look_again(self, db: apsw.Connection) -> None:
        """Have the next write look at what there is; the last looks may be some writes old."""
        self._spare_bytes = 0
        self._whole_bytes = self._count_bytes(db)

    def _count_bytes(self, db: apsw.Connection) -> int:
        """Return what all pages take, those in the WAL and those not committed yet too."""
        return int(db.pragma("page_count")) * self._page_bytes

    def _fold_bytes(self, db: apsw.Connection) -> int:
        """Return the room that folding the WAL in takes now."""
        return _fold_bytes(max(0, self._count_bytes(db) - size_of(self._options.database)))


def _fold_bytes(growth_bytes: int) -> int:
    """Return the room that folding takes where the file grows by so much."""
    return growth_bytes + min(growth_bytes, _FOLD_SLACK_BYTES)
