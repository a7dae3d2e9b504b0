"""Pages whose text the database puts together: no object for each row.

Theory of operation. A statement reads a few hundred keys in order, their rows, and joins what
an answer shows of them. It is one step of the statement, and so one release of the interpreter
lock: 0.5 µs a row, instead of 5 with objects. Where the text has no room in its page, another
statement gives the size of each row, by which it is cut. Keys that are not on disk yet are merged
in by their revs.

What is odd is left to who reads row by row, and knows what to say of it: a key without a row,
a record without a name, a byte of 0, rows of which too few fit a page.
"""

from __future__ import annotations

import abc
import array
import heapq
import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import apsw
import msgspec

from recordd.extending.paging import count_fitting
from recordd.persistence.sqlite.damage import INDEX, naming
from recordd.persistence.sqlite.plans import Found, FoundText, Key, Pace, Place, QueryPlan
from recordd.persistence.sqlite.timeline import tail_keys
from recordd_protocol.rows import ROW_SEPARATOR

__all__ = ["read_few", "read_indexed", "read_text"]

_CHUNK: Final = 512
_FEWEST: Final = 8
"""Rows of one statement: some 0.3 ms; of large ones fewer."""

_LEAST_BYTES: Final = 65_536
"""The text of a statement needs room too, where a page has little."""

_BY_TIME: Final = (
    "SELECT ts, rev, record FROM history INDEXED BY timeline"
    " WHERE (ts, rev) > (:ts, :start) AND ts <= :end AND rev <= :last"
)
_OF_RECORD: Final = (
    "SELECT ts, rev, record FROM history"
    " WHERE record = :record AND (ts, rev) > (:ts, :start) AND ts <= :end AND rev <= :last"
)
_LAST_OF_RECORD: Final = " ORDER BY ts DESC, rev DESC LIMIT 1 OFFSET :limit - 1"
_IN_TAIL: Final = (
    " UNION ALL SELECT ts, rev, record FROM log WHERE rev IN (SELECT value FROM carray(:tail))"
)


class _Statements(msgspec.Struct, frozen=True):
    """What gives the text of rows, how many keys, how many rows; and what gives their sizes."""

    text: str
    sizes: str


def _make_statements(source: str, head: str, key: str, is_sound: str) -> _Statements:
    """Return the statements about the rows of a source, which has the columns of `log`.

    `is_sound` is not NULL where a key has a row, and the row a name.
    """
    body = f"""{head} || log.value || ',"ts":' || {key}.ts || ',"rev":' || {key}.rev"""
    # The sizes are asked for where a page ends: the text takes a sixth longer with them.
    return _Statements(
        f"SELECT CAST(group_concat({body}, '}},{{') AS BLOB), count(*), count({is_sound})"
        f" FROM {source}",
        f"SELECT group_concat(octet_length({body})) FROM {source}",
    )


_HEAD: Final = """'"name":"' || record.name || '","value":'"""
_IS_NAMED: Final = "iif(record.name IS NULL, NULL, log.rev)"


def _make_by_time(keys: str) -> _Statements:
    source = f"({keys} ORDER BY ts, rev LIMIT :rows) key LEFT JOIN log ON log.rev = key.rev"
    source += " LEFT JOIN record ON record.id = key.record"
    return _make_statements(source, _HEAD, "key", _IS_NAMED)


def _make_of_one(keys: str) -> _Statements:
    source = f"({keys} ORDER BY ts, rev LIMIT :rows) key LEFT JOIN log ON log.rev = key.rev"
    return _make_statements(source, ":head", "key", "log.rev")


_ALL_ON_DISK: Final = _make_by_time(_BY_TIME)
_ALL: Final = _make_by_time(_BY_TIME + _IN_TAIL)
_ONE_ON_DISK: Final = _make_of_one(_OF_RECORD)
_ONE: Final = _make_of_one(_OF_RECORD + _IN_TAIL)
_FIRST_OF_ONE_ON_DISK: Final = _OF_RECORD + _LAST_OF_RECORD
_FIRST_OF_ONE: Final = _OF_RECORD + _IN_TAIL + _LAST_OF_RECORD
_BY_KEYS: Final = _make_statements(
    "carray(:revs) key LEFT JOIN log ON log.rev = key.value"
    " LEFT JOIN record ON record.id = log.record",
    _HEAD,
    "log",
    _IS_NAMED,
)


class _Chunk(msgspec.Struct, frozen=True):
    """Rows as text; `is_last` where no more come."""

    text: bytes
    count: int
    is_last: bool


class _Odd(Exception):
    """Rows that are to be read one by one."""


