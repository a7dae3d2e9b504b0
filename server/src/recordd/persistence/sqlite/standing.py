"""The verdict of the mark beside a file at start: go on, go on in a new epoch, or refuse.

A new epoch is written to the file first and to its mark second. Killed in between, the
daemon finds a mark of another epoch, which makes a new epoch once more: nobody has seen
the one before.
"""

from __future__ import annotations

import logging
import secrets
from typing import Final

import apsw
import msgspec

from recordd.extending.backend import BackendError, Loaded
from recordd.persistence.sqlite.database_lock import describe_other_names
from recordd.persistence.sqlite.mark import (
    Mark,
    MarkFile,
    Standing,
    judge,
    mark_path,
    read_boot_id,
    read_mark,
)
from recordd.persistence.sqlite.schema import Meta

__all__ = ["refuse_lost_file", "start_epoch", "take_up"]

logger: Final = logging.getLogger(__name__)

_SET_META: Final = (
    "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


def refuse_lost_file(path: str, *, accept_loss: bool) -> None:
    """Refuse to make a file anew where there was one with commits.

    Raises:
        BackendError: there is a mark beside the empty file, and `accept_loss` is not set.
    """
    mark = read_mark(path)
    if mark is not None and mark.rev and not accept_loss:
        raise BackendError(_describe_loss(path, 0, mark.rev))


def take_up(
    db: apsw.Connection, path: str, loaded: Loaded, *, accept_loss: bool, synchronous: str
) -> tuple[Loaded, MarkFile]:
    """Compare the file with its mark; return what holds from now on, and the mark to keep.

    Raises:
        BackendError: acknowledged commits are missing, and `accept_loss` is not set; or the
            file has other names, and was in use under one of them. The file and its mark are
            as they were.
    """
    mark = read_mark(path)
    had_mark = bool(db.execute("SELECT value FROM meta WHERE key = ?", (Meta.MARKED,)).get)
    standing = judge(
        mark, epoch=loaded.epoch, rev=loaded.rev, had_mark=had_mark, boot_id=read_boot_id()
    )
    is_backup = bool(db.execute("SELECT 1 FROM meta WHERE key = ?", (Meta.BACKUP,)).get)
    if is_backup and standing in (Standing.WHOLE, Standing.UNMARKED):
        standing = Standing.UNMATCHED
    if standing is Standing.BEHIND and not accept_loss:
        assert mark is not None, "nothing is behind no mark"
        raise BackendError(_describe_loss(path, loaded.rev, mark.rev))
    _look_for_other_names(path, standing)
    if standing not in (Standing.WHOLE, Standing.UNMARKED):
        _log_new_epoch(path, loaded, mark, standing, is_backup=is_backup)
        rev = max(loaded.rev, mark.rev if mark else 0)
        loaded = msgspec.structs.replace(loaded, rev=rev, epoch=start_epoch(db, rev))
    durable = synchronous == "full"
    current = Mark(loaded.epoch, loaded.rev, False, durable, read_boot_id())
    file = MarkFile(path, current)
    # The flag comes after the mark: a flag without a mark would tell of a copied file.
    if not had_mark:
        with db:
            db.execute(_SET_META, (Meta.MARKED, 1))
    return loaded, file


def _look_for_other_names(path: str, standing: Standing) -> None:
    """Tell of other names of the file; refuse where its -wal may stand beside one of them."""
    if (others := describe_other_names(path)) is None:
        return
    # That it had a mark may itself be in the -wal beside the other name.
    if standing in (Standing.UNMATCHED, Standing.UNMARKED):
        way = "it was not in use under this one: start it under its own, or remove that"
        raise BackendError(f"{others}; {way}")
    logger.warning("%s: use none but this one", others)


def start_epoch(db: apsw.Connection, rev: int) -> str:
    """Begin a new epoch, whose commits come after `rev`; return it."""
    epoch = secrets.token_hex(8)
    with db:
        db.execute(_SET_META, (Meta.EPOCH, epoch))
        db.execute(_SET_META, (Meta.GIVEN_REV, rev))
        db.execute(_SET_META, (Meta.MARKED, 1))
        db.execute("DELETE FROM meta WHERE key = ?", (Meta.BACKUP,))
    return epoch


def _describe_loss(path: str, found_rev: int, marked_rev: int) -> str:
    missing = marked_rev - found_rev
    return (
        f"{path}: {missing} acknowledged commits are missing, rev {found_rev + 1} to {marked_rev}"
        f" ({mark_path(path)} knows of them): its -wal file was damaged or removed, or an older"
        " copy was put in its place. Put the right files back, or restore a backup with"
        " 'recordd restore', or go on without them, in a new epoch, with"
        " 'recordd serve --accept-loss'"
    )


def _log_new_epoch(
    path: str, loaded: Loaded, mark: Mark | None, standing: Standing, *, is_backup: bool
) -> None:
    """Say why followers will start afresh."""
    if is_backup:
        logger.warning("%s is a backup that was opened as it is: a new epoch begins", path)
        return
    if standing is Standing.UNMATCHED:
        why = "has no valid mark beside it" if mark is None else "has the mark of another file"
        logger.warning("%s %s, so it was copied or put in place: a new epoch begins", path, why)
        return
    assert mark is not None, "nothing is behind no mark"
    cause = "accepted" if standing is Standing.BEHIND else 'synchronous = "normal", a power cut'
    logger.error(
        "%s: rev %d to %d are lost (%s): a new epoch begins",
        path,
        loaded.rev + 1,
        mark.rev,
        cause,
    )
