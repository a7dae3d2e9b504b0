"""The lock of a database: one process may change it, by whatever name of the file it comes.

SQLite keeps the WAL beside the name by which a file was opened. Two processes that come by
two names would each have a WAL of its own, and write over each other's pages.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Final

from recordd.extending.backend import BackendError, refusal_of
from recordd.system.file_lock import LockTaken, take_file_lock, take_lock

__all__ = ["ASIDE", "DatabaseInUse", "DatabaseLock", "describe_other_names"]

ASIDE: Final = ("before-restore", "damaged")
"""Why a database is set aside; its new name says so."""


class DatabaseInUse(BackendError):
    """Another process has the database open."""


class DatabaseLock:
    """The lock of a database's name, and of the file, once there is one."""

    def __init__(self, database: str) -> None:
        """Take it; `hold_file` has to be called again when the file is made.

        Raises:
            DatabaseInUse: another process holds it.
            BackendError: its folder or the file cannot be opened.
        """
        self._path: Final = os.path.realpath(database)  # a link is not another database
        self._name = self._file = -1
        try:
            self._name = take_lock(self._path)
        except LockTaken:
            raise self._refusal() from None
        except OSError as error:
            raise refusal_of(f"{self._path}.lock", error) from None
        try:
            self.hold_file()
        except BaseException:
            self.close()
            raise

    def hold_file(self) -> None:
        """Lock the file itself, if it is there and not locked yet.

        Raises:
            DatabaseInUse: a process has it open by another name.
            BackendError: it cannot be opened.
        """
        if self._file >= 0 or not os.path.isfile(self._path):
            return
        try:
            self._file = take_file_lock(self._path)
        except LockTaken:
            raise self._refusal(" under another name") from None
        except OSError as error:
            raise refusal_of(self._path, error) from None

    def close(self) -> None:
        """Give it up, behind the last connection; idempotent."""
        for descriptor in (self._file, self._name):
            if descriptor >= 0:
                os.close(descriptor)
        self._name = self._file = -1

    def _refusal(self, how: str = "") -> DatabaseInUse:
        return DatabaseInUse(f"{self._path}: another process has this database open{how}")


def describe_other_names(database: str) -> str | None:
    """Return that a file has other names, where it has; one that was set aside is not meant.

    A kill between setting a file aside and replacing it leaves it with both names.
    """
    status = os.stat(database)
    others = status.st_nlink - 1 if stat.S_ISREG(status.st_mode) else 0
    if others > 0:
        folder, name = os.path.split(database)
        aside = re.compile(rf"{re.escape(name)}\.({'|'.join(ASIDE)})-.*")
        with os.scandir(folder or ".") as entries:
            ours = [entry for entry in entries if aside.fullmatch(entry.name)]
            others -= sum(entry.inode() == status.st_ino for entry in ours)
    if others <= 0:
        return None
    names = "another name" if others == 1 else f"{others} other names"
    return (
        f"{database}: the file has {names} (hard links), and a -wal may stand beside each;"
        f" 'find / -xdev -samefile {database}' lists them"
    )
