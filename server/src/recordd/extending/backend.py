"""What a storage backend promises. One conformance suite holds every backend to it.

`PersistenceBackend` is what each has to do; the protocols behind it are what it may do beside.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import msgspec

from recordd.extending.commit import Commit, NewRows
from recordd.extending.moments import Moment
from recordd.extending.paging import PageLimits
from recordd.system.passing import NO_ROOM, PassingError, is_passing
from recordd.system.turns import Steps
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Page, Row

__all__ = [
    "MAX_DELETIONS",
    "AnswersAtOnce",
    "BackendError",
    "BackendOptions",
    "BackendShutdown",
    "BoundsMemory",
    "CleansUp",
    "CleanupTarget",
    "CommitsAtOnce",
    "DamagedStorage",
    "DiskFull",
    "FatalBackendError",
    "HasDatabaseFile",
    "KeepsHouse",
    "Loaded",
    "LoadedRecord",
    "NotConfigured",
    "PageLimits",
    "PassingBackendError",
    "PersistenceBackend",
    "PersistenceError",
    "Purged",
    "QueryParams",
    "ReadsInParallel",
    "RemembersTime",
    "ReplayParams",
    "ReportsStatistics",
    "RestartNeeded",
    "SerializationError",
    "UnreadableStorage",
    "WatchesStorage",
    "find_capability",
    "refusal_of",
]


Capability = TypeVar("Capability")

MAX_DELETIONS: Final = 65_536
"""Deleted records that are remembered by name; who missed an older one starts afresh."""


class PersistenceError(RequestError):
    """Base of what a backend may raise; each class knows its reason on the wire."""

    wire_reason = Reason.UNAVAILABLE

    def __init__(self, message: str) -> None:
        super().__init__(self.wire_reason, message)


class NotConfigured(PersistenceError):
    """There is no persistence to ask."""

    wire_reason = Reason.NOT_CONFIGURED


class BackendShutdown(PersistenceError):
    """The backend is closed or closing."""


class BackendError(PersistenceError):
    """The storage refuses: disk full, I/O error. Nothing of the call took effect."""


class PassingBackendError(BackendError, PassingError):
    """The storage refuses for a cause that may pass by itself: a full disk, an I/O error."""


class DiskFull(PassingBackendError):
    """There is no room on the disk. Nothing of the call took effect."""

    def __init__(self, message: str = "the disk is full") -> None:
        super().__init__(message)


class DamagedStorage(BackendError):
    """A part of the storage is damaged; what lies elsewhere is served.

    `page` is its number, None where it is not known. `part` says what was read or changed.
    """

    def __init__(self, message: str, *, page: int | None = None, part: str = "") -> None:
        super().__init__(f"{part}: {message}" if part else message)
        self.page: Final = page
        self.part: Final = part
        self._text: Final = message

    def of(self, part: str) -> DamagedStorage:
        """Return it with a word for what was read; the first one, which is the closest, stays."""
        if self.part:
            return self
        return type(self)(self._text, page=self.page, part=part)


class UnreadableStorage(DamagedStorage, PassingError):
    """The disk does not give a part of the storage, which may be for now."""


class FatalBackendError(BackendError):
    """The storage cannot be trusted any more (a failed fsync): answer, then stop."""


class RestartNeeded(FatalBackendError, PassingError):
    """The storage cannot go on, and its next start mends it. Nothing of the call took effect."""


def refusal_of(path: str, error: OSError) -> BackendError:
    """Return what an error of the system means for a storage's file."""
    if error.errno in NO_ROOM:
        return DiskFull(f"{path}: {error.strerror}")
    refusal = PassingBackendError if is_passing(error) else BackendError
    return refusal(f"{path}: {error.strerror}")


class SerializationError(PersistenceError):
    """A row cannot be stored or read back. A batch with such a row took no effect."""

    wire_reason = Reason.INVALID_PARAMS


class LoadedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as found at start: its latest row, how many it has, its id, and what it lost.

    `purged_rev` is the newest rev among its rows that retention has deleted, 0 for none.
    `damage` is why the value of `latest` cannot be read, and is none then; all else is true.
    """

    latest: Row
    rows: int
    record_id: int
    purged_rev: int = 0
    damage: DamagedStorage | None = None


class Loaded(msgspec.Struct, frozen=True):
    """What the backend holds at start.

    `rev` is the highest ever given, deleted ones too. `deletions` are the names and revs
    of deleted records, oldest first, of each name the newest, and of `MAX_DELETIONS` names
    at most. Up to `deleted_rev` there may have been others, whose names are forgotten.
    `records` come by id. `next_record_id` is behind every id that was given up to the newest commit
    that the backend keeps. `position` is that of the newest commit that was applied.
    Who takes it up takes the list of records for its own, and empties it.
    """

    epoch: str
    rev: int
    records: list[LoadedRecord]
    deleted_rev: int = 0
    deletions: list[tuple[str, int]] = []
    next_record_id: int = 0
    position: int = 0


class Purged(msgspec.Struct, frozen=True):
    """What a cleanup deleted of one record: how many rows, and the newest rev among them.

    `is_spent` tells that the one row which is left is due too: the record is to be deleted, which
    is a commit.
    """

    rows: int
    newest_rev: int
    is_spent: bool = False


class QueryParams(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of a record: the latest `limit_per_record` (None: all) in a time range.

    `start_ms` and `end_ms` are inclusive, None for open. `page_cursor` is the `next` of
    the page before. `moment` is when the request's turn came. With `as_text` a page may have its
    text instead of its rows.
    """

    moment: Moment
    limit_per_record: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    page_cursor: str | None = None
    page: PageLimits
    as_text: bool = False


class ReplayParams(msgspec.Struct, frozen=True, kw_only=True):
    """Which stretch of the log: up to `limit` (None: all) rows behind `after_rev`."""

    moment: Moment
    after_rev: int
    limit: int | None = None
    page: PageLimits


class CleanupTarget(msgspec.Struct, frozen=True):
    """What to delete of one record: rows older than a time, the oldest past a number.

    None is no bound. With `keep_latest` the latest row stays in any case. With
    `newer_than_ms` it is the rows newer than that, oldest first, and none for age or number.
    """

    name: str
    older_than_ms: int | None
    max_rows: int | None
    keep_latest: bool
    newer_than_ms: int | None = None


class BackendOptions(msgspec.Struct, frozen=True):
    """What the daemon tells a backend when it makes one.

    `table` are the options of `[backend]` as they were stated, without `name`: a variable states
    a text. `places` say what to call an option in an error. `recordd.extending.options` reads
    such a table into a Struct. `query_timeout_s` is how long a reading method may take.
    """

    table: Mapping[str, Any] = {}
    places: Mapping[str, str] = {}
    query_timeout_s: float = 10.0
    accept_loss: bool = False
    """Go on, in a new epoch, with a storage that lacks acknowledged commits."""


@runtime_checkable
class PersistenceBackend(Protocol):
    """Storage of committed rows: what every backend has to do, to store and to answer.

    What it may do beside are the other protocols of this module: a backend has one by having
    its methods. What nobody can do for lack of one is refused, and by name.

    `initialize` comes first, once; `close` last. `apply` and the writing methods of the other
    protocols are called by one task, one at a time, and are never cancelled; the
    reading methods by many tasks at once, and may be cancelled with no effect.

    Once a writing method has returned, its effect survives a crash (as far as the
    backend's documentation says), and every later moment shows it.

    Every reading method is given the moment that it shows, which is taken when the
    request's turn comes, and returns a coroutine that may run much later. What it
    returns is what there was at that moment, all of it and no more, or it is refused as
    `expired`: `recordd.extending.moments` says how, and has the register that a backend needs. The
    moment is held until the coroutine has run or is closed.
    """

    def take_moment(self, as_of: int) -> Moment:
        """Return the present moment; commits after `as_of` are not there yet."""

    async def initialize(self) -> Loaded:
        """Open the storage and return what it holds.

        Raises:
            BackendError: when it cannot be opened, or was made by a newer version.
        """

    async def apply(self, commits: Sequence[Commit], position: int) -> None:
        """Apply commits in their order, all of them or none; `position` is that of the last.

        Of rows those that have a rev are stored, with their kinds. A record that is deleted
        goes with all its rows, and a later one of the name is a new one. The position is kept
        with them, as `Loaded` says; it needs no place of its own while it is the newest rev, nor
        does a commit of which nothing is stored. A renewal comes to a backend that `CleansUp`.

        Raises:
            SerializationError: one of the rows cannot be stored; nothing was.
            BackendError: the storage refuses; nothing was applied.
        """

    def query(self, patterns: PatternSet, params: QueryParams) -> Coroutine[Any, Any, Page]:
        """Return rows of the records that match, ascending by (`ts`, `rev`).

        The pages of one query show one moment, that of the first, which the page's
        `next` carries; or a page is refused, by the call already where it is known.

        Raises:
            RequestError: `timeout` past the deadline, `invalid_params` for an `after`
                that is none, `expired` where rows of the moment are gone, or for an
                `after` of another epoch.
            BackendError: the storage cannot be read.
        """

    def replay(self, patterns: PatternSet, params: ReplayParams) -> Coroutine[Any, Any, Page]:
        """Return rows of the log that match, in `rev` order, with their kinds.

        A page may have no rows and still a `next`: it has looked at rows that do not
        match. Raises as `query` does, but a `next` of another epoch is the caller's to
        refuse.
        """

    def at(self, rev: int, moment: Moment) -> Coroutine[Any, Any, Row | None]:
        """Return the row of one commit number, or None where there is none (any more).

        Raises as `query` does.
        """

    async def close(self) -> None:
        """Release everything. Idempotent; later calls raise `BackendShutdown`."""


