"""`recordd repair` and `recordd compact`.

Three degrees. A flipped bit that is known is put right. Stale checksums are made anew where
all that the file holds fits together. What is left is damage: what can be read goes into a
new file, with a new epoch, and the old one is set aside.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Final

import msgspec

from recordd.persistence.sqlite import structure
from recordd.persistence.sqlite.check import require_sound
from recordd.persistence.sqlite.copying import Progress, watch_progress
from recordd.persistence.sqlite.diagnosis import Diagnosis, diagnose_pages
from recordd.persistence.sqlite.files import (
    EX_TRY_AGAIN,
    FileError,
    Partial,
    open_database,
    telling,
)
from recordd.persistence.sqlite.mark import Mark, read_mark, write_mark
from recordd.persistence.sqlite.mending import find_missing, look_inside, put_right, restamp
from recordd.persistence.sqlite.pages import PageFile
from recordd.persistence.sqlite.restore import locked, put_in_place
from recordd.persistence.sqlite.salvage import salvage
from recordd.persistence.sqlite.standing import start_epoch
from recordd.persistence.sqlite.structure import Summary

__all__ = ["Repair", "compact", "repair"]

_PAGE_COUNT: Final = slice(28, 32)
"""Of the database in pages, in its header."""


class Repair(msgspec.Struct, frozen=True):
    """The outcome of a repair, with a line for each loss; `set_aside`: the old file."""

    done: list[str]
    losses: list[str]
    set_aside: str | None = None


def repair(database: str, progress: Progress, *, is_dry_run: bool) -> Repair:
    """Mend the file of a stopped daemon.

    Where nothing is lost the epoch stays. A dry run does it all to a copy, in the folder of
    temporary files, and leaves the database as it was.

    Raises:
        FileError: a daemon runs, there is nothing of ours to mend, the disk is full.
    """
    if not os.path.exists(database):
        raise FileError(f"{database}: no such file")
    with locked(database), telling(database):
        if not is_dry_run:
            return _repair(database, progress)
        return _rehearse(database, progress)


def _rehearse(database: str, progress: Progress) -> Repair:
    """Repair a copy, in the folder of temporary files, and throw it away."""
    with tempfile.TemporaryDirectory(prefix="recordd-repair-") as folder:
        copy = os.path.join(folder, os.path.basename(database))
        try:
            with telling(copy):
                for suffix in ("", "-wal", "-mark"):
                    if os.path.exists(database + suffix):
                        shutil.copyfile(database + suffix, copy + suffix)
                found = _repair(copy, progress)
        except FileError as error:
            # Where another try may do, the trouble is the copy's: a disk without room.
            where = f" (of its copy in {folder})" if error.exit_code == EX_TRY_AGAIN else ""
            text = str(error).replace(copy, database) + where
            raise FileError(text, error.exit_code) from error
    return msgspec.structs.replace(found, set_aside=None)


def compact(database: str, progress: Progress) -> tuple[int, int]:
    """Rewrite the file of a stopped daemon without its free pages; return both its sizes.

    One transaction of SQLite's: ended early, it has changed nothing.

    Raises:
        FileError: a daemon runs, the file is not sound, the disk is full (there must be
            room for two more of it).
    """
    if not os.path.exists(database):
        raise FileError(f"{database}: no such file")
    with locked(database), telling(database):
        require_sound(database, progress, may_be_stale=False)
        before = os.stat(database).st_size
        db = open_database(database, keeps_wal=False)
        try:
            watch_progress(db, progress, "seconds of compacting")
            db.execute("VACUUM")
        finally:
            db.close()
        _note_whole(database, require_sound(database, progress, may_be_stale=False))
        return before, os.stat(database).st_size


def _repair(database: str, progress: Progress) -> Repair:
    cut_off = _fill_up(database)
    diagnosis = diagnose_pages(database, progress)
    _require_ours(database, diagnosis)
    done = [*cut_off, *put_right(database, diagnosis.flipped)]
    found, contradictions = look_inside(database, progress)
    if found is None or contradictions or diagnosis.uncertain or not diagnosis.has_checksums:
        return _salvage(database, done, progress)
    done += restamp(database, diagnosis.stale)
    losses = []
    if (missing := find_missing(database, found)) is not None:
        losses.append(f"the commits {found.rev + 1} to {missing}, which were answered")
        done.append(f"a new epoch: {_take_epoch(database, missing)}")
    else:
        _note_whole(database, found)
    return Repair(done, losses)


def _note_whole(database: str, found: Summary) -> None:
    """Say in the mark that all is in one file, with checksums that are right.

    Else the start would take a page that is changed later for one that another SQLite wrote.
    """
    mark = read_mark(database)
    if mark is None or mark.epoch != found.epoch or mark.rev > found.rev:
        return
    if not os.path.exists(f"{database}-wal"):
        write_mark(database, msgspec.structs.replace(mark, is_clean=True, is_suspect=False))


def _fill_up(database: str) -> list[str]:
    """Give a file that was cut off its length again: SQLite reads nothing of a shorter one.

    The pages at its end are empty then, and fail their checksums.
    """
    with PageFile(database) as file:
        if not file.page_count or not file.is_good(1):
            return []  # nobody knows how long it was
        pages = int.from_bytes(file.read(1)[_PAGE_COUNT], "big")
        missing = pages - file.page_count
        page_bytes = file.page_bytes
    if missing <= 0:
        return []
    os.truncate(database, pages * page_bytes)
    return [f"{missing} pages are cut off at the end"]


def _require_ours(database: str, diagnosis: Diagnosis) -> None:
    """Refuse a sound file of another program, or of a newer version."""
    if diagnosis.faults and diagnosis.has_checksums:
        return
    db = open_database(database, is_verified=False)
    try:
        refusal = structure.check_ours(db)
    finally:
        db.close()
    if refusal is not None:
        raise FileError(f"{database}: {refusal}")


def _take_epoch(database: str, rev: int) -> str:
    """Begin a new epoch, whose commits come after `rev`."""
    db = open_database(database, keeps_wal=False)
    try:
        epoch = start_epoch(db, rev)
    finally:
        db.close()
    write_mark(database, Mark(epoch=epoch, rev=rev, is_clean=True))
    return epoch


def _salvage(database: str, done: list[str], progress: Progress) -> Repair:
    with Partial(os.path.realpath(database)) as partial:
        saved = salvage(database, partial.path, progress)
        found = require_sound(partial.path, progress, may_be_stale=False)
        losses = list(saved.losses)
        if (mark := read_mark(database)) is not None and mark.rev > found.rev:
            losses.append(f"the commits {found.rev + 1} to {mark.rev}, which were answered")
        aside = put_in_place(partial, database, found, why="damaged")
    done = [*done, f"{saved.rows} rows saved into a new file", f"a new epoch: {found.epoch}"]
    return Repair(done, losses, aside)
