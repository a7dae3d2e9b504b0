"""Pages whose text the database puts together: no object for each row.

Theory of operation. A statement reads a few hundred keys in order, their rows, and joins what
an answer shows of them; it gives the text, and the size of each row, by which a page is cut to
its bytes. It is one step of the statement, and so one release of the interpreter lock: 0.6 µs a
row, instead of 5 with objects. Keys that are not on disk yet are merged in by their revs.

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
from recordd.persistence.sqlite.plans import FoundText, Key, Pace, QueryPlan
from recordd.persistence.sqlite.timeline import tail_keys
from recordd_protocol.rows import ROW_SEPARATOR

__all__ = ["read_text"]

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
_ITS_NAME: Final = "(SELECT name FROM record WHERE id = key.record)"


def _make_statement(name: str, keys: str) -> str:
    # LIMIT -1 keeps SQLite from putting the text of a row together twice.
    return f"""
        SELECT CAST(group_concat(body, '}},{{') AS BLOB), group_concat(octet_length(body)),
            count(*), count(body)
        FROM (
            SELECT '"name":"' || {name} || '","value":' || log.value
                || ',"ts":' || key.ts || ',"rev":' || key.rev AS body
            FROM ({keys} ORDER BY ts, rev LIMIT :rows) key LEFT JOIN log ON log.rev = key.rev
            LIMIT -1)
    """


_ALL_ON_DISK: Final = _make_statement(_ITS_NAME, _BY_TIME)
_ALL: Final = _make_statement(_ITS_NAME, _BY_TIME + _IN_TAIL)
_ONE_ON_DISK: Final = _make_statement(":name", _OF_RECORD)
_ONE: Final = _make_statement(":name", _OF_RECORD + _IN_TAIL)
_FIRST_OF_ONE_ON_DISK: Final = _OF_RECORD + _LAST_OF_RECORD
_FIRST_OF_ONE: Final = _OF_RECORD + _IN_TAIL + _LAST_OF_RECORD


_BY_KEYS: Final = """
    SELECT CAST(group_concat(body, '},{') AS BLOB), group_concat(octet_length(body)),
        count(*), count(body)
    FROM (
        SELECT '"name":"' || (SELECT name FROM record WHERE id = log.record) || '","value":'
            || log.value || ',"ts":' || log.ts || ',"rev":' || log.rev AS body
        FROM carray(:revs) key LEFT JOIN log ON log.rev = key.value
        LIMIT -1)
"""


class _Chunk(msgspec.Struct, frozen=True):
    """Rows as text, and the size of each; `is_last` where no more come."""

    text: bytes
    sizes: list[int]
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


def _read_page(reader: _Reader, plan: QueryPlan, pace: Pace) -> FoundText | None:
    texts: list[bytes] = []
    room, rows_left = plan.page.bytes, plan.page.rows
    while True:
        pace.check()
        chunk = reader.read(min(_CHUNK, rows_left) or 1)
        fitting = 0
        if rows_left:
            fitting = count_fitting(chunk.sizes, room, beside_bytes=len(ROW_SEPARATOR))
        if fitting:
            texts.append(chunk.text[: _end_of(chunk.sizes, fitting)])
            room -= len(texts[-1]) + len(ROW_SEPARATOR)
            rows_left -= fitting
            pace.found_row()
        is_cut = fitting < len(chunk.sizes)
        if is_cut or chunk.is_last or pace.is_over():
            if not texts:  # empty, or of one row that is larger than a page
                return None
            text = ROW_SEPARATOR.join(texts)
            more = is_cut or not chunk.is_last
            return FoundText(text, plan.page.rows - rows_left, _last_key(text), more)


class _Reader(abc.ABC):
    """The rows of a plan in order, a chunk at a time."""

    _size = _CHUNK

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

    @abc.abstractmethod
    def _read(self, rows: int) -> _Chunk: ...


class _Keyed(_Reader):
    """The rows of keys that were found otherwise."""

    def __init__(self, db: apsw.Connection, keys: Iterator[Key], pace: Pace) -> None:
        self._db: Final = db
        self._keys: Final = keys
        self._pace: Final = pace
        self._next: list[Key] = []

    def _read(self, rows: int) -> _Chunk:
        self._next += itertools.islice(self._keys, rows - len(self._next))
        keys = self._next[:rows]
        if not keys:
            return _Chunk(b"", [], is_last=not self._pace.was_cut)
        revs = apsw.carray(array.array("q", [rev for _, rev, _ in keys]))
        found = self._db.execute(_BY_KEYS, {"revs": revs}).get
        del self._next[: len(keys)]
        is_last = len(keys) < rows and not self._pace.was_cut
        return _check(found, is_last=is_last)


class _Stretch(_Reader):
    """The rows of one record, or of all by time."""

    def __init__(self, db: apsw.Connection, plan: QueryPlan, record: int | None) -> None:
        self._is_by_time: Final = record is None
        self._db: Final = db
        self._tail: Final = _sort_tail(plan, record)
        self._start = plan.start
        self._part: Final = INDEX if record is None else f"{INDEX} of record {record}"
        self._bounds: Final[dict[str, Any]] = {"end": plan.end_ms, "last": plan.last_rev_on_disk}
        if record is not None:
            self._bounds["record"], self._bounds["name"] = record, plan.records.get(record)
            if plan.limit_per_record is not None:
                self._start = self._find_first(plan.limit_per_record)

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
        first = bisect_right(self._tail, self._start, key=_time_of)
        in_tail = self._tail[first : first + rows]
        if in_tail:
            bounds["tail"] = apsw.carray(array.array("q", [key[1] for key in in_tail]))
            statement = _ALL if self._is_by_time else _ONE
        else:
            statement = _ALL_ON_DISK if self._is_by_time else _ONE_ON_DISK
        with naming(f"{self._part} from ts {ts} on", self._db):
            found = self._db.execute(statement, bounds).get
        chunk = _check(found, is_last=found[2] < rows)
        if chunk.text:
            self._start = _last_key(chunk.text)
        return chunk


def _check(found: object, *, is_last: bool) -> _Chunk:
    """Return what a statement gave.

    Raises:
        _Odd: a key had no row, a row no name, or a value has a byte of 0.
    """
    text, sizes, keys, bodies = cast("tuple[bytes | None, str | None, int, int]", found)
    if keys != bodies or (text is not None and b"\0" in text):
        raise _Odd
    if text is None or sizes is None:
        return _Chunk(b"", [], is_last=True)
    return _Chunk(text, list(map(int, sizes.split(","))), is_last=is_last)


def _sort_tail(plan: QueryPlan, record: int | None) -> list[Key]:
    """Return the keys that are not on disk and may be on the page, in order."""
    start, most = plan.start, plan.page.rows + 1
    if record is None:
        return heapq.nsmallest(most, tail_keys(plan, start))
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