def read_text(
    db: apsw.Connection,
    plan: QueryPlan,
    pace: Pace,
    choose_keys: Callable[[apsw.Connection, QueryPlan, Pace], Iterator[Key]],
) -> FoundText | None:
    """Return a page as text; None where it has to be read row by row, or is empty.

    `choose_keys` reads the keys of a page where one statement cannot.
    """
    before = db.limit(apsw.SQLITE_LIMIT_LENGTH, max(plan.page.bytes, _LEAST_BYTES))
    try:
        record = plan.records.find_one()
        if record is not None:
            return _read_page(_Stretch(db, plan, record), plan, pace)
        if plan.limit_per_record is None and plan.records.has_all:
            pace.begin()
            return _read_page(_Stretch(db, plan, None), plan, pace)
        return _read_page(_Keyed(db, choose_keys(db, plan, pace), pace), plan, pace)
    except (_Odd, apsw.TooBigError):
        return None
    finally:
        db.limit(apsw.SQLITE_LIMIT_LENGTH, before)


def read_few(
    db: apsw.Connection, plan: QueryPlan, record: int, most: int
) -> Found | FoundText | None:
    """Return all rows of a page of one record, if they are so few and have room on it; else None.

    The caller bounds the text by the connection's limits.
    """
    try:
        reader = _Stretch(db, plan, record)
        chunk = reader.read(min(most, plan.page.rows) + 1)
    except _Odd:
        return None
    if not chunk.is_last or len(chunk.text) + len(ROW_SEPARATOR) > plan.page.bytes:
        return None
    if not chunk.count:
        return Found([], more=False)
    return FoundText(chunk.text, chunk.count, None, reader.behind)


def read_indexed(db: apsw.Connection, place: Place, most: int) -> Found | FoundText | None:
    """Return what `read_few` does of a record whose rows are all indexed on disk.

    With a third of the calls: 80 µs become 65, and 60 more where other work is done in between.
    """
    (ts, rev), rows = place.start, min(most, place.page.rows) + 1
    bounds = {
        "record": place.record,
        "head": f'"name":"{place.name}","value":',
        "ts": ts,
        "start": rev,
        "end": place.end_ms,
        "last": place.last_rev,
        "rows": rows,
    }
    if place.limit is not None:
        bounds["limit"] = place.limit
        if (first := db.execute(_FIRST_OF_ONE_ON_DISK, bounds).get) is not None:
            ts, rev = bounds["ts"], bounds["start"] = first[0], first[1] - 1
    text, keys, sound = db.execute(_ONE_ON_DISK.text, bounds).get
    if not keys:
        return Found([], more=False)
    is_odd = keys != sound or b"\0" in text
    if is_odd or keys == rows or len(text) + len(ROW_SEPARATOR) > place.page.bytes:
        return None
    return FoundText(text, keys, None, (ts, rev))


def _read_page(reader: _Reader, plan: QueryPlan, pace: Pace) -> FoundText | None:
    texts: list[bytes] = []
    room, rows_left = plan.page.bytes, plan.page.rows
    while True:
        pace.check()
        chunk = reader.read(min(_CHUNK, rows_left) or 1)
        text, fitting = _cut(reader, chunk, room) if rows_left else (b"", 0)
        if fitting:
            texts.append(text)
            room -= len(text) + len(ROW_SEPARATOR)
            rows_left -= fitting
            pace.found_row()
        is_cut = fitting < chunk.count
        if is_cut or chunk.is_last or pace.is_over():
            if not texts:  # empty, or of one row that is larger than a page
                return None
            text = ROW_SEPARATOR.join(texts)
            more = is_cut or not chunk.is_last
            last = _last_key(text) if more else None
            return FoundText(text, plan.page.rows - rows_left, last, reader.behind)


def _cut(reader: _Reader, chunk: _Chunk, room: int) -> tuple[bytes, int]:
    """Return the rows of a chunk that have room together, and how many they are."""
    if len(chunk.text) + len(ROW_SEPARATOR) <= room:
        return chunk.text, chunk.count
    sizes = reader.read_sizes()
    fitting = count_fitting(sizes, room, beside_bytes=len(ROW_SEPARATOR))
    return chunk.text[: _end_of(sizes, fitting)] if fitting else b"", fitting


