"""The daemon's memory before it answers: one read of the file at start.

Costs one index seek a record, and one read of the log above `merged_rev`; the history
below it is not looked at. Records are read some thousand at a time, by three statements: a
statement for each took twice as long, and lists of all records leave memory behind that the
process does not give back. Where their values meet damage they are read one by one.
"""

from __future__ import annotations

import array
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, cast

import apsw
import msgspec

from recordd.extending.backend import (
    BackendError,
    DamagedStorage,
    Loaded,
    LoadedRecord,
    UnreadableStorage,
)
from recordd.persistence.sqlite.damage import (
    INDEX,
    check_text,
    describe_damage,
    naming,
    take_fault_offset,
)
from recordd.persistence.sqlite.mark import Mark
from recordd.persistence.sqlite.schema import FIRST_RECORD, Meta
from recordd_protocol.rows import Row

__all__ = ["FoundState", "load"]


_RECORDS_AT_ONCE: Final = 1024

_NAMED: Final = """
    SELECT id, name, row_count, purged_rev FROM record
    WHERE id > ? AND name IS NOT NULL ORDER BY id LIMIT ?
"""

# `value` is the record. Two seeks to the same place: a join by (`ts`, `rev`) would be a third,
# and read pages of the index that nobody needs.
_NEWEST_FIRST: Final = """
    FROM history WHERE record = value AND rev <= :merged ORDER BY ts DESC, rev DESC LIMIT 1
"""
_NEWEST: Final = (
    f"SELECT (SELECT ts {_NEWEST_FIRST}), (SELECT rev {_NEWEST_FIRST}) FROM carray(:records)"
)

# Here it is the rev.
_VALUES: Final = "SELECT log.value FROM carray(?) c LEFT JOIN log ON rev = c.value"

_RECORDS: Final = "the start needs the table record, the names of records"


_Named = tuple[int, str, int, int]
"""A record as its table has it: id, name, rows, and the newest rev that it lost."""

_Key = tuple[int, int]
"""(`ts`, `rev`)"""


class FoundState(msgspec.Struct, frozen=True, kw_only=True):
    """`loaded` for the daemon; the rest for the backend.

    `ids` by name, and of each the place of its latest row, as `order_of` gives it, if it has one;
    (record id, `ts`, `rev`) of each row that is not merged.
    """

    loaded: Loaded
    ids: dict[str, int]
    orders: list[int | None]
    merged_rev: int
    purge_rev: int | None
    tick: int
    unmerged: list[tuple[int, int, int]]
    position: int | None
    """Of the newest commit that was applied; None where it is the newest rev."""
    log_end: DamagedStorage | None
    """Why no row can be appended to the log."""

    @property
    def damaged(self) -> dict[str, DamagedStorage]:
        """Records whose latest value cannot be read, and why."""
        return {r.latest.name: r.damage for r in self.loaded.records if r.damage is not None}


def load(db: apsw.Connection, mark: Mark | None = None) -> FoundState:
    """Read the state; on the writing connection, before anybody else has one.

    A latest value that lies on a damaged page is left out, and said so. `mark` may tell
    that no row lacks from the index.

    Raises:
        BackendError: when the index names a row that the log does not have.
        apsw.Error: anything else cannot be read.
    """
    meta = _read_meta(db)
    merged_rev = meta.get(Meta.MERGED_REV, 0)
    unmerged, log_end = _find_unmerged(db, merged_rev, mark)
    found = _Records(db, merged_rev, unmerged)
    found.read_all()
    # A record without rows is as good as deleted: nothing tells of it but what it lost.
    loaded = Loaded(
        epoch=meta[Meta.EPOCH],
        rev=unmerged[-1][2] if unmerged else merged_rev,
        next_record_id=_find_next_id(db, meta),
        deleted_rev=meta.get(Meta.DELETED_REV, 0),
        deletions=sorted([*_read_deletions(db), *found.lost], key=itemgetter(1)),
        records=found.records,
    )
    return FoundState(
        loaded=msgspec.structs.replace(loaded, rev=_find_newest_rev(loaded, meta)),
        ids=found.ids,
        orders=found.orders,
        merged_rev=merged_rev,
        purge_rev=_find_purge_rev(db),
        tick=meta.get(Meta.TICK, 0),
        unmerged=unmerged,
        position=meta.get(Meta.POSITION),
        log_end=log_end,
    )


