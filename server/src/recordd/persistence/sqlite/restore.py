"""`recordd restore`: a verified copy of another file takes the database's place.

The present database is set aside, never destroyed. The copy has a new epoch: a follower
that resumes learns that the past may be another one, and starts afresh.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import apsw
import msgspec

from recordd.extending.backend import BackendError
from recordd.persistence.sqlite import structure
from recordd.persistence.sqlite.check import require_sound
from recordd.persistence.sqlite.copying import Progress, copy_database
from recordd.persistence.sqlite.database_lock import (
    DatabaseInUse,
    DatabaseLock,
    describe_other_names,
)
from recordd.persistence.sqlite.files import (
    EX_REFUSED,
    EX_TRY_AGAIN,
    FileError,
    Partial,
    holding_signals,
    open_database,
    set_aside,
    telling,
)
from recordd.persistence.sqlite.mark import Mark, refuse_odd_mark, write_mark
from recordd.persistence.sqlite.standing import start_epoch
from recordd.system.passing import PassingError

__all__ = ["Restored", "locked", "put_in_place", "restore"]


class Restored(msgspec.Struct, frozen=True):
    """The restored database, and the place of the database from before, if there was one."""

    path: str
    rows: int
    rev: int
    epoch: str
    set_aside: str | None


def restore(database: str, source: str, progress: Progress) -> Restored:
    """Put a copy of `source` in the database's place.

    The source may have stale checksums, as plain SQLite leaves them; the copy has right
    ones. Ended early, by an error or an exception, it leaves the database as it was.

    Raises:
        FileError: a daemon runs, the source is not sound or is the database, the disk
            is full.
    """
    if not os.path.exists(source):
        raise FileError(f"{source}: no such file")
    if os.path.realpath(source) == os.path.realpath(database) or (
        os.path.exists(database) and os.path.samefile(source, database)
    ):
        raise FileError(f"{source}: is the database itself")
    with locked(database):
        found = require_sound(source, progress, may_be_stale=True)
        real = os.path.realpath(database)
        with Partial(real) as partial:
            with telling(source):
                _copy(source, partial.path, progress)
            with telling(partial.path):
                epoch = _begin_epoch(partial.path)
            copied = require_sound(partial.path, progress, may_be_stale=False)
            if copied.rows != found.rows:
                raise FileError(f"{source}: {found.rows} rows, but {copied.rows} in the copy")
            aside = put_in_place(partial, database, copied, why="before-restore")
    return Restored(database, copied.rows, copied.rev, epoch, aside)


@contextlib.contextmanager
def locked(database: str) -> Iterator[None]:
    """Keep others off the database, to change it or to put another file in its place.

    Raises:
        FileError: a daemon has it open, the file has other names, or no mark can be made.
    """
    try:
        lock = DatabaseLock(database)
    except BackendError as error:
        passes = isinstance(error, PassingError | DatabaseInUse)
        raise FileError(str(error), EX_TRY_AGAIN if passes else EX_REFUSED) from None
    try:
        _require_own(os.path.realpath(database))
        yield
    finally:
        lock.close()


def _require_own(database: str) -> None:
    """Refuse a file of which another name would keep the old content, or have its own -wal."""
    try:
        refuse_odd_mark(database)
    except BackendError as error:
        raise FileError(str(error)) from None
    with telling(database):
        others = describe_other_names(database) if os.path.exists(database) else None
    if others is not None:
        raise FileError(f"{others}: remove them first")


def put_in_place(
    partial: Partial, database: str, found: structure.Summary, *, why: str
) -> str | None:
    """Set the database aside, let the finished file take its name, and mark that.

    Returns:
        Where the old one is now, None where there was none.
    """
    aside = None
    with telling(partial.target), holding_signals(is_last=True):
        if os.path.exists(partial.target):
            aside = set_aside(partial.target, why)
        partial.take_name(replaces=True)
        write_mark(database, Mark(epoch=found.epoch, rev=found.rev, is_clean=True))
    return aside


def _copy(source: str, path: str, progress: Progress) -> None:
    db = open_database(source, is_verified=False)
    try:
        db.execute("BEGIN")
        copy_database(db, path, progress)
    finally:
        db.close()


def _begin_epoch(path: str) -> str:
    db: apsw.Connection = open_database(path, keeps_wal=False)
    try:
        return start_epoch(db, structure.summarize(db).rev)
    finally:
        db.close()
