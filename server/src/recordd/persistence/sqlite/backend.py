"""Storage in one SQLite file: one writing connection, a few reading ones.

Theory of operation. Rows are appended to the log and acknowledged; the index by record and
time lags behind and is merged in slices, by `maintain`. What it lacks is in the `Tail`.
The writing methods change the file first and this object's memory after COMMIT, on the
Trio thread; the reading ones take a snapshot of that memory, and then read on a thread
of their own what the file held at that moment or later, leaving out what came later.
A slice of the merge may go on beside the loop; each writing method waits for it first.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw
import msgspec
import trio

from recordd.extending.backend import (
    MAX_DELETIONS,
    BackendError,
    BackendOptions,
    BackendShutdown,
    CleanupTarget,
    DamagedStorage,
    DiskFull,
    FatalBackendError,
    Loaded,
    PassingBackendError,
    PersistenceError,
    Purged,
    QueryParams,
    ReplayParams,
    RestartNeeded,
    UnreadableStorage,
)
from recordd.extending.columns import RowColumns
from recordd.extending.commit import Commit, NewRows, Renewal
from recordd.extending.moments import Gone, Moment, Moments
from recordd.persistence.cursor import Cursor, LogCursor, decode_cursor, encode
from recordd.persistence.sqlite import reads, schema, statements
from recordd.persistence.sqlite.beside import Beside
from recordd.persistence.sqlite.catalog import Catalog, key_of
from recordd.persistence.sqlite.changes import (
    Change,
    DeletionChange,
    RenewalChange,
    RowsChange,
    need_of,
    write_changes,
)
from recordd.persistence.sqlite.damage import INDEX, DamageReport
from recordd.persistence.sqlite.database_lock import DatabaseLock
from recordd.persistence.sqlite.gil_turns import GilTurns
from recordd.persistence.sqlite.log_rows import LogRows
from recordd.persistence.sqlite.loop_reader import LoopReader
from recordd.persistence.sqlite.mark import refuse_odd_mark
from recordd.persistence.sqlite.mending import StartMender
from recordd.persistence.sqlite.merge_pace import MergePace
from recordd.persistence.sqlite.opening import Opener
from recordd.persistence.sqlite.options import SqliteOptions, read_open_options
from recordd.persistence.sqlite.plans import Found, FoundText, Place, QueryPlan
from recordd.persistence.sqlite.readers import Readers
from recordd.persistence.sqlite.recent_rows import RecentRows, cut_page, make_rows
from recordd.persistence.sqlite.reserve import Reserve
from recordd.persistence.sqlite.schema import Meta
from recordd.persistence.sqlite.sizes import size_of
from recordd.persistence.sqlite.tail import Key, Tail
from recordd.persistence.sqlite.worker import SqliteWorker
from recordd.persistence.sqlite.writing import WritingSide
from recordd.persistence.sqlite.writing_connection import WritingConnection
from recordd.system.turns import Steps
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import MAX_INTEGER
from recordd_protocol.patterns import PatternSet, compile_patterns
from recordd_protocol.rows import Page, Row

__all__ = ["SqliteBackend"]

P = ParamSpec("P")
T = TypeVar("T")

_ROWS_AT_ONCE: Final = 1024
"""Rows of a commit taken note of before others may run: some 0.5 ms."""
_TAIL_ENTRY_BYTES: Final = 200
"""An index entry in memory, of which there are twice `tail_rows` at times."""
_COPIES: Final = 3
"""Of each value: as SQLite has it, as a row, as it goes into the answer."""
_RUN_START: Final = (-1, -1, -1)
"""Before every entry of a run: neither ids, times nor revs are negative."""
_SORTED_AT_ONCE: Final = 16_384
"""Revs whose rows are sorted for the index in one step, some 5 ms: a write may wait for it."""
_EVERYTHING: Final = compile_patterns("#")


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
        self._merges = 0
        self._merge_pace: Final = MergePace()
        self._beside: Final = Beside()
        self._merged_to: Key | None = None  # of the run, None where it is not sorted yet
        self._sorted: tuple[int, int] | None = None  # of the run: up to which rev, and how many
        self._merge_use: Final = trio.Lock()
        self._merges_beside = False  # the run that is under way, behind each commit
        self._is_index_lost = False
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
        self._is_index_lost = opened.is_index_lost
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
        self._keeps_position = found.position is not None
        position = loaded.rev if found.position is None else found.position
        return msgspec.structs.replace(loaded, position=position)

    async def apply(self, commits: Sequence[Commit], position: int) -> None:
        """Apply commits in one transaction; see `PersistenceBackend.apply`."""
        changes = self._make_changes(commits)
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
        if self._merges_beside and self._tail.is_merging and self._beside.is_free:
            self._begin_beside()
        for change, tick in zip(changes, ticks, strict=True):
            await self._note_change(change, tick)

    def apply_at_once(self, commit: NewRows, position: int) -> bool:
        """Commit a few rows on the loop; see `CommitsAtOnce`."""
        is_keeping_house = self._tail.is_merging or not self._beside.is_free
        if is_keeping_house or self._log_end is not None or len(commit.rows) > _ROWS_AT_ONCE:
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

    def _make_changes(self, commits: Sequence[Commit]) -> list[Change]:
        """Return what commits change in the file."""
        changes: list[Change] = []
        last_rev = self._rev
        for commit in commits:
            if isinstance(commit, NewRows):
                change = RowsChange(commit)
                if len(change.rows):
                    changes.append(change)
                    last_rev = change.rev
            elif isinstance(commit, Renewal):
                changes.append(RenewalChange(commit))
                last_rev = changes[-1].rev
            else:
                changes += [
                    DeletionChange(deletion, deletion.rev, last_rev)
                    for deletion in commit.deletions
                    if deletion.rev is not None
                ]
        return changes

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
        await self._bound_tail()

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
        as_of, behind = self._find_place(patterns, params)
        plan = self._make_plan(patterns, params, as_of, behind)
        return self._query(patterns, plan, params.moment)

    def query_at_once(self, patterns: PatternSet, params: QueryParams) -> Steps[Page | None]:
        """Return rows that are in memory, or soon read; see `AnswersAtOnce`."""
        moment, (as_of, behind) = params.moment, self._find_place(patterns, params)
        rows = yield from self._recent_rows.find(patterns, params, as_of, behind)
        if rows is None:
            return self._read_here(patterns, params, as_of, behind)
        if self._moments.tick != moment.tick:
            return None
        page, text = cut_page(rows, params.page)
        following = None
        if len(page.orders) < len(rows.orders):
            following = self._make_cursor(key_of(page.orders[-1]), as_of, moment)
        if params.as_text and text:
            return Page([], rev=as_of, epoch=self._epoch, next=following, text=text)
        made = yield from make_rows(page)
        return Page(made, rev=as_of, epoch=self._epoch, next=following)

    def _read_here(
        self,
        patterns: PatternSet,
        params: QueryParams,
        as_of: int,
        behind: tuple[int, int] | None,
    ) -> Page | None:
        """Return rows that the file gives soon, read on the loop."""
        moment = params.moment
        if self._loop_reader is None or not params.as_text or moment.tick != self._moments.tick:
            return None
        place = self._find_indexed(patterns, params, as_of, behind)
        if place is not None:
            found = self._loop_reader.read_indexed(place, moment.tick)
        else:
            plan = self._make_plan(patterns, params, as_of, behind)
            found = self._loop_reader.read(plan, moment.tick)
        if found is None:
            return None
        if place is None or self._recent_rows.has_newest(place.record, place.end_ms):
            plan = self._make_plan(patterns, params, as_of, behind)
            warming = self._recent_rows.begin(patterns, plan, self._rev)
            warming.take(found)
            warming.end()
        return self._make_page(found, as_of, moment)

    def _find_indexed(
        self,
        patterns: PatternSet,
        params: QueryParams,
        as_of: int,
        behind: tuple[int, int] | None,
    ) -> Place | None:
        """Return where the rows of one record are, if all are indexed on disk; else None."""
        name = patterns.only_name
        record = None if name is None else self._catalog.find(name)
        if name is None or record is None or self._tail.has(record):
            return None
        start = params.start_ms or 0, -1
        return Place(
            record,
            name,
            start if behind is None or behind < start else behind,
            MAX_INTEGER if params.end_ms is None else params.end_ms,
            min(self._tail.merged_rev, as_of),
            params.limit_per_record,
            params.page,
        )

    def _make_plan(
        self,
        patterns: PatternSet,
        params: QueryParams,
        as_of: int,
        behind: tuple[int, int] | None,
    ) -> QueryPlan:
        merged_rev, tails = self._tail.snapshot()
        return QueryPlan(
            records=self._catalog.select(patterns, params.moment),
            tails=tails,
            merged_rev=merged_rev,
            as_of=as_of,
            limit_per_record=params.limit_per_record,
            start_ms=0 if params.start_ms is None else params.start_ms,
            end_ms=MAX_INTEGER if params.end_ms is None else params.end_ms,
            behind=behind,
            page=params.page,
            fewest_as_text=0 if params.as_text else None,
        )

    def _find_place(
        self, patterns: PatternSet, params: QueryParams
    ) -> tuple[int, tuple[int, int] | None]:
        """Return the newest commit that a page shows, and the last key of the page before."""
        moment = params.moment
        if params.page_cursor is None:
            return moment.as_of, None
        cursor = decode_cursor(
            params.page_cursor, epoch=self._epoch, newest_rev=moment.as_of, tick=moment.tick
        )
        as_of, behind = cursor.as_of, (cursor.ts, cursor.rev)
        self._moments.check_page(
            patterns, since=cursor.tick, until=moment.tick, behind=behind,
            end_ms=params.end_ms, as_of=as_of,
        )  # fmt: skip
        return as_of, behind

    async def _query(self, patterns: PatternSet, plan: QueryPlan, moment: Moment) -> Page:
        """Read the page; `moment` is held until then, or until this is given up."""
        warming = self._recent_rows.begin(patterns, plan, self._rev)
        if plan.fewest_as_text is not None:
            plan = msgspec.structs.replace(plan, fewest_as_text=warming.fewest_as_text)
        try:
            found, tick = await self._read(
                lambda db: reads.read_page(db, plan, self._options.query_timeout_s)
            )
            if tick > moment.tick:
                self._moments.check_read(
                    patterns, moment, behind=plan.start, end_ms=plan.end_ms, as_of=plan.as_of
                )
            warming.take(found)
        finally:
            warming.end()
        return self._make_page(found, plan.as_of, moment)

    def _make_page(self, found: Found | FoundText, as_of: int, moment: Moment) -> Page:
        """Return a page, and where there are more rows, what the next one is asked for by."""
        if isinstance(found, FoundText):
            rows, text, last = [], found.text, found.last
        else:
            rows, text, last = found.rows, None, None
            if found.more and rows[-1].rev is not None:
                last = rows[-1].ts, rows[-1].rev
        following = None if last is None else self._make_cursor(last, as_of, moment)
        return Page(rows, rev=as_of, epoch=self._epoch, next=following, text=text)

    def _make_cursor(self, last: tuple[int, int], as_of: int, moment: Moment) -> str:
        return encode(Cursor(*last, as_of, moment.tick), self._epoch)

    async def replay(self, patterns: PatternSet, params: ReplayParams) -> Page:
        """Return rows by `rev`; see `PersistenceBackend.replay`."""
        moment, page = params.moment, params.page
        plan = reads.ReplayPlan(
            names=self._catalog.select(patterns, moment),
            after_rev=params.after_rev,
            as_of=moment.as_of,
            page=page.at_most(params.limit),
            max_scanned=page.rows * 10,
        )
        (rows, last), tick = await self._read(
            lambda db: reads.read_replay(db, plan, self._options.query_timeout_s)
        )
        if tick > moment.tick:
            self._moments.check_log(
                patterns,
                moment,
                after_rev=params.after_rev,
                up_to=moment.as_of if last is None else last,
            )
        following = None if last is None else encode(LogCursor(last), self._epoch)
        return Page(rows, rev=moment.as_of, epoch=self._epoch, next=following)

    async def at(self, rev: int, moment: Moment) -> Row | None:
        """Return the row of one commit number; see `PersistenceBackend.at`."""
        found, tick = await self._read(
            lambda db: reads.read_with_tick(db, lambda db: reads.read_row(db, rev))
        )
        if found is None:
            if tick > moment.tick:
                self._moments.check_log(_EVERYTHING, moment, after_rev=rev - 1, up_to=rev)
            return None
        record, ts, value = found
        name = self._catalog.names_at(moment).get(record)
        return None if name is None else Row(name, value, ts, rev)

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
        """Merge a slice of the tail, or purge a slice of what was deleted.

        Where nobody waits for the index the slice goes on beside the loop, and the next one
        comes behind the next commit.
        """
        tail = self._tail
        is_awaited = up_to_rev > 0 or self._purge_rev is not None
        if not is_awaited and self._beside.is_busy and len(tail) < self._max_tail_rows:
            return False
        self._merges_beside = False
        await self._beside.join()
        if not tail.is_merging and len(tail) and self._is_merge_due(up_to_rev):
            tail.start_run(self._rev)
        if not is_awaited and len(tail) < self._max_tail_rows:
            self._merges_beside = tail.is_merging
            if tail.is_merging or self._writing_side.is_checkpoint_due:
                self._begin_beside()
            return False
        await self._writing_side.checkpoint_if_due()
        if tail.is_merging:
            await self._merge_slice()
            # Writes must not outrun the merge: past a second tail they wait for it.
            while tail.is_merging and len(tail) >= self._max_tail_rows:
                await self._merge_slice()
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
        """Return what the tail and the readers take at most."""
        largest_read_bytes = reads.VALUES_AT_ONCE * max_value_bytes + max_reply_bytes
        return {
            "index tail": 2 * self._options.tail_rows * _TAIL_ENTRY_BYTES,
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
            "merges": self._merges,
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

    def _is_merge_due(self, up_to_rev: int) -> bool:
        if len(self._tail) >= self._max_tail_rows:
            return True
        return self._tail.merged_rev < max(up_to_rev, self._purge_rev or 0)

    @property
    def _max_tail_rows(self) -> int:
        """How many rows may gather: what they take in the index must fit on a full disk too."""
        return min(self._options.tail_rows, self._writing_side.max_unmerged_rows)

    def _begin_beside(self) -> None:
        """Begin a slice of the merge, and what it brings the WAL to, beside the loop."""
        self._beside.start(self._keep_house)

    async def _keep_house(self) -> None:
        if self._tail.is_merging:
            await self._merge_slice()
        await self._writing_side.checkpoint_if_due()

    async def _merge_slice(self) -> None:
        """Merge a slice of the run; before the first one, sort the run."""
        async with self._merge_use:
            if self._tail.is_merging:  # or somebody else has merged the last one
                await self._merge_next()

    async def _merge_next(self) -> None:
        if self._merged_to is None:
            await self._sort_run()
            return
        pace, started_s = self._merge_pace, time.perf_counter()
        self._merges += await self._writing_side.in_slices(self._merge_rows, pace.times)
        pace.note(time.perf_counter() - started_s)

    async def _sort_run(self) -> None:
        """Sort some rows of the run; where the log has not all of them, memory has."""
        run = self._tail.run
        assert run is not None, "it is under way"
        if self._sorted is None:
            await self._write(statements.begin_run)
        after_rev, rows = self._sorted or (run.after_rev, 0)
        last_rev = min(run.last_rev, after_rev + _SORTED_AT_ONCE)
        try:
            rows += await self._write(statements.sort_rows, after_rev, last_rev)
        except DamagedStorage:  # of the log; it is noted
            rows, last_rev = 0, run.last_rev
        if last_rev < run.last_rev:
            self._sorted = (last_rev, rows)
            return
        if rows != run.size:
            self._tail.sort_out()
            await self._write(statements.sort_run_of_memory, run)
        self._sorted, self._merged_to = None, _RUN_START

    async def _merge_rows(self, slice_rows: int) -> bool:
        """Merge so many rows of the run; return whether they were its last."""
        run, behind = self._tail.run, self._merged_to
        assert run is not None, "it is under way"
        assert behind is not None, "it is sorted"
        self._merged_to = await self._write(
            statements.merge_slice, run.last_rev, behind, slice_rows
        )
        if self._merged_to is not None:
            return False
        self._tail.end_run()
        return True

    async def _bound_tail(self) -> None:
        """Merge where a second tail is full: housekeeping rests, or cannot.

        Raises:
            RestartNeeded: the next start makes the index anew.
            BackendError: it would not help.
        """
        while self._tail.is_merging and len(self._tail) >= self._options.tail_rows:
            try:
                await self._merge_slice()
            except FatalBackendError:
                raise
            except PersistenceError as fault:
                raise self._refuse_rows(fault) from None

    def _refuse_rows(self, fault: PersistenceError) -> BackendError:
        """Say what memory has no room for rows for, and what comes of that."""
        text = f"rows cannot be indexed any more: {fault}"
        is_passing = isinstance(fault, UnreadableStorage)
        is_of_index = isinstance(fault, DamagedStorage) and fault.part == INDEX
        if is_of_index and not is_passing and not self._is_index_lost:
            return RestartNeeded(f"{text}; the next start makes the index anew")
        return PassingBackendError(f"writes wait until they can: {text}")

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

    async def _read(self, function: Callable[[apsw.Connection], tuple[T, int]]) -> tuple[T, int]:
        """Read; return what was found and the tick of it, whose losses are known by then."""
        with trio.move_on_after(self._options.query_timeout_s):
            async with self._readers.borrow() as reader:
                with contextlib.suppress(trio.TooSlowError):
                    found = await reader.run(function)
                    await self._moments.wait_noted(found[1])
                    return found
        refusal = f"the query took longer than {self._options.query_timeout_s:g} s; ask for less"
        raise RequestError(Reason.TIMEOUT, refusal)
