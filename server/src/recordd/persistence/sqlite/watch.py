"""A watch on the open files: whether their names still mean them.

A file that was removed or replaced goes on taking writes through its descriptors, and
all of them are gone with the process.
"""

from __future__ import annotations

import math
import os
from typing import Final

import apsw

from recordd.extending.backend import FatalBackendError, refusal_of

__all__ = ["FileWatch"]


class FileWatch:
    """The database and its `-wal`, known by device and inode, and how long the first one is."""

    def __init__(self, database: str) -> None:
        """Take note of the files that have the names now.

        Raises:
            BackendError: when one is not there.
        """
        try:
            self._files: Final = {path: _identify(path) for path in (database, f"{database}-wal")}
        except OSError as error:
            raise refusal_of(error.filename, error) from None
        self._database: Final = database
        self._size_bytes = 0

    def check_size(self, db: apsw.Connection) -> None:
        """Refuse to go on with a file that was cut off: SQLite takes missing bytes for zeros.

        Pages that are in the `-wal` alone may be missing here, so a file is only too short if
        it was longer before.

        Raises:
            FatalBackendError: when it is.
        """
        self.check()
        size_bytes = os.stat(self._database).st_size
        if size_bytes < self._size_bytes and size_bytes < _count_bytes(db):
            raise FatalBackendError(f"{self._database}: cut off under the running daemon")
        self._size_bytes = size_bytes

    def check(self) -> None:
        """Refuse to go on with a file that has no name any more.

        Raises:
            FatalBackendError: when one is gone or replaced.
        """
        for path, identity in self._files.items():
            try:
                found = _identify(path)
            except FileNotFoundError:
                raise FatalBackendError(f"{path}: removed under the running daemon") from None
            except OSError as error:
                raise FatalBackendError(f"{path}: {error.strerror}") from None
            if found != identity:
                raise FatalBackendError(f"{path}: replaced by another file")


def _count_bytes(db: apsw.Connection) -> float:
    """Return how much all pages take."""
    try:
        return int(db.pragma("page_count")) * int(db.pragma("page_size"))
    except apsw.Error:  # SQLite itself finds the file too short
        return math.inf


def _identify(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
