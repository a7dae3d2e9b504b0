"""Rows by columns: many rows that hardly anybody looks at one by one.

A row of a large load is written, counted and replaced by the next one of its record, and nobody
asks for it as an object. To make one takes 0.24 µs and a place in the garbage collector's lists,
as much as all else that is done with it in memory. So the rows of a commit are columns, which
are handed on as they are, and become objects all at once when the first of them is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, overload

from recordd_protocol.rows import Row, RowKind

__all__ = ["RowColumns"]


class RowColumns(Sequence[Row]):
    """Rows, of which `late` has the places of those that came late; nobody changes a column.

    As a sequence it is that of the rows as objects: each is made once, and all share it.
    """

    __slots__ = ("_made", "late", "names", "revs", "times", "values")

    def __init__(
        self,
        names: Sequence[str],
        values: Sequence[bytes],
        times: Sequence[int],
        revs: Sequence[int | None],
        late: frozenset[int] = frozenset(),
    ) -> None:
        self.names: Final = names
        self.values: Final = values
        self.times: Final = times
        self.revs: Final = revs
        self.late: Final = late
        self._made: Sequence[Row] | None = None

    @classmethod
    def of(cls, rows: Sequence[Row]) -> RowColumns:
        """Return the columns of rows, which are the same objects."""
        if isinstance(rows, RowColumns):
            return rows
        columns = cls(
            [row.name for row in rows],
            [row.value for row in rows],
            [row.ts for row in rows],
            [row.rev for row in rows],
            frozenset([place for place, row in enumerate(rows) if row.kind is RowKind.LATE]),
        )
        columns._made = rows
        return columns

    @property
    def made(self) -> Sequence[Row] | None:
        """The rows as objects, None where nobody has asked for them."""
        return self._made

    @property
    def are_stored(self) -> bool:
        """Whether all have a rev, each the one behind the other's; False may say nothing."""
        return isinstance(self.revs, range)

    def row(self, place: int) -> Row:
        """Return one row; where none is made it is an object of its own, and no other is made."""
        if self._made is not None:
            return self._made[place]
        kind = RowKind.LATE if place in self.late else RowKind.LATEST
        return Row(self.names[place], self.values[place], self.times[place], self.revs[place], kind)

    def part(self, start: int, end: int) -> RowColumns:
        """Return some of the rows."""
        if end - start == len(self):
            return self
        part = RowColumns(
            self.names[start:end],
            self.values[start:end],
            self.times[start:end],
            self.revs[start:end],
            frozenset([place - start for place in self.late if start <= place < end]),
        )
        if self._made is not None:
            part._made = self._made[start:end]
        return part

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        return self.make()[place]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.make())

    def make(self) -> Sequence[Row]:
        """Return all rows as objects, which are made where they are not there."""
        if self._made is None:
            rows = list(map(Row, self.names, self.values, self.times, self.revs))
            for place in self.late:
                rows[place] = self.row(place)
            self._made = rows
        return self._made
