"""Stored history of records that their rule no longer persists.

A rule may have changed since the rows were written. They stay what they are, history: they
are counted, queried, replayed, retired and deleted like all stored rows. But they are not
current, so nothing shows them as latest values. A value that is set anew is transient and
lives beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from recordd.extending.backend import LoadedRecord, Purged
from recordd.system.turns import Steps
from recordd_protocol.patterns import Pattern, PatternSet

__all__ = ["Archive"]

_NAMES_A_STEP: Final = 32


class _Archived:
    __slots__ = ("purged_rev", "record_id", "rows")

    def __init__(self, record_id: int, rows: int, purged_rev: int) -> None:
        self.record_id: Final = record_id
        self.rows = rows
        self.purged_rev = purged_rev


class Archive:
    """How many rows there are of each such record, and what retention took of them."""

    def __init__(self) -> None:
        self.rows = 0
        """Of all records together."""
        self._by_name: Final[dict[str, _Archived]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    @property
    def most_rows(self) -> int:
        """The rows of the record that has most."""
        return max([archived.rows for archived in self._by_name.values()], default=0)

    def add(self, record: LoadedRecord) -> None:
        """Take up a record as it was found at start."""
        archived = _Archived(record.record_id, record.rows, record.purged_rev)
        self._by_name[record.latest.name] = archived
        self.rows += record.rows

    def rows_of(self, name: str) -> int:
        """Return how many rows a record has here, 0 where it is not here."""
        archived = self._by_name.get(name)
        return 0 if archived is None else archived.rows

    def id_of(self, name: str) -> int:
        """Return the id of a record that is here."""
        return self._by_name[name].record_id

    def remove(self, name: str) -> int:
        """Forget a record; return how many rows it had."""
        rows = self.rows_of(name)
        self._by_name.pop(name, None)
        self.rows -= rows
        return rows

    def forget_rows(self, name: str, purged: Purged) -> None:
        """Count rows that retention has deleted."""
        archived = self._by_name[name]
        archived.rows -= purged.rows
        self.rows -= purged.rows
        archived.purged_rev = max(archived.purged_rev, purged.newest_rev)

    def count_rows(self, patterns: PatternSet) -> Steps[int]:
        """Return, in steps, how many rows the records that match have."""
        rows = 0
        for number, (name, archived) in enumerate(list(self._by_name.items()), 1):
            rows += archived.rows if patterns.matches(name) else 0
            if number % _NAMES_A_STEP == 0:
                yield
        return rows

    def newest_purge(self, pattern: Pattern, after_rev: int) -> int:
        """Return the newest rev above `after_rev` that retention took of what matches, or 0."""
        found = [
            archived.purged_rev
            for name, archived in self._by_name.items()
            if archived.purged_rev > after_rev and pattern.matches(name)
        ]
        return max(found, default=0)
