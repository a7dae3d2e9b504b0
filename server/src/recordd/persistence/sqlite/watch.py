"""Whether the files that are open are still those that have their names.

A file that was removed or replaced goes on taking writes through its descriptors, and
all of them are gone with the process.
"""

from __future__ import annotations

import os
from typing import Final

from recordd.backend import FatalBackendError, refusal_of

__all__ = ["FileWatch"]


class FileWatch:
    """The database and its `-wal`, known by device and inode."""

    def __init__(self, database: str) -> None:
        """Take note of the files that have the names now.

        Raises:
            BackendError: when one is not there.
        """
        try:
            self._files: Final = {path: _identify(path) for path in (database, f"{database}-wal")}
        except OSError as error:
            raise refusal_of(error.filename, error) from None

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


def _identify(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
