"""What commits change in the file: made ready before a transaction, written in one.

All of a change is in the commit that it comes from: a record's number in the file is its id
plus `FIRST_RECORD`. Only `last_rev` is of this file: the newest row that a deletion is behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import apsw

from recordd.extending.commit import Commit, Deletion, NewRows, Renewal
from recordd.persistence.sqlite import statements
from recordd.persistence.sqlite.log_rows import LogRows
from recordd.persistence.sqlite.need import Need
from recordd.persistence.sqlite.schema import FIRST_RECORD

__all__ = [
    "Change",
    "DeletionChange",
    "RenewalChange",
    "RowsChange",
    "make_changes",
    "need_of",
    "write_changes",
]


class RowsChange:
    """Rows to append, those of a commit that have a rev, and the records that are new with them."""

    def __init__(self, commit: NewRows) -> None:
        self.commit: Final = commit
        self.rows: Final = LogRows.of_commit(commit)
        self.records: Final = [
            (new.record_id + FIRST_RECORD, new.name) for new in commit.created if new.is_stored
        ]

    @property
    def rev(self) -> int:
        """The newest rev that it gives."""
        return self.rows.revs[-1]

    def write(self, db: apsw.Connection) -> int | None:
        """Append the rows; no row goes."""
        statements.insert_rows(db, self.records, self.rows)
        return None


class DeletionChange:
    """A record's name to be taken away; its rows, all up to `last_rev`, are purged later."""

    def __init__(self, deletion: Deletion, rev: int, last_rev: int) -> None:
        self.name: Final = deletion.name
        self.rev: Final = rev
        self.last_rev: Final = last_rev
        self._record: Final = deletion.record_id + FIRST_RECORD

    def write(self, db: apsw.Connection) -> int | None:
        """Take the name away; return the tick of it."""
        return statements.mark_deleted(
            db, self._record, last_rev=self.last_rev, deletion_rev=self.rev
        )


class RenewalChange:
    """A record's newest row to be replaced by an older one that is committed again."""

    def __init__(self, renewal: Renewal) -> None:
        row = renewal.row
        assert row.rev is not None, "what is renewed is stored"
        self.name: Final = row.name
        self.rev: Final = row.rev
        self.replaced: Final = (renewal.replaced_ts, renewal.replaced_rev)
        self.record: Final = renewal.record_id + FIRST_RECORD
        self.row: Final = LogRows([row.rev], [self.record], [row.ts], [row.value.decode()])

    def write(self, db: apsw.Connection) -> int | None:
        """Replace the row; return the tick of it."""
        return statements.renew(db, self.row, self.name, self.replaced)


Change = RowsChange | DeletionChange | RenewalChange


def make_changes(commits: Sequence[Commit], last_rev: int) -> list[Change]:
    """Return what commits change in the file, whose newest row is that of `last_rev`."""
    changes: list[Change] = []
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


def write_changes(
    db: apsw.Connection, changes: Sequence[Change], meta: Mapping[str, int]
) -> list[int | None]:
    """Write changes in their order, and entries of `meta`; return the tick of each change."""
    ticks = [change.write(db) for change in changes]
    for key, value in meta.items():
        statements.set_meta(db, key, value)
    return ticks


def need_of(changes: Sequence[Change], merged_rev: int) -> Need | None:
    """Return the room that ordinary rows need; None where there are none."""
    found = [change for change in changes if isinstance(change, RowsChange)]
    if not found:
        return None
    new = [record for change in found for record in change.records]
    return Need.of([change.rows for change in found], new, merged_rev)