def find_capability(backend: object, kind: type[Capability]) -> Capability | None:
    """Return the backend as what it may be beside, None where it is not that, or is None."""
    return backend if isinstance(backend, kind) else None


@runtime_checkable
class AnswersAtOnce(Protocol):
    """Answer what is in memory without a wait: else each question waits for storage."""

    def query_at_once(self, patterns: PatternSet, params: QueryParams) -> Steps[Page | None]:
        """Return, in steps, what `query` would return; None where that has to be asked.

        Raises as the call of `query` does.
        """


@runtime_checkable
class CleansUp(Protocol):
    """Delete rows that have outlived their rules: retention and `record.trim` need it."""

    async def cleanup(
        self, targets: Sequence[CleanupTarget], limit: int
    ) -> tuple[dict[str, Purged], int]:
        """Delete up to `limit` rows, target by target; the last row of a record stays.

        Returns:
            What went, by record, and how many targets, from the first, are done.
        """


@runtime_checkable
class CommitsAtOnce(Protocol):
    """Commit a few rows before anybody else runs, where storage answers in no time."""

    def apply_at_once(self, commit: NewRows, position: int) -> bool:
        """Do as `apply` with one commit, without a wait.

        Returns False, nothing changed, where there would be one: then `apply` follows.

        Raises:
            PersistenceError: nothing was changed either; `apply` follows.
            FatalBackendError: the storage cannot be trusted any more.
        """


@runtime_checkable
class KeepsHouse(Protocol):
    """Do work that a write leaves behind, such as an index, in slices between two batches."""

    @property
    def indexed_rev(self) -> int:
        """The newest commit up to which every row can be cleaned up."""

    async def maintain(self, up_to_rev: int) -> bool:
        """Do one short slice of housekeeping; return whether more is due now.

        What could wait is due where it concerns rows up to `up_to_rev` (0: none).
        """


@runtime_checkable
class ReportsStatistics(Protocol):
    """Tell of the storage in `server.stats`."""

    def statistics(self) -> dict[str, int | str]:
        """Return sizes and counters for `server.stats`, under stable keys."""


@runtime_checkable
class ReadsInParallel(Protocol):
    """Say how many reads at a time are worth while; without it a few are."""

    @property
    def parallel_reads(self) -> int:
        """How many history queries of one connection run at a time; constant."""


@runtime_checkable
class BoundsMemory(Protocol):
    """Tell how much memory the backend takes at most."""

    def estimate_memory(self, *, max_value_bytes: int, max_reply_bytes: int) -> dict[str, int]:
        """Return the bytes of each part at its bound, by a name for people."""


@runtime_checkable
class HasDatabaseFile(Protocol):
    """Keep everything in a file that `recordd backup` copies: scheduled backups need it."""

    @property
    def database(self) -> str:
        """The file's path."""


@runtime_checkable
class WatchesStorage(Protocol):
    """Look at the storage now and then, also when nothing is written."""

    async def check(self) -> None:
        """Look whether the storage is still what was opened; called every half second.

        By the writing task, between two writes; never cancelled.

        Raises:
            FatalBackendError: what is written now would be lost.
        """


@runtime_checkable
class RemembersTime(Protocol):
    """Keep a time over restarts, for retention to go on from.

    Without it the newest row's `ts` has to tell how much time has passed.
    """

    @property
    def remembered_time_ms(self) -> int | None:
        """The time remembered last, Unix ms; None where there is none."""

    async def remember_time(self, time_ms: int) -> None:
        """Remember a time; called as the writing methods are, and raises as they do."""
