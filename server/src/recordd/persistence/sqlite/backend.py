"""Storage in one SQLite file: one writing connection, a few reading ones.

Theory of operation. Rows are appended to the log and acknowledged; the index by record and
time lags behind and is merged in slices, by `maintain`. What it lacks is in the `Tail`.
The writing methods change the file first and this object's memory after COMMIT, on the
Trio thread; the reading ones take a snapshot of that memory, and then read on a thread
of their own what the file held at that moment or later, leaving out what came later.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw
import trio

from recordd.backend import (
    BackendOptions,
    BackendShutdown,
    CleanupTarget,
    FatalBackendError,
    Loaded,
    Purged,
    QueryParams,
)
from recordd.gil_turns import GilTurns
from recordd.pages import PageLimits
from recordd.persistence.cursor import decode_cursor, encode_cursor
from recordd.persistence.sqlite import loading, reads, schema, standing, statements
from recordd.persistence.sqlite.mark import MarkFile
from recordd.persistence.sqlite.tail import Tail
from recordd.persistence.sqlite.watch import FileWatch
from recordd.persistence.sqlite.worker import SqliteWorker, open_vfs
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Page, Row, RowKind

__all__ = ["SqliteBackend"]

P = ParamSpec("P")
T = TypeVar("T")

_SLICE_ROWS: Final = 2000
"""Rows that housekeeping handles in one transaction: a stall of some ms for a write behind it."""

_MAX_TS: Final = 2**63 - 1


class _Turn:
    """When a query's turn came, counted in deletions. Lives as long as the query does."""

    def __init__(self, deletions: int) -> None:
        self.deletions: Final = deletions


