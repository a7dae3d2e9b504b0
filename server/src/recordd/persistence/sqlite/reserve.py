"""Room kept for a full disk: deleting takes room before it gives any back.

A row is deleted by writing pages to the WAL, and the WAL is folded into the file before
its room is free again. So a file of zeros beside the database holds two kinds of room:

- *To fold the WAL in*: what that would add to the database, never less. Nothing else may
  use it; it is asked for before each COMMIT, and grows beyond `reserve_bytes` where a large
  batch, or a reader that holds the WAL back, makes it necessary. So whatever fills the
  disk, the WAL can be folded in and gives its own room back.
- *To delete in*: the rest. When deleting, retention or merging meets a full disk it is
  released; ordinary writes are refused until it is back, so that they do not eat it.

It comes back as soon as the disk has room for most of it, or when the database has free
pages to write to; room for the WAL, half as much, stays free beside it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Iterator
from typing import Final

from recordd.extending.backend import BackendError, DiskFull, refusal_of
from recordd.system.passing import NO_ROOM

__all__ = ["Reserve", "plan_reserve"]

logger: Final = logging.getLogger(__name__)

_MAX_SHARE: Final = 4
"""At most this part of a small disk is set aside."""

_MIN_SHARE: Final = 8
"""A reserve below this part of what it should be is of no use."""


def plan_reserve(
    wanted_bytes: int, *, held_bytes: int, free_bytes: int, reusable_bytes: int | None
) -> int | None:
    """Return how large the reserve can be now; None for not yet.

    `held_bytes` is what it holds, `free_bytes` what the disk has beside. `reusable_bytes`
    are pages of the database that wait to be written to; None where that does not matter,
    at start.
    """
    # What is held for folding the WAL in may be more than what there can be of the rest.
    possible = max(held_bytes, min(wanted_bytes, held_bytes + free_bytes - wanted_bytes // 2))
    if possible < wanted_bytes // _MIN_SHARE:
        return None
    is_writable = reusable_bytes is None or reusable_bytes >= wanted_bytes // _MAX_SHARE
    # Less than most of it would be eaten up by half each time the disk is full.
    is_nearly_whole = possible >= wanted_bytes * 3 // 4
    return possible if is_nearly_whole or is_writable else None


class Reserve:
    """The file `<database>-reserve`. One thread at a time uses it."""

    def __init__(self, database: str, max_bytes: int) -> None:
        """Take over the one that is there; `take_back` makes one.

        Raises:
            BackendError: when something else has its name, or cannot be looked at.
        """
        self._path: Final = f"{database}-reserve"
        self._folder: Final = os.path.dirname(database) or "."
        self.size_bytes = 0
        self.is_out = False
        """Whether ordinary writes have to wait until it is back."""
        try:
            disk = os.statvfs(self._folder)
            self.wanted_bytes: Final = min(max_bytes, disk.f_blocks * disk.f_frsize // _MAX_SHARE)
            self._adopt()
        except OSError as error:
            raise refusal_of(self._path, error) from None

    @property
    def free_bytes(self) -> int:
        """Return what the disk has room for, beside the reserve."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    @property
    def deleting_bytes(self) -> int:
        """Return how much ordinary writes leave beside the room for folding, to delete in."""
        return self.wanted_bytes // _MAX_SHARE

    def hold(self, size: int) -> None:
        """Hold so much at least; does nothing where no reserve is wanted.

        Raises:
            DiskFull: there is no room for it; what was held is held still.
        """
        if size <= self.size_bytes or not self.wanted_bytes:
            return  # the way of nearly every commit
        # Some more beforehand, so that it is not a system call a commit; not out of the room
        # that is released.
        ahead_bytes = 0 if self.is_out else self.wanted_bytes // _MIN_SHARE
        if not self._allocate(size + ahead_bytes) and not self._allocate(size):
            raise DiskFull()

    @contextlib.contextmanager
    def lent(self, size: int) -> Iterator[None]:
        """Leave the disk so much room meanwhile; hold again behind it what is left of it."""
        held_bytes = self.size_bytes
        self._shrink(max(0, held_bytes - max(0, size - self.free_bytes)))
        try:
            yield
        finally:
            self._allocate(min(held_bytes, self.size_bytes + self.free_bytes))

    def release(self, kept_bytes: int) -> None:
        """Give the room away for what must go on, but for that which folding needs."""
        if self.size_bytes <= kept_bytes:
            return
        if not self.is_out:
            logger.error(
                "the disk is full: %d bytes of reserve are released for deleting; writes are"
                " refused until it is back",
                self.size_bytes - kept_bytes,
            )
        self._shrink(kept_bytes)
        self.is_out = True

    def take_back(self, reusable_bytes: int | None) -> bool:
        """Hold as much room as there is; return whether that is enough: see `plan_reserve`."""
        size = plan_reserve(
            self.wanted_bytes,
            held_bytes=self.size_bytes,
            free_bytes=self.free_bytes,
            reusable_bytes=reusable_bytes,
        )
        if size is None or not self._allocate(size):
            return False
        if self.is_out:
            self.is_out = False
            logger.warning("the reserve is back, %d bytes: writes go on", size)
        return True

    def trim(self, kept_bytes: int) -> None:
        """Give back what is held beyond the wish, but for that which folding needs."""
        self._shrink(max(kept_bytes, self.wanted_bytes))

    def start(self) -> None:
        """Make one at start; without room for it, writes are refused until there is.

        One that was released for the start stays so until the disk has room again.
        """
        if self.is_out or self.take_back(None):
            return
        self.is_out = True
        logger.error(
            "the disk is nearly full: no room for reserve_bytes; writes are refused until there is"
        )

    def stop(self) -> None:
        """Hold at the end what there is, so that the next start has room on a full disk."""
        self._allocate(min(self.wanted_bytes, self.size_bytes + self.free_bytes))

    def _adopt(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(self._path)
            if not stat.S_ISREG(status.st_mode):
                raise BackendError(f"{self._path}: no regular file")
            # What is not allocated is no room. What is beyond the wish may be needed to fold
            # in the WAL of a killed daemon: it is given back by `trim`.
            if status.st_blocks * 512 < status.st_size or not self.wanted_bytes:
                os.unlink(self._path)
                return
            self.size_bytes = status.st_size

    def _shrink(self, size: int) -> None:
        if size >= self.size_bytes:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:  # somebody took it for rubbish: it is no room, then
            self.size_bytes = 0
            return
        except OSError as error:
            raise refusal_of(self._path, error) from None
        try:
            os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)
        self.size_bytes = size

    def _allocate(self, size: int) -> bool:
        """Grow to `size`; return false, and stay, where there is no room."""
        if size <= self.size_bytes:
            return True
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            if error.errno in NO_ROOM:
                return False
            raise refusal_of(self._path, error) from None
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            os.ftruncate(descriptor, self.size_bytes)
            if error.errno in NO_ROOM:
                return False
            raise refusal_of(self._path, error) from None
        finally:
            os.close(descriptor)
        self.size_bytes = size
        return True
