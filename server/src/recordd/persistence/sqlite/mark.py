"""The mark beside the database: how far acknowledged commits went.

SQLite takes a `-wal` file with a flipped bit for one that ends there, and one that is gone
for an empty one: the commits behind are lost without a word. So each commit's rev is also
written to `<database>-mark`, after COMMIT and before the answer. A file that ends below its
mark lacks commits that were answered.

The mark is one small text line of fixed length, overwritten in place by one `pwrite`:
`kill -9` leaves the old line or the new one. It is never ahead of what COMMIT promised, and
at most a second behind on disk, so a power cut makes it late but never wrong. With
`synchronous = "normal"` COMMIT promises nothing about power cuts, which the mark says too.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import logging
import os
import stat
import time
import zlib
from pathlib import Path
from typing import Final

import msgspec

from recordd.extending.backend import BackendError, FatalBackendError, refusal_of
from recordd.system.passing import NO_ROOM

__all__ = [
    "Mark",
    "MarkFile",
    "Standing",
    "judge",
    "mark_path",
    "read_boot_id",
    "read_mark",
    "refuse_odd_mark",
    "remove_mark",
    "write_mark",
]

logger: Final = logging.getLogger(__name__)

_LINE_BYTES: Final = 384
"""Below a sector of 512 bytes, which disks write whole."""

_SYNC_EVERY_S: Final = 1.0
"""An fsync for each commit would double the cost of a commit."""


class Mark(msgspec.Struct, frozen=True):
    """The newest acknowledged commit of an epoch.

    `is_clean`: the daemon closed the database in order, and all of it is in one file.
    `is_durable`: commits up to here were promised to survive a power cut.
    `is_suspect`: damage was met since the start; the next one is to look at every page.
    `boot_id` tells whether the system was started anew since; empty where unknown.
    """

    epoch: str
    rev: int
    is_clean: bool
    is_durable: bool = True
    boot_id: str = ""
    is_suspect: bool = False


class _Line(msgspec.Struct, frozen=True):
    mark: msgspec.Raw
    crc32: int


class Standing(enum.Enum):
    """A mark's statements about the file beside it."""

    UNMARKED = enum.auto()
    """There has been no mark yet: the file is new, or of an older version."""
    WHOLE = enum.auto()
    """The file has every commit that the mark knows of."""
    UNMATCHED = enum.auto()
    """The mark is gone or another file's: this file was copied or put in place."""
    BEHIND = enum.auto()
    """Acknowledged commits are missing."""
    BEHIND_AS_PROMISED = enum.auto()
    """Commits are missing that a power cut may take with `synchronous = "normal"`."""


def judge(mark: Mark | None, *, epoch: str, rev: int, had_mark: bool, boot_id: str) -> Standing:
    """Compare a file, of `epoch` and ending at `rev`, with the mark found beside it.

    `had_mark` is what the file itself says. `boot_id` is that of now.
    """
    if mark is None:
        return Standing.UNMATCHED if had_mark else Standing.UNMARKED
    if mark.epoch != epoch:
        # A file without commits, just made in the place of one that had some.
        is_in_place = not had_mark and not rev and mark.rev > 0
        return Standing.BEHIND if is_in_place else Standing.UNMATCHED
    if rev >= mark.rev:
        return Standing.WHOLE
    is_same_boot = boot_id != "" and mark.boot_id == boot_id
    if mark.is_durable or mark.is_clean or is_same_boot:
        return Standing.BEHIND
    return Standing.BEHIND_AS_PROMISED


def mark_path(database: str) -> str:
    """Return the path of a database's mark."""
    return f"{database}-mark"


