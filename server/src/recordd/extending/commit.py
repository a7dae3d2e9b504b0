"""Commits: what a write comes to, decided once and applied wherever the records are kept.

A commit is a value, and it is complete: every time, commit number, record id and kind in it
was decided when it was planned. To apply it reads no clock and counts nothing, so that a
second machine that applies the same commits in the same order has the same records.

What is not here: rows that retention takes. Every machine takes those by itself, and never
a record's last one; the end of a record is a commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from recordd_protocol.rows import Row, RowKind

__all__ = ["Commit", "Deletion", "Deletions", "NewRecord", "NewRows", "Renewal"]


class NewRecord(NamedTuple):
    """A record that comes to exist with a commit; `is_stored` tells whether storage has it."""

    record_id: int
    name: str
    is_stored: bool


class NewRows(msgspec.Struct, frozen=True):
    """Rows in the order of the commit; those of transient records have no rev.

    `record_ids` has the record of each row. `created` are the records that are new, by id.
    An id is never given twice once a stored commit has told of it or of a later one.
    """

    rows: Sequence[Row]
    record_ids: Sequence[int]
    created: Sequence[NewRecord] = ()


class Deletion(msgspec.Struct, frozen=True):
    """The end of a record with all its rows, at `ts`.

    Without a `rev` it is that of a transient value alone, of which storage knows nothing. With one,
    `record_id` is the record that storage has; `is_of_history` where those rows alone go, and
    a transient value beside them stays.
    """

    name: str
    record_id: int
    ts: int
    rev: int | None
    is_of_history: bool = False

    @property
    def row(self) -> Row:
        """The deletion as a row, which is what the followers are told."""
        return Row(self.name, b"null", self.ts, self.rev, RowKind.DELETED)


class Deletions(msgspec.Struct, frozen=True):
    """The ends of some records, each with a commit number of its own."""

    deletions: Sequence[Deletion]


class Renewal(msgspec.Struct, frozen=True):
    """The end of a trim: the last row newer than a time goes, and an older one comes again.

    `replaced_ts` and `replaced_rev` are those of the row that goes. All others that were newer
    than `newer_than_ms` have gone before, as under retention. `row` has the time and the value
    of the newest that is left, and a rev of its own.
    """

    record_id: int
    newer_than_ms: int
    replaced_ts: int
    replaced_rev: int
    row: Row


Commit = NewRows | Deletions | Renewal
