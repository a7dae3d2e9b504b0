"""`recordd backup`: a verified copy of the database, of a running daemon or a stopped one.

The copy is made beside its final name and gets it only when it is whole, verified and on
disk. A note in its `meta` says that it is a backup: a daemon that opens it directly takes
a new epoch, since later commits are not in it.
"""

from __future__ import annotations

import os

import msgspec

from recordd.persistence.sqlite import structure
from recordd.persistence.sqlite.check import describe_missing, require_sound
from recordd.persistence.sqlite.copying import Progress, copy_database
from recordd.persistence.sqlite.files import (
    SIDECARS,
    FileError,
    Partial,
    open_database,
    show_date,
    telling,
)
from recordd.persistence.sqlite.mark import read_mark
from recordd.persistence.sqlite.schema import Meta
from recordd.persistence.sqlite.structure import Summary
from recordd.system.clock import SYSTEM_CLOCK

__all__ = ["Backup", "BackupNote", "back_up"]


class BackupNote(msgspec.Struct, frozen=True):
    """The statements of the copy's `meta` about it."""

    epoch: str
    rev: int
    at_ms: int


class Backup(msgspec.Struct, frozen=True):
    """A finished backup; `missing`: which answered commits its database lacked, None for none."""

    path: str
    rows: int
    rev: int
    bytes: int
    missing: str | None = None


def back_up(database: str, destination: str, progress: Progress, *, replaces: bool) -> Backup:
    """Copy one moment of the database to a file, or under a dated name into a folder.

    Needs no lock, and leaves a daemon to its work; the WAL grows while the copy is made.
    A database that is behind its mark is copied all the same, and the result says so: the
    rest may be all that there is. Ended early, by an error or an exception, it leaves nothing.

    Raises:
        FileError: the database is damaged or none; the destination is there, is in no
            folder, or is the database; the disk is full.
    """
    target = _find_target(database, destination, replaces=replaces)
    with Partial(target) as partial:
        with telling(database):
            mark = read_mark(database)  # first: a daemon that runs goes on
            found = _copy(database, partial.path, progress)
        with telling(partial.path):
            _write_note(partial.path, found)
        copied = require_sound(partial.path, progress, may_be_stale=False)
        if copied != found:
            raise FileError(f"{partial.path}: {copied}, but the database has {found}")
        size = os.stat(partial.path).st_size
        partial.take_name(replaces=replaces)
    missing = None if mark is None else describe_missing(mark, found)
    return Backup(target, found.rows, found.rev, size, missing)


def _find_target(database: str, destination: str, *, replaces: bool) -> str:
    if os.path.isdir(destination) or destination.endswith("/"):
        destination = os.path.join(destination, f"recordd-{show_date()}.db")
    if not os.path.exists(database):
        raise FileError(f"{database}: no such file")
    own = {os.path.realpath(database + suffix) for suffix in ("", "-mark", ".lock", *SIDECARS)}
    if os.path.realpath(destination) in own or (
        os.path.exists(destination) and os.path.samefile(database, destination)
    ):
        raise FileError(f"{destination}: is the database itself")
    folder = os.path.dirname(destination) or "."
    if not os.path.isdir(folder):
        raise FileError(f"{folder}: no such folder")
    if os.path.lexists(destination) and not replaces:
        raise FileError(f"{destination}: is there already; --force replaces it")
    if os.path.exists(destination) and not os.path.isfile(destination):
        raise FileError(f"{destination}: no regular file")
    return destination


def _copy(database: str, path: str, progress: Progress) -> Summary:
    """Copy the view of one transaction; return a summary of the copy."""
    source = open_database(database)
    try:
        source.execute("BEGIN")
        if (refusal := structure.check_ours(source)) is not None:
            raise FileError(f"{database}: {refusal}")
        found = structure.summarize(source)
        copy_database(source, path, progress)
        return found
    finally:
        source.close()


def _write_note(path: str, found: Summary) -> None:
    note = BackupNote(found.epoch, found.rev, SYSTEM_CLOCK.wall_ms())
    db = open_database(path, keeps_wal=False)
    try:
        db.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)",
            (Meta.BACKUP, msgspec.json.encode(note).decode()),
        )
    finally:
        db.close()
