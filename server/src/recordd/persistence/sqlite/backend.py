"""Storage in one SQLite file: one writing connection, a few reading ones.

Theory of operation. Rows are appended to the log and acknowledged; the index by record and
time lags behind and is merged in slices (`Merger`). What it lacks is in the `Tail`.
The writing methods change the file first (`WritingSide`) and this object's memory after COMMIT,
on the Trio thread; the reading ones (`ReadingSide`) take a snapshot of that memory.
The merge may go on beside the loop; a writing method has its slice end, and waits for that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw
import msgspec
import trio

from recordd.extending.backend import (
    MAX_DELETIONS,
    BackendOptions,
    BackendShutdown,
    CleanupTarget,
    DamagedStorage,
    DiskFull,
    FatalBackendError,
    Loaded,
    Purged,
    QueryParams,
    ReplayParams,
)
from recordd.extending.columns import RowColumns
from recordd.extending.commit import Commit, NewRows
from recordd.extending.moments import Gone, Moment, Moments
from recordd.persistence.sqlite import reads, schema, statements
from recordd.persistence.sqlite.beside import Beside
from recordd.persistence.sqlite.catalog import Catalog
from recordd.persistence.sqlite.changes import (
    Change,
    DeletionChange,
    RowsChange,
    make_changes,
    need_of,
    write_changes,
)
from recordd.persistence.sqlite.damage import DamageReport
from recordd.persistence.sqlite.database_lock import DatabaseLock
from recordd.persistence.sqlite.gil_turns import GilTurns
from recordd.persistence.sqlite.log_rows import LogRows
from recordd.persistence.sqlite.loop_reader import LoopReader
from recordd.persistence.sqlite.mark import refuse_odd_mark
from recordd.persistence.sqlite.mending import StartMender
from recordd.persistence.sqlite.merging import Merger
from recordd.persistence.sqlite.opening import Opener
from recordd.persistence.sqlite.options import SqliteOptions, read_open_options
from recordd.persistence.sqlite.readers import Readers
from recordd.persistence.sqlite.reading import Known, ReadingSide
from recordd.persistence.sqlite.recent_rows import RecentRows
from recordd.persistence.sqlite.reserve import Reserve
from recordd.persistence.sqlite.schema import Meta
from recordd.persistence.sqlite.sizes import size_of
from recordd.persistence.sqlite.tail import Tail
from recordd.persistence.sqlite.worker import SqliteWorker
from recordd.persistence.sqlite.writing import WritingSide
from recordd.persistence.sqlite.writing_connection import WritingConnection
from recordd.system.turns import Steps
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Page, Row

__all__ = ["SqliteBackend"]

P = ParamSpec("P")
T = TypeVar("T")

_ROWS_AT_ONCE: Final = 1024
"""Rows of a commit taken note of before others may run: some 0.5 ms."""
_TAIL_ENTRY_BYTES: Final = 200
"""An index entry in memory, of which there are twice `tail_rows` at times."""
_SORTED_ENTRY_BYTES: Final = 32
"""An index entry of the run, in the table where it is sorted."""
_COPIES: Final = 3
"""Of each value: as SQLite has it, as a row, as it goes into the answer."""


class SqliteBackend:
    """A `PersistenceBackend` over one file; see docs/persistence.md for its guarantees."""

    options_type: Final = SqliteOptions

    def __init__(self, options: BackendOptions) -> None:
        self._options: Final = read_open_options(options)
        self._turns: Final = GilTurns()
        self._damage: Final = DamageReport()
        self._lock: DatabaseLock | None = None
        self._writer: WritingConnection | None = None
        self._writing: WritingSide | None = None
        self._merging: Merger | None = None
        self._beside: Final = Beside()
        self._reading: ReadingSide | None = None
        self._readers: Final = Readers()
        self._loop_reader: LoopReader | None = None
        self._tail = Tail(0)
        self._rev = 0  # of the newest row; at start, the newest there was
        self._given_rev = 0  # the newest of all, deletions too
        self._epoch = ""
        self._catalog: Final = Catalog()
        self._recent_rows: Final = RecentRows(self._catalog, self._options.recent_bytes)
        self._damaged_records: Final[set[str]] = set()
        self._moments = Moments()
        self._deletions = 0  # remembered by name, at most
        self._purge_rev: int | None = None  # rows of deleted records wait, all at or below it
        self._log_end: DamagedStorage | None = None  # why no row can be appended
        self._remembered_time_ms: int | None = None
        self._keeps_position = False  # it is not the newest rev
        self._unsaid_next_id: int | None = None  # ids were given to what is not stored

    async def initialize(self) -> Loaded:
        """Open the file, creating it and its folder where they are not there."""
        path = self._options.database
        self._lock = DatabaseLock(path)
        refuse_odd_mark(path)
        mender = StartMender(path)
        await trio.to_thread.run_sync(mender.mend_first)
        schema.refuse_newer(path)
        schema.create_private(path)
        self._lock.hold_file()
        reserve = Reserve(path, self._options.reserve_bytes)
        try:
            return await self._start(path, mender, reserve)
        except DiskFull:
            if not reserve.size_bytes:
                raise
            reserve.release(0)  # what folding the WAL in takes is held again by `take_up`
            await self._close_connections()
            return await self._start(path, mender, reserve)

    async def _start(self, path: str, mender: StartMender, reserve: Reserve) -> Loaded:
        """Open the connections and read what memory holds."""
        opened = await Opener(self._options, self._turns, self._damage).open_mended(mender)
        self._writer, found = opened.writer, opened.found
        for damage in found.damaged.values():
            self._damage.note(damage)
        self._damaged_records.update(found.damaged)
        self._damage.is_news = False  # this start has looked
        self._writing = WritingSide(self._writer, self._options, reserve, self._damage)
        loaded = await self._writer.run(self._writing.take_up, found.loaded)
        for _ in range(self._options.readers):
            reader = await SqliteWorker.open(path, self._turns, readonly=True, damage=self._damage)
            self._readers.add(reader)
            await reader.run(schema.prepare_reader)
        self._loop_reader = await LoopReader.open(path)
        self._remembered_time_ms = await self._writer.run(statements.read_time)
        self._rev, self._epoch = loaded.rev, loaded.epoch
        self._given_rev = loaded.rev
        self._catalog.restore(found.ids, found.orders)
        self._moments = Moments(found.tick)
        self._purge_rev = found.purge_rev
        self._deletions = len(loaded.deletions)
        self._log_end = found.log_end
        self._tail = Tail(found.merged_rev)
        if found.unmerged:
            self._tail.extend(*zip(*found.unmerged, strict=True))
            self._tail.sort_out()  # nobody else waits yet
        self._merging = Merger(
            self._tail,
            self._writing,
            self._beside,
            tail_rows=self._options.tail_rows,
            is_index_lost=opened.is_index_lost,
        )
        self._reading = self._make_reading_side(self._loop_reader)
        self._keeps_position = found.position is not None
        position = loaded.rev if found.position is None else found.position
        return msgspec.structs.replace(loaded, position=position)

    def _make_reading_side(self, loop_reader: LoopReader) -> ReadingSide:
        known = Known(
            epoch=self._epoch,
            catalog=self._catalog,
            recent_rows=self._recent_rows,
            moments=self._moments,
            tail=self._tail,
            newest_rev=lambda: self._rev,
        )
        return ReadingSide(known, self._readers, loop_reader, self._options.query_timeout_s)

    async def apply(self, commits: Sequence[Commit], position: int) -> None:
        """Apply commits in one transaction; see `PersistenceBackend.apply`."""
        changes = make_changes(commits, self._rev)
        rev = changes[-1].rev if changes else None
        next_id = self._find_unsaid_id(commits)
        meta = self._find_meta(rev, position, next_id)
        if rev is None and Meta.POSITION not in meta:
            self._unsaid_next_id = next_id  # the next one that is stored says it
            return
        await self._beside.wait()
        need = need_of(changes, self._tail.merged_rev)
        if rev is None or need is None:
            ticks = await self._commit(rev, write_changes, changes, meta)
        else:
            await self._prepare_rows()
            ticks = await self._writing_side.store(
                rev, lambda db: write_changes(db, changes, meta), need
            )
        self._keeps_position = Meta.POSITION in meta
        self._unsaid_next_id = None
        self._merger.go_on_beside()
        for change, tick in zip(changes, ticks, strict=True):
            await self._note_change(change, tick)

    def apply_at_once(self, commit: NewRows, position: int) -> bool:
        """Commit a few rows on the loop; see `CommitsAtOnce`."""
        if (
            not self._merger.is_at_rest
            or self._log_end is not None
            or len(commit.rows) > _ROWS_AT_ONCE
        ):
            return False
        change = RowsChange(commit)
        need = need_of([change], self._tail.merged_rev) if len(change.rows) else None
        if need is None:
            return False
        meta = self._find_meta(change.rev, position, self._find_unsaid_id([commit]))
        if not self._writing_side.store_at_once(
            change.rev, lambda db: write_changes(db, [change], meta), need
        ):
            return False
        self._keeps_position = Meta.POSITION in meta
        self._unsaid_next_id = None
        self._note_new(change)
        self._note_rows(change.rows)
        return True

    def _find_unsaid_id(self, commits: Sequence[Commit]) -> int | None:
        """Return the next record's id, where the records that are stored do not tell it."""
        next_id = self._unsaid_next_id
        for commit in commits:
            if isinstance(commit, NewRows) and commit.created:
                newest = commit.created[-1]
                next_id = None if newest.is_stored else newest.record_id + 1
        return next_id

    def _find_meta(self, rev: int | None, position: int, next_id: int | None) -> dict[str, int]:
        """Return what is to be kept with commits that their rows and records do not tell."""
        meta = {}
        if position and (self._keeps_position or position != rev):
            meta[Meta.POSITION] = position
        if next_id is not None:
            meta[Meta.NEXT_RECORD_ID] = next_id
        return meta

    async def _prepare_rows(self) -> None:
        """See that rows can be appended, and that memory has room for their entries."""
        if self._log_end is not None:
            self._damage.note(self._log_end)
            raise self._log_end
        await self._merger.bound_tail()

    async def _note_change(self, change: Change, tick: int | None) -> None:
        """Take note of a change that is committed."""
        if isinstance(change, RowsChange):
            await self._note_stored(change)
        elif isinstance(change, DeletionChange):
            self._given_rev = change.rev
            self._moments.note_deletion(self._catalog.extent(change.name, change.last_rev), tick)
            self._forget(change.name, change.last_rev)
        else:
            _, rev = change.replaced
            self._moments.note_purge([Gone(change.name, change.replaced, rev, rev)], tick)
            self._note_rows(change.row)
            # The row that is new is not the newest one.
            self._recent_rows.recent.forget(change.record)
            self._damaged_records.discard(change.name)

    async def _note_stored(self, change: RowsChange) -> None:
        self._note_new(change)
        for start in range(0, len(change.rows), _ROWS_AT_ONCE):
            if start:  # it is committed: cancelled here, memory would lack it
                await trio.lowlevel.cancel_shielded_checkpoint()
            self._note_rows(change.rows.part(start, start + _ROWS_AT_ONCE))

    def _note_new(self, change: RowsChange) -> None:
        """Take note of rows that are committed, but for what is noted of each."""
        self._catalog.add(change.records)
        if not self._recent_rows.recent.is_empty:
            self._recent_rows.note_commit(change.commit)
        if self._damaged_records:
            rows = RowColumns.of(change.commit.rows)
            healed = {name for place, name in enumerate(rows.names) if place not in rows.late}
            self._damaged_records.difference_update(healed)

    def take_moment(self, as_of: int) -> Moment:
        """Return the present moment; see `PersistenceBackend.take_moment`."""
        return self._moments.take(as_of)

    def query(self, patterns: PatternSet, params: QueryParams) -> Coroutine[Any, Any, Page]:
        """Return rows by (`ts`, `rev`); see `PersistenceBackend.query`."""
        return self._reading_side.query(patterns, params)

    def query_at_once(self, patterns: PatternSet, params: QueryParams) -> Steps[Page | None]:
        """Return rows that are in memory, or soon read; see `AnswersAtOnce`."""
        return self._reading_side.query_at_once(patterns, params)

    async def replay(self, patterns: PatternSet, params: ReplayParams) -> Page:
        """Return rows by `rev`; see `PersistenceBackend.replay`."""
        return await self._reading_side.replay(patterns, params)

    async def at(self, rev: int, moment: Moment) -> Row | None:
        """Return the row of one commit number; see `PersistenceBackend.at`."""
        return await self._reading_side.at(rev, moment)

    async def cleanup(
        self, targets: Sequence[CleanupTarget], limit: int
    ) -> tuple[dict[str, Purged], int]:
        """Delete rows that are indexed on disk; see `PersistenceBackend.cleanup`."""
        await self._beside.wait()
        known = [(self._catalog.find(target.name) or -1, target) for target in targets]
        cleaned = await self._writing_side.in_slices(
            lambda slice_rows: self._write(
                statements.clean_up,
                known,
                merged_rev=self._tail.merged_rev,
                unmerged={record for record, _ in known if self._tail.has(record)},
                limit=min(limit, slice_rows),
            )
        )
        if cleaned.tick is not None:
            self._moments.note_purge(cleaned.gone, cleaned.tick)
            for gone in cleaned.gone:
                if (record := self._catalog.find(gone.name)) is not None:
                    self._recent_rows.recent.note_gone(record, gone.newest)
        return cleaned.purged, cleaned.done

    @property
    def indexed_rev(self) -> int:
        """How far the log is merged into the index."""
        return (
            self._given_rev
            if not len(self._tail) and not self._tail.is_merging
            else self._tail.merged_rev
        )

    async def maintain(self, up_to_rev: int) -> bool:
        """Merge a slice of the tail, or purge a slice of what was deleted."""
        is_awaited = up_to_rev > 0 or self._purge_rev is not None
        awaited_rev = max(up_to_rev, self._purge_rev or 0) if is_awaited else None
        if await self._merger.merge_some(self._rev, awaited_rev):
            return True
        return self._purge_rev is not None and await self._purge_slice()

    @property
    def database(self) -> str:
        """The file, by its real name."""
        return self._options.database

    @property
    def parallel_reads(self) -> int:
        """As many as there are reading connections."""
        return self._options.readers

    def estimate_memory(self, *, max_value_bytes: int, max_reply_bytes: int) -> dict[str, int]:
        """Return what the index, the connections and their reads take at most."""
        readers = self._options.readers + 1  # the loop has one, too
        largest_read_bytes = reads.VALUES_AT_ONCE * max_value_bytes + max_reply_bytes
        return {
            "index tail": 2 * self._options.tail_rows * _TAIL_ENTRY_BYTES,
            "sorted run": self._options.tail_rows * _SORTED_ENTRY_BYTES,
            "page caches": schema.WRITER_CACHE_BYTES + readers * schema.READER_CACHE_BYTES,
            "recent rows": self._options.recent_bytes,
            "reads": self._options.readers * _COPIES * largest_read_bytes,
        }

    async def check(self) -> None:
        """Look that the files are still in their places, and bring the mark to disk."""
        await self._beside.wait()
        await self._writing_side.check()

    @property
    def remembered_time_ms(self) -> int | None:
        """The time that was remembered last; see `RemembersTime`."""
        return self._remembered_time_ms

    async def remember_time(self, time_ms: int) -> None:
        """Remember a time over restarts."""
        await self._beside.wait()
        await self._write(statements.remember_time, time_ms)
        self._remembered_time_ms = time_ms

    def statistics(self) -> dict[str, int | str]:
        """Return what `server.stats` shows of the storage."""
        return {
            "backend": "sqlite",
            "database": self._options.database,
            "database_bytes": size_of(self._options.database),
            "wal_bytes": size_of(self._options.database + "-wal"),
            "merged_rev": self._tail.merged_rev,
            "unmerged_rows": self._rev - self._tail.merged_rev,
            "merges": self._merging.merges if self._merging else 0,
            "recent_bytes": self._recent_rows.recent.size_bytes,
            "rollbacks": self._writer.rollbacks if self._writer else 0,
            "reserve_bytes": self._writing.reserve.size_bytes if self._writing else 0,
            "damaged_pages": self._damage.pages,
            "damage_errors": self._damage.errors,
            "damaged_records": len(self._damaged_records),
        }

    async def close(self) -> None:
        """Close every connection, the writing one last: it folds the WAL into the file.

        Raises:
            BackendError: the disk fails; all is closed nevertheless.
        """
        with trio.CancelScope(shield=True):
            async with contextlib.AsyncExitStack() as last_first:
                last_first.callback(self._release_lock)
                last_first.push_async_callback(self._close_connections)
                with contextlib.suppress(FatalBackendError):  # the mark does not say it is whole
                    await self._beside.wait()

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _close_connections(self) -> None:
        async with contextlib.AsyncExitStack() as last_first:
            if self._writing is not None:
                last_first.callback(self._writing.close)
            if self._writer is not None:
                last_first.push_async_callback(self._writer.close)
            last_first.push_async_callback(self._readers.close)
            if self._loop_reader is not None:
                last_first.callback(self._loop_reader.close)

    @property
    def _writing_side(self) -> WritingSide:
        if self._writing is None:
            raise BackendShutdown("the database is not open")
        return self._writing

    @property
    def _merger(self) -> Merger:
        if self._merging is None:
            raise BackendShutdown("the database is not open")
        return self._merging

    @property
    def _reading_side(self) -> ReadingSide:
        if self._reading is None:
            raise BackendShutdown("the database is not open")
        return self._reading

    def _note_rows(self, rows: LogRows) -> None:
        """Take note of rows that are committed."""
        self._tail.extend(rows.records, rows.times, rows.revs)
        self._catalog.note_rows(rows.records, rows.times, rows.revs)
        self._rev = self._given_rev = rows.revs[-1]

    def _forget(self, name: str, last_rev: int) -> None:
        """Take note that a record is deleted, all its rows at or below `last_rev`."""
        if (record := self._catalog.find(name)) is not None:
            self._recent_rows.recent.forget(record)
        self._catalog.remove(name, self._moments.tick)
        self._damaged_records.discard(name)
        self._purge_rev = max(self._purge_rev or 0, last_rev)
        self._deletions += 1

    async def _purge_slice(self) -> bool:
        """Purge some of what no reader shows any more; the rest waits for a later housekeeping."""
        shown = self._catalog.forget_deleted(self._moments.oldest_tick)
        found = await self._writing_side.in_slices(
            lambda slice_rows: self._write(
                statements.purge_slice, self.indexed_rev, slice_rows, keep=shown
            )
        )
        # Seldom: it counts all of them.
        if self._deletions > MAX_DELETIONS + self._writing_side.slice_rows:
            self._deletions = await self._write(statements.forget_deletions, MAX_DELETIONS)
        if not found and not shown:
            self._purge_rev = None
        return found

    async def _write(
        self,
        function: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run on the writing connection what gives no rev; see `_commit`."""
        return await self._commit(None, function, *args, **kwargs)

    async def _commit(
        self,
        rev: int | None,
        function: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run on the writing connection; `rev` is the newest that the function gives."""
        return await self._writing_side.commit(rev, lambda db: function(db, *args, **kwargs))