class _Records:
    """The records of the file, read by number."""

    def __init__(
        self, db: apsw.Connection, merged_rev: int, unmerged: Sequence[tuple[int, int, int]]
    ) -> None:
        self.records: list[LoadedRecord] = []
        self.ids: Final[dict[str, int]] = {}
        self.orders: list[int | None] = []
        self.lost: Final[list[tuple[str, int]]] = []
        """Names of records without rows, with the newest rev that each lost."""
        self._db: Final = db
        self._merged_rev: Final = merged_rev
        self._last_id = -(1 << 63)
        self._unmerged: Final[dict[int, tuple[int, _Key]]] = {}
        """Of records with rows that the index lacks: how many, and the latest of them."""
        for record, ts, rev in unmerged:
            rows, key = self._unmerged.get(record, (0, (-1, -1)))
            self._unmerged[record] = (rows + 1, max(key, (ts, rev)))

    def read_all(self) -> None:
        """Read them all."""
        while some := self._read_names():
            loaded = self._load(self._find_latest(some))
            self.records += loaded
            orders = {record.latest.name: record.latest.order for record in loaded}
            self.orders += [orders.get(name) for _, name, _, _ in some]

    def _read_names(self) -> list[_Named]:
        """Return the next records by number."""
        with naming(_RECORDS, self._db):
            found = self._db.execute(_NAMED, (self._last_id, _RECORDS_AT_ONCE)).fetchall()
        some = cast("list[_Named]", found)
        for record, name, _, _ in some:
            self.ids[name] = self._last_id = record
        return some

    def _find_latest(self, some: Sequence[_Named]) -> list[tuple[_Named, _Key]]:
        """Return records that have rows, those not merged counted in, with the latest one's key.

        What the others have lost is noted.
        """
        records = apsw.carray(array.array("q", [known[0] for known in some]))
        bounds = {"records": records, "merged": self._merged_rev}
        with naming(f"the start needs {INDEX}", self._db):
            keys = cast(
                "list[_Key | tuple[None, None]]", self._db.execute(_NEWEST, bounds).fetchall()
            )
        there = []
        for known, (ts, rev) in zip(some, keys, strict=True):
            key = (-1, -1) if ts is None or rev is None else (ts, rev)
            if (more := self._unmerged.get(known[0])) is not None:
                record, name, rows, purged_rev = known
                there.append(((record, name, rows + more[0], purged_rev), max(key, more[1])))
            elif rev is None:
                self.lost.append((known[1], known[3]))
            else:
                there.append((known, key))
        return there

    def _load(self, there: Sequence[tuple[_Named, _Key]]) -> list[LoadedRecord]:
        """Return records with their values; one by one where one of these cannot be read."""
        try:
            return self._load_together(there)
        except (apsw.Error, DamagedStorage):
            take_fault_offset()  # each is met again
            return [_load_record(self._db, known, key) for known, key in there]

    def _load_together(self, there: Sequence[tuple[_Named, _Key]]) -> list[LoadedRecord]:
        revs = apsw.carray(array.array("q", [rev for _, (_, rev) in there]))
        values = self._db.execute(_VALUES, (revs,)).fetchall() if there else []
        loaded = []
        before = -1
        for (known, (ts, rev)), (value,) in zip(there, values, strict=True):
            record, name, rows, purged_rev = known
            row = Row(name, _check_value(cast("str | None", value), name, rev), ts, rev)
            # Mostly the number of the record before: one integer instead of two, 32 bytes.
            record_id = before if before == record - FIRST_RECORD else record - FIRST_RECORD
            loaded.append(LoadedRecord(row, rows, record_id, purged_rev))
            before = record
        return loaded


def _read_meta(db: apsw.Connection) -> dict[str, Any]:
    with naming("the start needs the table meta, its epoch and how far it is indexed", db):
        meta = dict(db.execute("SELECT key, value FROM meta"))
    if not isinstance(meta.get(Meta.EPOCH), str):
        raise DamagedStorage(
            "the table meta has no epoch: see 'recordd check' and 'recordd repair'"
        )
    return meta


def _find_purge_rev(db: apsw.Connection) -> int | None:
    """Return the rev up to which rows of deleted records wait to be purged."""
    with naming(_RECORDS, db):
        purge_rev: int | None
        purge_rev = db.execute("SELECT max(deleted_at_rev) FROM record WHERE name IS NULL").get
    return purge_rev


def _read_deletions(db: apsw.Connection) -> list[tuple[str, int]]:
    with naming("the start needs the table deletion, the names of what was deleted", db):
        found = db.execute("SELECT name, rev FROM deletion").fetchall()
    return cast("list[tuple[str, int]]", found)