def read_mark(database: str) -> Mark | None:
    """Return a database's mark; None where there is none.

    One that cannot be read, or is torn, counts for none, with a warning in the log.
    """
    path = mark_path(database)
    try:
        content = _read_file(path)
        return _decode(content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s: taken for missing: %s", path, error)
        return None


def refuse_odd_mark(database: str) -> None:
    """Refuse where a mark cannot be: a folder, a link, a pipe has its name.

    One that is damaged counts for none and is written anew; this is not ours to remove.

    Raises:
        BackendError: there is something, and no regular file.
    """
    path = mark_path(database)
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise BackendError(f"{path}: no regular file: move it away")


def write_mark(database: str, mark: Mark) -> None:
    """Write a database's mark, durably, whether there was one or not.

    Raises:
        BackendError: when it cannot be written.
    """
    MarkFile(database, mark).release()


def remove_mark(database: str) -> None:
    """Remove a database's mark, if it has one.

    Raises:
        BackendError: when it cannot be removed.
    """
    path = mark_path(database)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        _sync_folder(path)
    except OSError as error:
        raise refusal_of(path, error) from None


def read_boot_id() -> str:
    """Return an id that changes with every start of the system; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class MarkFile:
    """The mark of an open database. One thread at a time uses it."""

    def __init__(self, database: str, mark: Mark) -> None:
        """Write `mark`, durably, and keep the file open.

        Raises:
            BackendError: when the file cannot be made or written, or is a link.
        """
        self.path: Final = mark_path(database)
        self.mark: Mark = mark
        self._is_synced = True
        self._synced_at_s = time.monotonic()
        self._lacks_room = False
        self._descriptor = -1
        try:
            self._descriptor = _open_to_write(self.path)
            self._write()
            os.fsync(self._descriptor)
            _sync_folder(self.path)
        except OSError as error:
            self.release()
            raise refusal_of(self.path, error) from None

    def note(self, rev: int) -> None:
        """Take note that COMMIT has made everything up to `rev` as durable as it promises.

        A full disk leaves the mark behind, which is true still; `sync` writes it later.

        Raises:
            FatalBackendError: when the disk fails.
        """
        self.mark = msgspec.structs.replace(self.mark, rev=max(rev, self.mark.rev))
        self._is_synced = False
        try:
            self._write_if_room()
        except OSError as error:
            raise self._fault(error) from None
        if time.monotonic() - self._synced_at_s >= _SYNC_EVERY_S:
            self.sync()

    def suspect(self) -> None:
        """Have the next start look at every page, however this run ends.

        Raises:
            FatalBackendError: when the disk fails.
        """
        self.mark = msgspec.structs.replace(self.mark, is_suspect=True)
        self.note(self.mark.rev)

    def sync(self) -> None:
        """Sync the notes to disk; costs nothing where they are there.

        Raises:
            FatalBackendError: when the disk fails.
        """
        if self._is_synced:
            return
        self._synced_at_s = time.monotonic()
        try:
            if self._lacks_room:
                self._write_if_room()
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._fault(error) from None
        self._is_synced = not self._lacks_room

    def close(self, *, is_clean: bool) -> None:
        """Write the last state of the mark and close the file; idempotent.

        With `is_clean` the database was closed before, all its commits in one file.

        Raises:
            FatalBackendError: when the disk fails.
        """
        if self._descriptor < 0:
            return
        try:
            if is_clean:
                self.mark = msgspec.structs.replace(self.mark, is_clean=True)
                self._write_if_room()
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._fault(error) from None
        finally:
            self.release()

    def release(self) -> None:
        """Close the file as it is; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write_if_room(self) -> None:
        try:
            self._write()
            self._lacks_room = False
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            if not self._lacks_room:
                logger.warning("%s: no room on the disk: it stays behind for now", self.path)
            self._lacks_room = True

    def _write(self) -> None:
        line = _encode(self.mark)
        written = os.pwrite(self._descriptor, line, 0)
        if written != len(line):
            raise OSError(errno.EIO, f"{written} of {len(line)} bytes written")

    def _fault(self, error: OSError) -> FatalBackendError:
        return FatalBackendError(f"{self.path}: {error.strerror}")


def _encode(mark: Mark) -> bytes:
    body = msgspec.json.encode(mark)
    line = msgspec.json.encode(_Line(msgspec.Raw(body), zlib.crc32(body)))
    if len(line) >= _LINE_BYTES:
        raise BackendError(f"a mark of {len(line)} bytes does not fit into {_LINE_BYTES}")
    return line.ljust(_LINE_BYTES - 1) + b"\n"


def _decode(content: bytes) -> Mark:
    """Return the mark of a line.

    Raises:
        ValueError: the line is torn, or no mark.
    """
    line = msgspec.json.decode(content, type=_Line)
    if zlib.crc32(line.mark) != line.crc32:
        raise ValueError("its checksum is wrong")
    return msgspec.json.decode(line.mark, type=Mark)


def _read_file(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, _LINE_BYTES, 0)
    finally:
        os.close(descriptor)


def _open_to_write(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file")
    return descriptor


def _sync_folder(path: str) -> None:
    """Make it durable that a file is there, or is not."""
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