class SqliteBackend:
    """A `PersistenceBackend` over one file; see docs/persistence.md for its guarantees."""

    def __init__(self, options: BackendOptions) -> None:
        self._options: Final = options
        self._turns: Final = GilTurns()
        self._lock: int | None = None
        self._watch: FileWatch | None = None
        self._mark: MarkFile | None = None
        self._is_whole = False
        self._writer: SqliteWorker | None = None
        self._readers: Final[list[SqliteWorker]] = []
        self._idle_readers: Final[list[SqliteWorker]] = []
        self._reader_freed: Final = trio.lowlevel.ParkingLot()
        self._tail = Tail(0)
        self._rev = 0
        self._epoch = ""
        self._ids: Final[dict[str, int]] = {}
        self._names: Final[dict[int, str]] = {}
        self._next_id = 1
        self._latest: Final[dict[int, tuple[int, int]]] = {}
        self._queries: Final[weakref.WeakSet[_Turn]] = weakref.WeakSet()
        self._deletions = 0
        self._purge_rev: int | None = None  # rows of deleted records wait, all at or below it
        self._merges = 0
        self._remembered_time_ms: int | None = None

    async def initialize(self) -> Loaded:
        """Open the file, creating it and its folder where they are not there."""
        path = self._options.database
        self._lock = schema.lock_database(path)
        schema.refuse_newer(path)
        schema.create_private(path)
        open_vfs()
        self._writer = await SqliteWorker.open(path, self._turns, readonly=False)
        if not await self._writer.run(schema.read_version, path):
            standing.refuse_lost_file(path, accept_loss=self._options.accept_loss)
        await self._writer.run(schema.prepare, path, self._options.synchronous)
        found = await self._writer.run(loading.load)
        loaded = await self._writer.run(self._take_up, found.loaded)
        for _ in range(self._options.readers):
            reader = await SqliteWorker.open(path, self._turns, readonly=True)
            self._readers.append(reader)
            self._idle_readers.append(reader)
            await reader.run(schema.prepare_reader)
        self._remembered_time_ms = await self._writer.run(statements.read_time)
        self._rev, self._epoch = loaded.rev, loaded.epoch
        self._ids.update(found.ids)
        self._names.update((record, name) for name, record in found.ids.items())
        self._latest.update(found.latest)
        self._next_id = found.next_id
        self._purge_rev = found.purge_rev
        self._tail = Tail(found.merged_rev)
        for record, ts, rev in found.unmerged:
            self._tail.append(record, ts, rev)
        return loaded

    async def store(self, rows: Sequence[Row]) -> None:
        """Store rows in one transaction; see `PersistenceBackend.store`."""
        created: dict[str, int] = {}
        log_rows = []
        for row in rows:
            record = self._ids.get(row.name) or created.get(row.name)
            if record is None:
                record = created[row.name] = self._next_id + len(created)
            assert row.rev is not None, "only rows with a rev are stored"
            is_late = row.kind is RowKind.LATE
            log_rows.append((row.rev, record, row.ts, row.value.decode(), is_late))
        new = [(record, name) for name, record in created.items()]
        await self._commit(log_rows[-1][0], statements.insert_rows, new, log_rows)
        self._next_id += len(created)
        self._ids.update(created)
        self._names.update(new)
        for rev, record, ts, _, _ in log_rows:
            self._tail.append(record, ts, rev)
            self._latest[record] = max(self._latest.get(record, (-1, -1)), (ts, rev))
        self._rev = log_rows[-1][0]

    def query(self, patterns: PatternSet, params: QueryParams) -> Coroutine[Any, Any, Page]:
        """Return rows by (`ts`, `rev`); see `PersistenceBackend.query`."""
        after, as_of = None, params.as_of
        if params.after is not None:
            ts, rev, as_of = decode_cursor(params.after, params.as_of)
            after = (ts, rev)
        merged_rev, tails = self._tail.snapshot()
        plan = reads.QueryPlan(
            records=self._match_from(patterns, max(after or (-1, -1), (params.start_ms or 0, -1))),
            tails=tails,
            merged_rev=merged_rev,
            as_of=as_of,
            limit_per_record=params.limit_per_record,
            start_ms=0 if params.start_ms is None else params.start_ms,
            end_ms=_MAX_TS if params.end_ms is None else params.end_ms,
            after=after,
            page=params.page,
        )
        turn = _Turn(self._deletions)
        self._queries.add(turn)
        return self._query(plan, turn)

    async def _query(self, plan: reads.QueryPlan, turn: _Turn) -> Page:
        """Read the page; `turn` is held until then, or until this is given up."""
        rows, more = await self._read(reads.read_page, plan, self._options.query_timeout_s)
        following = None
        if more and rows[-1].rev is not None:
            following = encode_cursor(rows[-1].ts, rows[-1].rev, plan.as_of)
        return Page(rows, rev=plan.as_of, epoch=self._epoch, next=following)

    async def replay(
        self, patterns: PatternSet, *, after: int, as_of: int, limit: int | None, page: PageLimits
    ) -> Page:
        """Return rows by `rev`; see `PersistenceBackend.replay`."""
        names: Mapping[int, str] = self._names
        if not patterns.matches_all:
            names = {record: self._names[record] for record in patterns.select(self._ids)}
        plan = reads.ReplayPlan(
            names=names,
            after=after,
            as_of=as_of,
            page=page if limit is None else PageLimits(min(limit, page.rows), page.bytes),
            max_scanned=page.rows * 10,
        )
        rows, following = await self._read(reads.read_replay, plan, self._options.query_timeout_s)
        return Page(
            rows,
            rev=as_of,
            epoch=self._epoch,
            next=None if following is None else str(following),
        )

    async def at(self, rev: int) -> Row | None:
        """Return the row of one commit number; see `PersistenceBackend.at`."""
        found = await self._read(reads.read_row, rev)
        if found is None or (name := self._names.get(found[0])) is None:
            return None
        return Row(name, found[2].encode(), found[1], rev)

    async def delete(self, name: str, rev: int) -> None:
        """Delete a record: its name at once, its rows in slices, by `maintain`."""
        record = self._ids[name]
        await self._commit(
            rev, statements.mark_deleted, record, last_rev=self._rev, deletion_rev=rev
        )
        self._forget(name, self._rev)

    async def cleanup(
        self, targets: Sequence[CleanupTarget], limit: int, *, next_rev: int
    ) -> tuple[dict[str, Purged], int]:
        """Delete rows that are indexed on disk; see `PersistenceBackend.cleanup`."""
        known = [(self._ids.get(target.name, -1), target) for target in targets]
        purged, done = await self._commit(
            _last_deletion,
            statements.clean_up,
            known,
            merged_rev=self._tail.merged_rev,
            unmerged={record for record, _ in known if self._tail.has(record)},
            limit=limit,
            next_rev=next_rev,
        )
        for name, what in purged.items():
            if what.deletion_rev is not None:
                self._forget(name, self._tail.merged_rev)
        return purged, done

    @property
    def indexed_rev(self) -> int:
        """How far the log is merged into the index."""
        return (
            self._rev
            if not len(self._tail) and not self._tail.is_merging
            else self._tail.merged_rev
        )

    async def maintain(self, up_to_rev: int) -> bool:
        """Merge a slice of the tail, or purge a slice of what was deleted."""
        tail = self._tail
        if not tail.is_merging and len(tail) and self._is_merge_due(up_to_rev):
            tail.start_run(self._rev)
        if tail.is_merging:
            await self._merge_slice()
            # Writes must not outrun the merge: past a second tail they wait for it.
            while tail.is_merging and len(tail) >= self._options.tail_rows:
                await self._merge_slice()
            return True
        if self._purge_rev is None or self._is_queried_from_before_deletion():
            return False
        if not await self._write(statements.purge_slice, tail.merged_rev, _SLICE_ROWS):
            self._purge_rev = None
        return self._purge_rev is not None

    async def check(self) -> None:
        """Look that the files are still in their places, and bring the mark to disk."""
        await self._write(_look)

    @property
    def remembered_time_ms(self) -> int | None:
        """The time that was remembered last; see `RemembersTime`."""
        return self._remembered_time_ms

    async def remember_time(self, time_ms: int) -> None:
        """Remember a time over restarts."""
        await self._write(statements.remember_time, time_ms)
        self._remembered_time_ms = time_ms

    def statistics(self) -> dict[str, int | str]:
        """Return what `server.stats` shows of the storage."""
        return {
            "backend": "sqlite",
            "database": self._options.database,
            "database_bytes": _size_of(self._options.database),
            "wal_bytes": _size_of(self._options.database + "-wal"),
            "merged_rev": self._tail.merged_rev,
            "unmerged_rows": self._rev - self._tail.merged_rev,
            "merges": self._merges,
            "rollbacks": self._writer.rollbacks if self._writer else 0,
        }

    async def close(self) -> None:
        """Close every connection, the writing one last: it folds the WAL into the file."""
        with trio.CancelScope(shield=True):
            for reader in self._readers:
                await reader.close()
            if self._writer is not None:
                await self._writer.close()
        self._close_mark()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _forget(self, name: str, last_rev: int) -> None:
        """Take note that a record is deleted, all its rows at or below `last_rev`."""
        record = self._ids.pop(name)
        del self._names[record]
        self._latest.pop(record, None)
        self._purge_rev = max(self._purge_rev or 0, last_rev)
        self._deletions += 1

    def _is_merge_due(self, up_to_rev: int) -> bool:
        if len(self._tail) >= self._options.tail_rows:
            return True
        return self._tail.merged_rev < max(up_to_rev, self._purge_rev or 0)

    def _is_queried_from_before_deletion(self) -> bool:
        """Tell whether a query whose turn came before a deletion still has to show its rows.

        Then the purge waits for the next housekeeping after it.
        """
        return any(turn.deletions < self._deletions for turn in self._queries)

    async def _merge_slice(self) -> None:
        entries, last = self._tail.next_slice(_SLICE_ROWS)
        await self._write(statements.merge_slice, entries, last)
        self._tail.drop_slice(len(entries))
        self._merges += last is not None

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
        rev: int | Callable[[T], int | None] | None,
        function: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run on the writing connection, to the end: a cancelled COMMIT may have happened.

        `rev` is the newest that the function gives, or finds it in the result.
        """
        if self._writer is None:
            raise BackendShutdown("the database is not open")

        def call(db: apsw.Connection) -> T:
            return function(db, *args, **kwargs)

        try:
            with trio.CancelScope(shield=True):
                result = await self._writer.run(self._commit_on_thread, rev, call)
        except FatalBackendError:
            self._is_whole = False
            raise
        return result

    def _commit_on_thread(
        self,
        db: apsw.Connection,
        rev: int | Callable[[T], int | None] | None,
        call: Callable[[apsw.Connection], T],
    ) -> T:
        """Commit, see that it went into the files that are there, and mark it."""
        assert self._watch is not None, "made by `_take_up`"
        assert self._mark is not None, "made by `_take_up`"
        result = call(db)
        self._watch.check()
        given = rev(result) if callable(rev) else rev
        if given is not None:
            self._mark.note(given)
        return result

    async def _read(
        self,
        function: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        with trio.move_on_after(self._options.query_timeout_s):
            async with self._reader() as reader:
                with contextlib.suppress(trio.TooSlowError):
                    return await reader.run(function, *args, **kwargs)
        refusal = f"the query took longer than {self._options.query_timeout_s:g} s; ask for less"
        raise RequestError(Reason.TIMEOUT, refusal)

    @contextlib.asynccontextmanager
    async def _reader(self) -> AsyncIterator[SqliteWorker]:
        """Borrow a reading connection, waiting for one in turn."""
        while not self._idle_readers:
            await self._reader_freed.park()
        reader = self._idle_readers.pop()
        try:
            yield reader
        finally:
            self._idle_readers.append(reader)
            self._reader_freed.unpark()

    def _match_from(self, patterns: PatternSet, start: tuple[int, int]) -> list[tuple[int, str]]:
        """Return id and name of the records that match and have rows from `start` on."""
        return [
            (record, self._names[record])
            for record in patterns.select(self._ids)
            if self._latest.get(record, start) >= start
        ]

    def _take_up(self, db: apsw.Connection, loaded: Loaded) -> Loaded:
        """Compare the file with its mark; from here on it is ours to change."""
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
        self._is_whole = True
        return loaded

    def _close_mark(self) -> None:
        """Say in the mark whether all is in one file now: then no -wal is left."""
        if self._mark is not None:
            is_folded = not os.path.exists(self._options.database + "-wal")
            self._mark.close(is_clean=self._is_whole and is_folded)


def _look(db: apsw.Connection) -> None:
    """Change nothing; what is looked at are the files."""


def _last_deletion(result: tuple[dict[str, Purged], int]) -> int | None:
    """Return the newest rev that a cleanup gave."""
    purged, _ = result
    return max((what.deletion_rev or 0 for what in purged.values()), default=0) or None


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
