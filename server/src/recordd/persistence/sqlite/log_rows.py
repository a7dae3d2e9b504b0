"""Rows of the log by columns, as a commit has them and as they go into a statement.

Row by row, to make the tuples that a statement's values are strung together from took 0.25 µs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Final

from recordd.extending.columns import RowColumns
from recordd.extending.commit import NewRows
from recordd.persistence.sqlite.schema import FIRST_RECORD

__all__ = ["LogRow", "LogRows"]

LogRow = tuple[int, int, int, str, bool]
"""`rev`, record id, `ts`, value, whether it came late."""


class LogRows:
    """Rows in the order of their revs; `late` tells of each whether it was, empty: none was."""

    __slots__ = ("late", "records", "revs", "times", "values")

    def __init__(
        self,
        revs: Sequence[int],
        records: Sequence[int],
        times: Sequence[int],
        values: Sequence[str],
        late: Sequence[bool] = (),
    ) -> None:
        self.revs: Final = revs
        self.records: Final = records
        self.times: Final = times
        self.values: Final = values
        self.late: Final = late

    @classmethod
    def of(cls, rows: Iterable[LogRow]) -> LogRows:
        """Return rows by columns."""
        return cls(*zip(*rows, strict=True))

    @classmethod
    def of_commit(cls, commit: NewRows) -> LogRows:
        """Return the rows of a commit that are stored: those with a rev."""
        rows = RowColumns.of(commit.rows)
        late = [place in rows.late for place in range(len(rows))] if rows.late else []
        if isinstance(rows.revs, range):
            return cls._of_columns(rows.revs, commit.record_ids, rows.times, rows.values, late)
        is_stored = [rev is not None for rev in rows.revs]
        return cls._of_columns(
            [rev for rev in rows.revs if rev is not None],
            list(compress(commit.record_ids, is_stored)),
            list(compress(rows.times, is_stored)),
            list(compress(rows.values, is_stored)),
            list(compress(late, is_stored)),
        )

    @classmethod
    def _of_columns(
        cls,
        revs: Sequence[int],
        record_ids: Sequence[int],
        times: Sequence[int],
        values: Sequence[bytes],
        late: Sequence[bool],
    ) -> LogRows:
        records = [record_id + FIRST_RECORD for record_id in record_ids]
        return cls(revs, records, times, [value.decode() for value in values], late)

    def __len__(self) -> int:
        return len(self.revs)

    def part(self, start: int, end: int) -> LogRows:
        """Return some of the rows."""
        return LogRows(
            self.revs[start:end],
            self.records[start:end],
            self.times[start:end],
            self.values[start:end],
            self.late[start:end],
        )

    def strung(self) -> list[int | str]:
        """Return rev, record, `ts` and value of one row behind those of the other; `late` too,
        where one was.
        """
        columns: list[Sequence[int | str]] = [self.revs, self.records, self.times, self.values]
        if self.late:
            columns.append(self.late)
        strung: list[int | str] = [0] * (len(columns) * len(self))
        for place, column in enumerate(columns):
            strung[place :: len(columns)] = column
        return strung
