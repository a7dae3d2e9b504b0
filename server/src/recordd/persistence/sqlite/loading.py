"""The daemon's memory before it answers: one read of the file at start.

Costs one index seek a record, and one read of the log above `merged_rev`; the history
below it is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from recordd.persistence.sqlite.damage import INDEX, check_text, describe_damage, naming
from recordd.persistence.sqlite.mark import Mark
from recordd.persistence.sqlite.schema import FIRST_RECORD, Meta
from recordd_protocol.rows import Row

__all__ = ["FoundState", "load"]


_NEWEST: Final = (
    "SELECT ts, rev FROM history WHERE record = ? AND rev <= ? ORDER BY ts DESC, rev DESC LIMIT 1"
)


_RECORDS: Final = "the start needs the table record, the names of records"


class FoundState(msgspec.Struct, frozen=True, kw_only=True):
    """`loaded` for the daemon; record ids and unmerged (record id, `ts`, `rev`) for the backend."""

    loaded: Loaded
    ids: dict[str, int]
    latest: dict[int, tuple[int, int]]
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
    latest, rows = _find_latest(db, merged_rev, unmerged)
    named, purge_rev = _read_names(db)
    # A record without rows is as good as deleted: nothing tells of it but what it lost.
    lost = [(name, purged_rev) for record, name, purged_rev in named if record not in latest]
    loaded = Loaded(
        epoch=meta[Meta.EPOCH],
        rev=unmerged[-1][2] if unmerged else merged_rev,
        next_record_id=_find_next_id(db, meta),
        deleted_rev=meta.get(Meta.DELETED_REV, 0),
        deletions=sorted([*_read_deletions(db), *lost], key=itemgetter(1)),
        records=[
            _load_record(db, (record, name), latest[record], rows[record], purged_rev)
            for record, name, purged_rev in named
            if record in latest
        ],
    )
    return FoundState(
        loaded=msgspec.structs.replace(loaded, rev=_find_newest_rev(loaded, meta)),
        ids={name: record for record, name, _ in named},
        latest=latest,
        merged_rev=merged_rev,
        purge_rev=purge_rev,
        tick=meta.get(Meta.TICK, 0),
        unmerged=unmerged,
        position=meta.get(Meta.POSITION),
        log_end=log_end,
    )


def _read_meta(db: apsw.Connection) -> dict[str, Any]:
    with naming("the start needs the table meta, its epoch and how far it is indexed", db):
        meta = dict(db.execute("SELECT key, value FROM meta"))
    if not isinstance(meta.get(Meta.EPOCH), str):
        raise DamagedStorage(
            "the table meta has no epoch: see 'recordd check' and 'recordd repair'"
        )
    return meta


def _read_names(db: apsw.Connection) -> tuple[list[tuple[int, str, int]], int | None]:
    """Return the records by number, each with its name and the newest rev that it lost.

    And the rev up to which rows of deleted records wait to be purged.
    """
    with naming(_RECORDS, db):
        query = "SELECT id, name, purged_rev FROM record WHERE name IS NOT NULL"
        named = cast("list[tuple[int, str, int]]", db.execute(query).fetchall())
        purge_rev = db.execute("SELECT max(deleted_at_rev) FROM record WHERE name IS NULL").get
    return sorted(named), purge_rev


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


def _find_latest(
    db: apsw.Connection, merged_rev: int, unmerged: list[tuple[int, int, int]]
) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
    """Return the latest (`ts`, `rev`) and the number of rows of each record that has any."""
    latest: dict[int, tuple[int, int]] = {}
    rows: dict[int, int] = {}
    with naming(_RECORDS, db):
        counts = db.execute("SELECT id, row_count FROM record WHERE name IS NOT NULL").fetchall()
    with naming(f"the start needs {INDEX}", db):
        for record, count in cast("list[tuple[int, int]]", counts):
            rows[record] = count
            entry = db.execute(_NEWEST, (record, merged_rev)).get
            if entry is not None:
                latest[record] = entry
    for record, ts, rev in unmerged:
        if record in rows:
            rows[record] += 1
            latest[record] = max(latest.get(record, (-1, -1)), (ts, rev))
    return latest, rows


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


def _load_record(
    db: apsw.Connection,
    numbered: tuple[int, str],
    entry: tuple[int, int],
    rows: int,
    purged_rev: int,
) -> LoadedRecord:
    record, name = numbered
    record_id = record - FIRST_RECORD
    try:
        return LoadedRecord(_read_row(db, name, entry), rows, record_id, purged_rev)
    except (apsw.Error, DamagedStorage) as error:
        damage = describe_damage(error, db)
        if damage is None or isinstance(damage, UnreadableStorage):
            raise  # another try may go better
        return LoadedRecord(Row(name, b"null", *entry), rows, record_id, purged_rev, damage)


def _read_row(db: apsw.Connection, name: str, entry: tuple[int, int]) -> Row:
    ts, rev = entry
    value = db.execute("SELECT value FROM log WHERE rev = ?", (rev,)).get
    if value is None:
        raise BackendError(f"record {name!r}: the log lacks rev {rev}: restore a backup")
    return Row(name, check_text(value, f"rev {rev}"), ts, rev)
