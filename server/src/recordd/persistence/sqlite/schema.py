"""The database file: its schema and its versions.

`log` is the truth, appended to in commit order. `history` is derived from it, an index
by record and time, merged from the log in sorted runs: `merged_rev` says how far. Rows
above that mark are indexed in memory and indexed again from the log after a restart.
"""

from __future__ import annotations

import os
import secrets
import struct
from typing import Final

import apsw

from recordd.extending.backend import BackendError, refusal_of
from recordd.persistence.sqlite.damage import naming
from recordd.persistence.sqlite.wal import ORPHANED, is_orphaned

__all__ = [
    "APPLICATION_ID",
    "BUSY_MS",
    "FIRST_RECORD",
    "READER_CACHE_BYTES",
    "SCHEMA_VERSION",
    "WRITER_CACHE_BYTES",
    "Meta",
    "create_private",
    "is_known_header",
    "keep",
    "prepare",
    "prepare_reader",
    "read_version",
    "refuse_newer",
]

APPLICATION_ID: Final = 0x52454344
"""`RECD`: the name that `file` and other programs see in the header."""

WRITER_CACHE_BYTES: Final = 64 << 20
"""Pages that the writing connection keeps: the default of 2 MB thrashes the index merge."""
READER_CACHE_BYTES: Final = 16 << 20
"""Pages that each reading connection keeps."""

