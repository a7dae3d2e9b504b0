"""The records of the file by name and by id, and those lately deleted, for older moments.

A name leaves at once when its record is deleted. Who holds a moment from before finds it
here still, until nobody does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from recordd.extending.moments import Gone, Moment
from recordd.persistence.sqlite.by_id import ById
from recordd_protocol.patterns import PatternSet

__all__ = ["Catalog", "Names", "Selection", "key_of"]

_SAMPLE: Final = 256
"""Names that are matched to tell about how many do: enough to tell a tenth from a twentieth."""

_BEGINNING: Final = (0, -1)
"""Every row is behind it."""

_ROWLESS: Final = -2
"""In the place of a latest row: before every row, and before what `_BEGINNING` comes to."""

_REV_BITS: Final = (1 << 64) - 1

_PAGE_ROWS_A_RECORD: Final = 233
"""The cost of a page by time, in records that cost as much to read one by one."""


def key_of(order: int) -> tuple[int, int]:
    """Return the (`ts`, `rev`) of a place."""
    return order >> 64, order & _REV_BITS


class _Deleted(msgspec.Struct, frozen=True):
    record: int
    name: str
    tick: int
    latest: int


class Catalog:
    """Ids, names, and the latest row of each record, as `order_of` gives its place.

    Integers, as the rows of memory have them too, so that a record takes nothing but three
    places.
    """

    def __init__(self) -> None:
        self._ids: Final[dict[str, int]] = {}
        self._names: Final[ById[str]] = ById()
        self._latest: Final[ById[int]] = ById()
        self._first_rev: Final[dict[int, int]] = {}
        """Of the records that came to exist since the start."""
        self._deleted: Final[dict[int, _Deleted]] = {}

    def restore(self, ids: dict[str, int], orders: Sequence[int | None]) -> None:
        """Take over the file's records at start, and of each its latest row's place."""
        self._ids.update(ids)
        for (name, record), order in zip(ids.items(), orders, strict=True):
            self._names.put(record, name)
            if order is not None:
                self._latest.put(record, order)

    def find(self, name: str) -> int | None:
        """Return the id of a record that exists."""
        return self._ids.get(name)

    def add(self, records: Iterable[tuple[int, str]]) -> None:
        """Take up new records, (id, name)."""
        for record, name in records:
            if (rowless := self._ids.get(name)) is not None:
                self._names.pop(rowless)
            self._ids[name] = record
            self._names.put(record, name)

    def note_rows(self, records: Sequence[int], times: Sequence[int], revs: Sequence[int]) -> None:
        """Take note of committed rows, given as they are in the log."""
        orders = [ts << 64 | rev for ts, rev in zip(times, revs, strict=True)]  # as `order_of`
        for record, order in self._latest.put_greatest(records, orders):
            self._first_rev[record] = order & _REV_BITS

    def extent(self, name: str, newest_rev: int) -> Gone:
        """Return the span of a record's rows, `newest_rev` being the newest of all."""
        record = self._ids[name]
        newest = self.latest_of(record) or (-1, -1)
        return Gone(name, newest, self._first_rev.get(record, 0), newest_rev)

    def remove(self, name: str, tick: int) -> None:
        """Take a record's name away, but for moments before `tick`."""
        record = self._ids.pop(name)
        latest = self._latest.pop(record)
        self._first_rev.pop(record, None)
        # First there, then gone here: a reader on another thread finds it in one of both.
        self._deleted[record] = _Deleted(record, name, tick, _ROWLESS if latest is None else latest)
        self._names.pop(record)

    def forget_deleted(self, oldest_tick: int | None) -> set[int]:
        """Forget what no moment from `oldest_tick` on (None: none at all) shows.

        Returns:
            The ids of those that some moment does show.
        """
        for record, deleted in list(self._deleted.items()):
            if oldest_tick is not None and deleted.tick > oldest_tick:
                break
            del self._deleted[record]
        return set(self._deleted)

    def find_few(self, patterns: PatternSet, most: int) -> list[int] | None:
        """Return the ids of the records that match, each once; None where that may be many."""
        if patterns.wildcards and len(self._ids) > most:
            return None
        found = patterns.select(self._ids)
        return found if len(found) <= most else None

    def name_of(self, record: int) -> str:
        """Return the name of a record that exists."""
        name = self._names.get(record)
        assert name is not None, "it exists"
        return name

    def latest_of(self, record: int) -> tuple[int, int] | None:
        """Return the latest (`ts`, `rev`) of a record, None where it has no row."""
        order = self._latest.get(record)
        return None if order is None else key_of(order)

    def select(self, patterns: PatternSet, moment: Moment) -> Selection:
        """Return which records of a moment match; nothing is matched yet."""
        return Selection(self._ids, self._latest, self._deleted, patterns, self.names_at(moment))

    def names_at(self, moment: Moment) -> Names:
        """Return the names of all records of a moment."""
        return Names(self._names, self._deleted, moment.tick)


