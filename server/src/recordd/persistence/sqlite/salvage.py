"""Salvage: the readable rest of a damaged database, in a new one.

The log is the truth: its rows are read by `rev`, around the pages that cannot be read, and
the index is made anew. Only rows from pages with a right checksum count.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final, cast

import apsw
import msgspec

from recordd.extending.backend import BackendError
from recordd.persistence.sqlite import schema
from recordd.persistence.sqlite.copying import Progress
from recordd.persistence.sqlite.damage import take_fault_offset
from recordd.persistence.sqlite.files import FileError, open_database, raise_passing
from recordd.persistence.sqlite.schema import FIRST_RECORD, Meta
from recordd_protocol.integers import MAX_INTEGER

__all__ = ["Gap", "Salvage", "read_around", "salvage"]

_BATCH_ROWS: Final = 1000
_STAND_IN: Final = "recovered.record.{}"
_KEEP_NEXT_ID: Final = (
    "INSERT INTO meta VALUES (?, ?)"
    " ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)"
)


class Gap(msgspec.Struct, frozen=True):
    """A stretch of keys that cannot be read, both ends included; `last` None: to the end."""

    first: int
    last: int | None

    def __str__(self) -> str:
        """Show it as people write it."""
        if self.last is None:
            return f"from {self.first} on"
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"


class Salvage(msgspec.Struct, frozen=True):
    """The saved rows, and a line for each loss."""

    rows: int
    losses: list[str]


def salvage(path: str, target: str, progress: Progress) -> Salvage:
    """Fill the empty file `target` with the readable rest of the database at `path`.

    Raises:
        FileError: not even the list of tables can be read.
        apsw.Error: the target cannot be written.
    """
    source = open_database(path)
    try:
        columns = _columns_of(source, path)
        db = open_database(target, keeps_wal=False)
        try:
            schema.prepare(db, target, "full")
            schema.keep(db)
            return _Salvager(source, db, columns, progress).run()
        except BackendError as error:
            raise FileError(str(error)) from error
        finally:
            db.close()
    finally:
        source.close()


class _Salvager:
    def __init__(
        self,
        source: apsw.Connection,
        db: apsw.Connection,
        columns: dict[str, list[str]],
        progress: Progress,
    ) -> None:
        self._source: Final = source
        self._db: Final = db
        self._columns: Final = columns
        self._progress: Final = progress
        self._losses: Final[list[str]] = []
        self._deleted: Final[set[int]] = set()

    def run(self) -> Salvage:
        with self._db:
            self._save_meta()
            self._save_records()
            rows = self._save_log()
            self._name_the_nameless()
            self._index(rows)
        return Salvage(rows, self._losses)

    def _save_meta(self) -> None:
        """Keep the revs and ids that were given, and the position; the epoch is a new one."""
        for key in (Meta.DELETED_REV, Meta.GIVEN_REV, Meta.NEXT_RECORD_ID, Meta.POSITION):
            try:
                value = self._source.execute("SELECT value FROM meta WHERE key = ?", (key,)).get
            except apsw.Error as error:
                raise_passing(error)
                self._losses.append(f"{key} of the table meta")
                continue
            if isinstance(value, int):
                self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _save_records(self) -> None:
        columns = [name for name in self._columns["record"] if name not in ("id", "row_count")]
        fields = ", ".join(columns)
        insert = f"INSERT INTO record (id, {fields}) VALUES (?{', ?' * len(columns)})"
        for row in self._read("record", "id", fields):
            if isinstance(row, Gap):
                self._losses.append(f"names of the records with the numbers {row}")
            elif row[1 + columns.index("name")] is None:
                self._deleted.add(row[0])  # its rows would be purged
            else:
                self._db.execute(insert, row)
        if self._deleted:  # their ids may be the newest there were
            next_id = max(self._deleted) + 1 - FIRST_RECORD
            self._db.execute(_KEEP_NEXT_ID, (Meta.NEXT_RECORD_ID, next_id))

    def _save_log(self) -> int:
        columns = [name for name in self._columns["log"] if name != "rev"]
        fields = ", ".join(columns)
        insert = f"INSERT OR IGNORE INTO log (rev, {fields}) VALUES (?{', ?' * len(columns)})"
        record, value = 1 + columns.index("record"), 1 + columns.index("value")
        rows = 0
        batch: list[tuple[Any, ...]] = []
        for row in self._read("log", "rev", fields):
            if isinstance(row, Gap):
                self._losses.append(f"rows with the revs {row}")
            elif row[record] in self._deleted:
                continue
            elif not _is_json(row[value]):
                self._losses.append(f"the row with the rev {row[0]}: its value is no JSON")
            else:
                batch.append(row)
                rows += 1
            if len(batch) >= _BATCH_ROWS:
                self._db.executemany(insert, batch)
                batch.clear()
                self._progress("rows saved", rows, 0)
        self._db.executemany(insert, batch)
        saved = cast("int", self._db.execute("SELECT count(*) FROM log").get)
        if saved < rows:
            self._losses.append(f"{rows - saved} rows whose rev another row has too")
        return saved

    def _name_the_nameless(self) -> None:
        """Give records whose names are lost a name that says so."""
        lost = self._db.execute(
            "SELECT DISTINCT record FROM log WHERE record NOT IN (SELECT id FROM record)"
        ).fetchall()
        for (record,) in cast("list[tuple[int]]", lost):
            name = _STAND_IN.format(record)
            while self._db.execute("SELECT 1 FROM record WHERE name = ?", (name,)).get:
                name += "_"
            self._db.execute("INSERT INTO record (id, name) VALUES (?, ?)", (record, name))
            self._losses.append(f"the name of a record, which is now called {name}")

    def _index(self, rows: int) -> None:
        self._progress("rows indexed", rows, rows)
        self._db.execute(
            "INSERT INTO history (record, ts, rev)"
            " SELECT record, ts, rev FROM log ORDER BY record, ts, rev"
        )
        self._db.execute(
            "UPDATE record SET row_count ="
            " (SELECT count(*) FROM history WHERE history.record = record.id)"
        )
        self._db.execute(
            "INSERT OR REPLACE INTO meta SELECT ?, coalesce(max(rev), 0) FROM log",
            (Meta.MERGED_REV,),
        )

    def _read(self, table: str, key: str, fields: str) -> Iterator[tuple[Any, ...] | Gap]:
        query = f"SELECT {key}, {fields} FROM {table} WHERE {key} >= ? ORDER BY {key}"
        return read_around(self._source, query)


def read_around(db: apsw.Connection, query: str) -> Iterator[tuple[Any, ...] | Gap]:
    """Yield the rows of a query, and in their place the stretches that cannot be read.

    The query takes the least key, and returns rows by ascending key, the key first. A page
    of a table holds a stretch of keys without others between, so the end of an unreadable
    one is found by halving: a few dozen looks for each damaged page.
    """
    start = -MAX_INTEGER
    while True:
        try:
            for row in db.execute(query, (start,)):
                yield row
                start = row[0] + 1
            return
        except apsw.Error as error:
            raise_passing(error)
            page = take_fault_offset()
        end = _find_end(db, query, start, page)
        yield Gap(max(start, 1), end)
        if end is None:
            return
        start = end + 1


def _find_end(db: apsw.Connection, query: str, start: int, page: int | None) -> int | None:
    """Return the last key from `start` on that meets the damaged page; None: all do."""
    low, high = start, MAX_INTEGER
    if _meets(db, query, high, page):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _meets(db, query, middle, page):
            low = middle
        else:
            high = middle
    return low


def _meets(db: apsw.Connection, query: str, key: int, page: int | None) -> bool:
    try:
        with contextlib.closing(db.execute(query, (key,))) as rows:
            next(iter(rows), None)
    except apsw.Error as error:
        raise_passing(error)
        return take_fault_offset() == page
    return False


def _columns_of(source: apsw.Connection, path: str) -> dict[str, list[str]]:
    """Return the columns of the tables that are saved, as far back as the file is."""
    try:
        found = {
            table: [str(row[1]) for row in source.execute(f"PRAGMA table_info({table})")]
            for table in ("record", "log")
        }
    except apsw.Error as error:
        raise_passing(error)
        raise FileError(f"{path}: the list of its tables cannot be read: {error}") from None
    if not all(found.values()):
        raise FileError(f"{path}: it has not the tables of a recordd database")
    return found


def _is_json(value: object) -> bool:
    try:
        msgspec.json.decode(cast("str", value), type=msgspec.Raw)
    except (msgspec.MsgspecError, TypeError, RecursionError):
        return False
    return True
