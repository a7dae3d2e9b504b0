"""The types by which the core looks into the extension map.

The core answers `not_configured`, or leaves a field empty, where nobody is there.
`recordd.persistence` puts its own parts under these types; any other will do as well.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable

import msgspec

from recordd.system.turns import Steps
from recordd_protocol.methods import BackupStats, Replay, RetentionStats
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Page, Row

__all__ = ["BackupReporter", "HistoryQuery", "QueryHandler", "RetentionReporter"]


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which stored rows are asked for: the parameters of `record.query`, checked.

    The newest `limit_per_record` (None: all) of each record that matches, from `start_ms`
    to `end_ms` (inclusive; None: open), behind the page whose `next` was `page_cursor`. Where it
    is not to be paged, the newest rows of `max_bytes` together.
    """

    patterns: PatternSet
    limit_per_record: int | None
    start_ms: int | None
    end_ms: int | None
    page_cursor: str | None
    paged: bool
    max_bytes: int


class QueryHandler(abc.ABC):
    """Answers questions about stored rows; latest values are the core's own.

    A method is called when its request's turn has come, and decides then which moment
    it shows; what it cannot answer at once it returns as an awaitable, which runs
    beside the connection's next requests and may be cancelled.
    """

    @abc.abstractmethod
    def query(self, query: HistoryQuery) -> Page | Awaitable[Page] | Steps[Page | Awaitable[Page]]:
        """Return rows of the records that match; see `record.query`."""

    @abc.abstractmethod
    def replay(self, params: Replay) -> Page | Awaitable[Page]:
        """Return rows in commit order; see `record.replay`."""

    @abc.abstractmethod
    def at(self, rev: int) -> Row | Awaitable[Row]:
        """Return the row of one commit number; `not_found` where there is none."""


class BackupReporter(abc.ABC):
    """Tells of scheduled backups; see `server.stats`."""

    @abc.abstractmethod
    def statistics(self) -> BackupStats:
        """Return where they go, and what came of the last one."""


class RetentionReporter(abc.ABC):
    """Tells what retention does; see `server.stats`."""

    @abc.abstractmethod
    def statistics(self) -> RetentionStats:
        """Return the rules in force and what the last run did."""

    @abc.abstractmethod
    def confirm_clock(self) -> int:
        """Believe the system's clock; return how far, in ms, it had leapt unbelieved."""