def _find_newest_rev(loaded: Loaded, meta: Mapping[str, int]) -> int:
    """Return the newest rev that was ever given: the row that had it may have gone."""
    return max(
        loaded.rev,
        loaded.deleted_rev,
        meta.get(Meta.GIVEN_REV, 0),
        *(record.purged_rev for record in loaded.records),
        *(rev for _, rev in loaded.deletions),
    )


def _find_next_id(db: apsw.Connection, meta: Mapping[str, int]) -> int:
    newest: int = db.execute("SELECT max(id) + 1 FROM record").get or FIRST_RECORD
    return max(newest - FIRST_RECORD, meta.get(Meta.NEXT_RECORD_ID, 0))


def _find_unmerged(
    db: apsw.Connection, merged_rev: int, mark: Mark | None
) -> tuple[list[tuple[int, int, int]], DamagedStorage | None]:
    """Return (record id, `ts`, `rev`) of the rows that the index lacks, by `rev`.

    And why no row can come behind them, where the log's last page is damaged and nothing lacks.
    """
    query = "SELECT record, ts, rev FROM log WHERE rev > ? ORDER BY rev"
    try:
        with naming(f"the start needs all rows of the log behind rev {merged_rev}", db):
            found = db.execute(query, (merged_rev,)).fetchall()
    except DamagedStorage as damage:
        is_passing = isinstance(damage, UnreadableStorage)
        if mark is None or is_passing or not _is_all_merged(db, merged_rev, mark):
            raise
        return [], _describe_log_end(db, merged_rev, damage)
    return cast("list[tuple[int, int, int]]", found), None


def _describe_log_end(
    db: apsw.Connection, merged_rev: int, damage: DamagedStorage
) -> DamagedStorage:
    """Say which rows are lost with the page behind which rows are appended."""
    readable, lost = 0, merged_rev
    while lost - readable > 1:
        middle = (readable + lost) // 2
        if _can_read(db, middle):
            readable = middle
        else:
            lost = middle
    text = (
        f"no row can be written: the log ends with rev {lost} to {merged_rev} on page"
        f" {damage.page}, which fails its checksum; stop the daemon, then 'recordd repair' saves"
        " all other rows"
    )
    return DamagedStorage(text, page=damage.page)


def _can_read(db: apsw.Connection, rev: int) -> bool:
    """Tell whether the row that is there from a `rev` on can be read."""
    try:
        db.execute("SELECT rev FROM log WHERE rev >= ? LIMIT 1", (rev,)).fetchall()
    except apsw.Error as error:
        if describe_damage(error, db) is None:
            raise
        return False
    return True


def _is_all_merged(db: apsw.Connection, merged_rev: int, mark: Mark) -> bool:
    """Tell whether every commit above `merged_rev` that the mark knows of was a deletion."""
    meta = dict(db.execute("SELECT key, value FROM meta"))
    if not mark.is_clean or mark.epoch != meta.get(Meta.EPOCH):
        return False
    deleted = {
        rev for (rev,) in db.execute("SELECT rev FROM deletion WHERE rev > ?", (merged_rev,))
    }
    deleted.add(meta.get(Meta.GIVEN_REV, 0))
    above = range(merged_rev + 1, mark.rev + 1)
    return len(above) <= len(deleted) and deleted.issuperset(above)


def _load_record(db: apsw.Connection, known: _Named, key: _Key) -> LoadedRecord:
    record, name, rows, purged_rev = known
    record_id = record - FIRST_RECORD
    try:
        return LoadedRecord(_read_row(db, name, key), rows, record_id, purged_rev)
    except (apsw.Error, DamagedStorage) as error:
        damage = describe_damage(error, db)
        if damage is None or isinstance(damage, UnreadableStorage):
            raise  # another try may go better
        return LoadedRecord(Row(name, b"null", *key), rows, record_id, purged_rev, damage)


def _read_row(db: apsw.Connection, name: str, key: _Key) -> Row:
    ts, rev = key
    value = db.execute("SELECT value FROM log WHERE rev = ?", (rev,)).get
    return Row(name, _check_value(value, name, rev), ts, rev)


def _check_value(value: str | None, name: str, rev: int) -> bytes:
    if value is None:
        raise BackendError(f"record {name!r}: the log lacks rev {rev}: restore a backup")
    return check_text(value, f"rev {rev}")