class Names:
    """The names of a moment by record id; may be asked on another thread."""

    def __init__(self, names: ById[str], deleted: dict[int, _Deleted], tick: int) -> None:
        self._names: Final = names
        self._deleted: Final = deleted
        self.tick: Final = tick

    def get(self, record: int) -> str | None:
        """Return the name of a record, None where it was deleted before the moment."""
        name = self._names.get(record)
        if name is None and (deleted := self._deleted.get(record)) is not None:
            return deleted.name if deleted.tick > self.tick else None
        return name


class Selection:
    """The records of a moment that match some patterns; for one reader, on its thread.

    Matching a hundred thousand names takes longer than the event loop may be held. What
    changes meanwhile makes no difference: a record that comes to exist has no rows of the
    moment, and one that is deleted is found among the deleted as long as that is held.
    """

    def __init__(
        self,
        ids: dict[str, int],
        latest: ById[int],
        deleted: dict[int, _Deleted],
        patterns: PatternSet,
        names: Names,
    ) -> None:
        self._ids: Final = ids
        self._latest: Final = latest
        self._deleted: Final = deleted
        self._patterns: Final = patterns
        self._names: Final = names
        self._known: Final[dict[int, str | None]] = {}

    def get(self, record: int) -> str | None:
        """Return the name of a record; None where it does not match, or was deleted before."""
        if self._patterns.matches_all:
            return self._names.get(record)
        try:
            return self._known[record]
        except KeyError:
            name = self._names.get(record)
            if name is not None and not self._patterns.matches(name):
                name = None
            self._known[record] = name
            return name

    @property
    def has_all(self) -> bool:
        """Whether every record is meant."""
        return self._patterns.matches_all

    def find_one(self) -> int | None:
        """Return the id of the record that is meant, where it is one by its name that exists.

        None too where one of the name was deleted since the moment.
        """
        if self._patterns.wildcards or self._find_deleted(_ROWLESS):
            return None
        found = self._patterns.select(self._ids)
        return found[0] if len(found) == 1 else None

    def is_wide(self) -> bool:
        """Tell whether the rows of so many match that they are sooner read by time.

        Read one by one, a page costs a look at each record that matches; by time, it costs
        a look at all rows in its span, of whatever record.
        """
        if not self._patterns.wildcards:
            return False
        names = list(self._ids.copy())
        if self._patterns.matches_all:
            return len(names) > _PAGE_ROWS_A_RECORD
        step = max(1, len(names) // _SAMPLE)
        sample = names[::step]
        matching = sum(map(self._patterns.matches, sample)) / max(1, len(sample))
        return matching * matching * len(names) > _PAGE_ROWS_A_RECORD

    def find_all(self, start: tuple[int, int]) -> list[int]:
        """Return the ids of records that may have rows from a (`ts`, `rev`) on, each once."""
        found = self._patterns.select(self._ids.copy())
        ts, rev = start
        first = (ts << 64) + rev
        if start > _BEGINNING:
            latest = self._latest.get
            found = [record for record in found if (latest(record) or first) >= first]
        deleted = self._find_deleted(first)
        return list(dict.fromkeys([*found, *deleted])) if deleted else found

    def _find_deleted(self, first: int) -> list[int]:
        found = []
        for deleted in reversed(list(self._deleted.values())):
            if deleted.tick <= self._names.tick:
                break
            if deleted.latest >= first and self._patterns.matches(deleted.name):
                found.append(deleted.record)
        return found