class _Reader(abc.ABC):
    """The rows of a plan in order, a chunk at a time."""

    _size = _CHUNK

    behind: tuple[int, int] | None = None
    """Where the rows of one record begin that are read."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db: Final = db
        self._last: tuple[str, dict[str, Any]] = ("", {})
        """What gives the sizes of the rows that were read last."""

    def read(self, rows: int) -> _Chunk:
        """Return the next rows, so many at most.

        Raises:
            _Odd: there is something about one of them.
        """
        while True:
            rows = min(rows, self._size)
            try:
                return self._read(rows)
            except apsw.TooBigError:
                if self._size <= _FEWEST:
                    raise
                self._size //= 8

    def read_sizes(self) -> list[int]:
        """Return the sizes of the rows that were read last, in the same transaction."""
        sizes = cast("str | None", self._db.execute(*self._last).get)
        return [] if sizes is None else list(map(int, sizes.split(",")))

    def _read_text(self, statements: _Statements, bounds: dict[str, Any]) -> tuple[bytes, int]:
        """Return the text of rows, and how many they are.

        Raises:
            _Odd: a key had no row, a row no name, or a value has a byte of 0.
        """
        self._last = statements.sizes, bounds
        found = self._db.execute(statements.text, bounds).get
        text, keys, rows = cast("tuple[bytes | None, int, int]", found)
        if keys != rows or (text is not None and b"\0" in text):
            raise _Odd
        return text or b"", keys

    @abc.abstractmethod
    def _read(self, rows: int) -> _Chunk: ...


class _Keyed(_Reader):
    """The rows of keys that were found otherwise."""

    def __init__(self, db: apsw.Connection, keys: Iterator[Key], pace: Pace) -> None:
        super().__init__(db)
        self._keys: Final = keys
        self._pace: Final = pace
        self._next: list[Key] = []

    def _read(self, rows: int) -> _Chunk:
        self._next += itertools.islice(self._keys, rows - len(self._next))
        keys = self._next[:rows]
        if not keys:
            return _Chunk(b"", 0, is_last=not self._pace.was_cut)
        revs = apsw.carray(array.array("q", [rev for _, rev, _ in keys]))
        text, count = self._read_text(_BY_KEYS, {"revs": revs})
        del self._next[: len(keys)]
        is_last = len(keys) < rows and not self._pace.was_cut
        return _Chunk(text, count, is_last)


class _Stretch(_Reader):
    """The rows of one record, or of all by time."""

    def __init__(self, db: apsw.Connection, plan: QueryPlan, record: int | None) -> None:
        super().__init__(db)
        self._is_by_time: Final = record is None
        self._tail: Final = _sort_tail(plan, record)
        self._start = plan.start
        self._part: Final = INDEX if record is None else f"{INDEX} of record {record}"
        self._bounds: Final[dict[str, Any]] = {"end": plan.end_ms, "last": plan.last_rev_on_disk}
        if record is not None:
            name = plan.records.get(record)
            if name is None:
                raise _Odd
            self._bounds["record"], self._bounds["head"] = record, f'"name":"{name}","value":'
            if plan.limit_per_record is not None:
                self._start = self._find_first(plan.limit_per_record)
            self.behind = self._start

    def _find_first(self, limit: int) -> tuple[int, int]:
        """Return the place before the newest `limit` rows; what lies before the page counts not."""
        ts, rev = self._start
        bounds = {"ts": ts, "start": rev, "limit": limit, **self._bounds}
        statement = _FIRST_OF_ONE_ON_DISK
        if self._tail:
            bounds["tail"] = apsw.carray(array.array("q", [key[1] for key in self._tail]))
            statement = _FIRST_OF_ONE
        with naming(self._part, self._db):
            rows = self._db.execute(statement, bounds).fetchall()
        found = cast("list[Key]", rows)
        return (found[0][0], found[0][1] - 1) if found else self._start

    def _read(self, rows: int) -> _Chunk:
        ts, rev = self._start
        bounds = {"ts": ts, "start": rev, "rows": rows, **self._bounds}
        in_tail = self._find_in_tail(rows) if self._tail else []
        if in_tail:
            bounds["tail"] = apsw.carray(array.array("q", [key[1] for key in in_tail]))
            statements = _ALL if self._is_by_time else _ONE
        else:
            statements = _ALL_ON_DISK if self._is_by_time else _ONE_ON_DISK
        with naming(f"{self._part} from ts {ts} on", self._db):
            text, count = self._read_text(statements, bounds)
        is_last = count < rows
        if not is_last:
            self._start = _last_key(text)
        return _Chunk(text, count, is_last)

    def _find_in_tail(self, rows: int) -> list[Key]:
        """Return the next keys that are not on disk."""
        first = bisect_right(self._tail, self._start, key=_time_of)
        return self._tail[first : first + rows]


def _sort_tail(plan: QueryPlan, record: int | None) -> list[Key]:
    """Return the keys that are not on disk and may be on the page, in order."""
    start, most = plan.start, plan.page.rows + 1
    if record is None:
        return heapq.nsmallest(most, tail_keys(plan, start))
    if not plan.count_in_tail(record):  # mostly: 3 of the 80 µs of a page
        return []
    found = [key for key in plan.tail_keys(record) if key[:2] > start]
    # Where a limit counts back from the newest one, all are needed.
    return heapq.nsmallest(most, found) if plan.limit_per_record is None else sorted(found)


def _time_of(key: Key) -> tuple[int, int]:
    return key[:2]


def _end_of(sizes: list[int], count: int) -> int:
    """Return where so many rows end in their text."""
    return sum(sizes[:count]) + len(ROW_SEPARATOR) * (count - 1)


def _last_key(text: bytes) -> tuple[int, int]:
    """Return the (`ts`, `rev`) of the last row of a text: it ends with them."""
    ts, rev = text[text.rindex(b',"ts":') + 6 :].split(b',"rev":')
    return int(ts), int(rev)