_MIGRATIONS: Final = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    -- A deleted record keeps its row, without a name, until its rows are purged.
    CREATE TABLE record (
        id INTEGER PRIMARY KEY,
        name TEXT UNIQUE,
        row_count INTEGER NOT NULL DEFAULT 0,
        deleted_at_rev INTEGER
    ) STRICT;
    CREATE TABLE log (
        rev INTEGER PRIMARY KEY,
        record INTEGER NOT NULL,
        ts INTEGER NOT NULL,
        value TEXT NOT NULL
    ) STRICT;
    CREATE TABLE history (
        record INTEGER NOT NULL,
        ts INTEGER NOT NULL,
        rev INTEGER NOT NULL,
        PRIMARY KEY (record, ts, rev)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    -- What the commit was when it happened; nothing later could tell.
    ALTER TABLE log ADD COLUMN late INTEGER NOT NULL DEFAULT 0;
    -- The newest rev among the record's rows that retention has deleted.
    ALTER TABLE record ADD COLUMN purged_rev INTEGER NOT NULL DEFAULT 0;
    """,
    """
    -- Which records were deleted, and when last. What is not here, a file's older deletions
    -- too, is at or below `deleted_rev`.
    CREATE TABLE deletion (rev INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    """,
    """
    -- Wide queries read by time, not record by record. It keeps itself with `history`.
    CREATE INDEX timeline ON history (ts, rev);
    """,
)
"""Entry N takes a file from version N to N + 1. Entries that shipped are never edited."""

SCHEMA_VERSION: Final = len(_MIGRATIONS)

FIRST_RECORD: Final = 1
"""The number of the first record in the file, where ids begin with 0."""

BUSY_MS: Final = 5000
"""How long a connection waits for another program that holds the file."""

_CHECKSUM_BYTES: Final = 8
_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = struct.Struct(">60xI4xI")  # user_version at 60, application_id at 68


class Meta:
    """Keys of the `meta` table."""

    EPOCH: Final = "epoch"
    MERGED_REV: Final = "merged_rev"
    RETENTION_TIME: Final = "retention_time_ms"
    TICK: Final = "tick"
    """How often rows have gone: see `recordd.extending.moments`. None is as good as 0."""
    DELETED_REV: Final = "deleted_rev"
    """The newest deletion whose name is forgotten: before it any record may lack rows."""
    GIVEN_REV: Final = "given_rev"
    """The newest rev given to no row, by a deletion, or given at all when the epoch began."""
    POSITION: Final = "position"
    """Of the newest commit that was applied; none where it is the newest rev."""
    NEXT_RECORD_ID: Final = "next_record_id"
    """The next record's id is this at least: records with greater ids than there are now are gone,
    or were never stored."""
    MARKED: Final = "marked"
    """Whether there has been a mark beside the file; see `mark.py`."""
    BACKUP: Final = "backup"
    """In a backup: its epoch and rev. A daemon that opens it takes a new epoch."""


def refuse_newer(path: str) -> None:
    """Look at the file's header before SQLite touches the file.

    Where there is a WAL, its first page counts and not the file's, which may be torn:
    `read_version` looks then, as SQLite sees it, and leaves both as they are.

    Raises:
        BackendError: when it is no database of ours, or of a newer version.
    """
    if is_orphaned(path):
        raise BackendError(f"{path}: {ORPHANED}")
    if os.path.exists(path) and not os.path.isfile(path):  # to open a FIFO waits for ever
        raise BackendError(f"{path}: no regular file")
    try:
        if _has_wal(path):
            return
        with open(path, "rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise refusal_of(path, error) from None
    if not header:
        return  # created and not yet written: a new one
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise BackendError(f"{path}: not an SQLite database")
    version, application = _HEADER.unpack_from(header)
    _check_version(path, version, application)


def is_known_header(page: bytes) -> bool:
    """Tell whether a first page is that of a database which this version may change."""
    version, application = _HEADER.unpack_from(page)
    is_known = application == APPLICATION_ID and 0 < version <= SCHEMA_VERSION
    return page.startswith(_MAGIC) and is_known


def _has_wal(path: str) -> bool:
    try:
        return os.stat(f"{os.path.realpath(path)}-wal").st_size > 0
    except OSError:
        return False


def create_private(path: str) -> None:
    """Create the file for this user alone; SQLite gives its WAL the same mode.

    Raises:
        BackendError: when it cannot be created.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise refusal_of(path, error) from None


def read_version(db: apsw.Connection, path: str) -> int:
    """Return the file's schema version, 0 for a new one; until `keep` it stays as it is.

    Nothing is folded into the file at close, and no -wal removed, before all is found to
    be in order.

    Raises:
        BackendError: as `refuse_newer`, for what only SQLite could read.
    """
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    with naming("the start needs the list of tables", db):
        try:
            version = int(db.pragma("user_version"))
            application = int(db.pragma("application_id"))
            db.execute("SELECT count(*) FROM sqlite_schema").get  # noqa: B018 - reads
        except apsw.NotADBError:
            raise BackendError(f"{path}: not an SQLite database") from None
    _check_version(path, version, application)
    return version


def keep(db: apsw.Connection) -> None:
    """Let the file be changed as SQLite likes, from now on: it is the right one."""
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)


def prepare(db: apsw.Connection, path: str, synchronous: str) -> None:
    """Make a new file ours, or bring an older one up to date, and set the connection up.

    Raises:
        BackendError: as `refuse_newer`, for what only SQLite could read.
    """
    version = read_version(db, path)
    if version == 0:
        if db.execute("SELECT count(*) FROM sqlite_schema").get:
            raise BackendError(f"{path}: a database of another program")
        # Only a file without pages can make room for the checksums.
        db.reserve_bytes("main", _CHECKSUM_BYTES)
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", synchronous)
    db.pragma("cache_size", -WRITER_CACHE_BYTES // 1024)  # in KiB where it is negative
    db.pragma("temp_store", 2)  # memory: runs are sorted there for the index
    db.pragma("journal_size_limit", 64 << 20)  # give a grown WAL back
    db.set_busy_timeout(BUSY_MS)  # a backup program may hold the file for a moment
    for number in range(version, SCHEMA_VERSION):
        with db:
            db.execute(_MIGRATIONS[number])
            if number == 0:
                db.pragma("application_id", APPLICATION_ID)
                db.execute("INSERT INTO meta VALUES (?, ?)", (Meta.EPOCH, secrets.token_hex(8)))
            db.pragma("user_version", number + 1)
    if version == 0:
        # A -wal that is lost later must not take with it whose file this is.
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def prepare_reader(db: apsw.Connection) -> None:
    """Set a reading connection up."""
    db.pragma("query_only", True)
    # Else SQLite plans a statement anew for each value of its LIMIT: 10 to 15 µs.
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    db.pragma("cache_size", -READER_CACHE_BYTES // 1024)
    db.set_busy_timeout(BUSY_MS)


def _check_version(path: str, version: int, application: int) -> None:
    if application not in (0, APPLICATION_ID) or (version and not application):
        raise BackendError(f"{path}: a database of another program")
    if version > SCHEMA_VERSION:
        raise BackendError(
            f"{path}: made by a newer recordd (schema {version}, this one knows {SCHEMA_VERSION})"
        )
