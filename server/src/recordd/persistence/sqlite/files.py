"""Files around a database: their names, their errors, and how one takes another's place.

The commands over a database file (`recordd backup` and its kind) share these. They are
synchronous, on plain connections through the checksum VFS.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import apsw

from recordd.persistence.sqlite.sizes import size_of
from recordd.persistence.sqlite.wal import ORPHANED, is_orphaned
from recordd.persistence.sqlite.worker import VFS, open_vfs
from recordd.system.passing import is_passing
from recordd_protocol.errors import RecorddError

__all__ = [
    "EX_REFUSED",
    "EX_TRY_AGAIN",
    "SIDECARS",
    "FileError",
    "Partial",
    "holding_signals",
    "open_database",
    "raise_passing",
    "set_aside",
    "show_date",
    "sync_folder",
    "telling",
]

EX_REFUSED: Final = 78
"""EX_CONFIG of sysexits.h: another try ends the same."""

EX_TRY_AGAIN: Final = 75
"""EX_TEMPFAIL of sysexits.h: a full disk, a failing one, a lock: it may pass."""

SIDECARS: Final = ("-wal", "-shm", "-journal")
"""Files of SQLite beside a database that belong to it."""


_PASSING: Final = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.FullError,
    apsw.IOError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.ProtocolError,
)
_DAMAGE: Final = (apsw.SQLITE_IOERR_DATA, apsw.SQLITE_IOERR_SHORT_READ)


class FileError(RecorddError):
    """A command over a file ends without its effect; `exit_code` tells whether to try again."""

    def __init__(self, message: str, exit_code: int = EX_REFUSED) -> None:
        super().__init__(message)
        self.exit_code: Final = exit_code


@contextlib.contextmanager
def telling(path: str) -> Iterator[None]:
    """Turn an error of the system or of SQLite inside into one line about `path`.

    Raises:
        FileError: instead of `OSError` and `apsw.Error`.
    """
    try:
        yield
    except OSError as error:
        code = EX_TRY_AGAIN if is_passing(error) else EX_REFUSED
        raise FileError(f"{error.filename or path}: {error.strerror}", code) from error
    except apsw.Error as error:
        raise _translate(path, error) from error


_LASTING: Final = (apsw.ConstraintError, apsw.MismatchError, apsw.SQLError)
"""The file's contents contradict each other: the next try finds the same."""


def _translate(path: str, error: apsw.Error) -> FileError:
    if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA:
        return FileError(f"{path}: a page fails its checksum: see recordd check")
    is_refusal = isinstance(error, apsw.IOError | apsw.CantOpenError)
    if isinstance(error, apsw.FullError) or (is_refusal and _is_disk_full(path)):
        return FileError(f"{path}: the disk is full", EX_TRY_AGAIN)
    if isinstance(error, apsw.NotADBError):
        return FileError(f"{path}: not an SQLite database")
    if isinstance(error, apsw.CorruptError):
        return FileError(f"{path}: damaged: {error}: see recordd check")
    if isinstance(error, apsw.CantOpenError):
        return FileError(f"{path}: {error}")
    code = EX_REFUSED if isinstance(error, _LASTING) else EX_TRY_AGAIN
    return FileError(f"{path}: {type(error).__name__}: {error}", code)


def _is_disk_full(path: str) -> bool:
    """Tell whether there is no room where SQLite could not make a file of its own."""
    try:
        return os.statvfs(os.path.dirname(path) or ".").f_bavail == 0
    except OSError:
        return False


def raise_passing(error: Exception) -> None:
    """Raise an error that says nothing of the file: no room for SQLite's own, no answer."""
    is_damage = getattr(error, "extendedresult", 0) in _DAMAGE
    if isinstance(error, _PASSING) and not is_damage:
        raise error


def open_database(
    path: str, *, is_verified: bool = True, keeps_wal: bool = True
) -> apsw.Connection:
    """Open an existing database through the checksum VFS.

    The WAL of a killed daemon is read, and with `keeps_wal` left as it is; an empty one is
    taken away again by the close. `is_verified` false serves pages whatever their checksums.
    """
    open_vfs()
    path = os.path.realpath(path)  # SQLite keeps the WAL beside the file, not beside a link
    if is_orphaned(path):
        raise FileError(f"{path}: {ORPHANED}")
    has_wal = size_of(f"{path}-wal") > 0
    is_ours = os.access(path, os.W_OK) and os.access(os.path.dirname(path) or ".", os.W_OK)
    mode = apsw.SQLITE_OPEN_READWRITE if is_ours else apsw.SQLITE_OPEN_READONLY
    db = apsw.Connection(path, flags=mode, vfs=VFS)
    db.set_busy_timeout(5000)
    if has_wal and keeps_wal:
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    if not is_verified:
        db.pragma("checksum_verification", "off")
    return db


def show_date() -> str:
    """Return now as names of files hold it, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")


def sync_folder(path: str) -> None:
    """Make it durable under which names the files beside `path` are."""
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Partial:
    """A file that is being made beside `target`, and takes its name when it is whole.

    One process at a time makes it; the rest of a killed one is taken over. Leaving the
    context without `take_name` removes it.
    """

    def __init__(self, target: str) -> None:
        self.target: Final = target
        self.path: Final = f"{target}.partial"
        self._descriptor = -1

    def __enter__(self) -> Partial:
        try:
            with telling(self.path), holding_signals():
                self._descriptor = self._create()
            for suffix in SIDECARS:
                _remove(self.path + suffix)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            for suffix in ("", *SIDECARS):
                _remove(self.path + suffix)
            os.close(self._descriptor)

    def take_name(self, *, replaces: bool) -> None:
        """Rename the file to its target, durably. Its connections are closed by now.

        Raises:
            FileError: the target is there, and not to be replaced.
        """
        with telling(self.target):
            os.fsync(self._descriptor)
        with telling(self.target), holding_signals(is_last=True):
            if replaces:
                os.replace(self.path, self.target)
            else:
                _rename_to_new(self.path, self.target)
            os.close(self._descriptor)
            self._descriptor = -1
            sync_folder(self.target)

    def _create(self) -> int:
        """Create the file, or take over one that no process has, empty."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(self.path).st_ino != os.fstat(descriptor).st_ino:
                raise BlockingIOError
            os.fchmod(descriptor, 0o600)
            os.ftruncate(descriptor, 0)
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            text = f"{self.path}: another process is making this file"
            raise FileError(text, EX_TRY_AGAIN) from None
        return descriptor


@contextlib.contextmanager
def holding_signals(*, is_last: bool = False) -> Iterator[None]:
    """Have a signal wait that would end the command between an effect and the note of it.

    After the last step of a command it came too late: nothing is given up any more.
    """
    ending = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        yield
        if is_last:
            for number in signal.sigpending() & ending:
                signal.sigwait({number})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _rename_to_new(path: str, target: str) -> None:
    """Rename, but over nothing: a link refuses a taken name, which a rename would replace."""
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        raise FileError(f"{target}: is there already; --force replaces it") from None
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise FileError(f"{target}: is there already; --force replaces it") from None
        os.rename(path, target)
    else:
        os.unlink(path)


def set_aside(path: str, why: str) -> str:
    """Give a database, its WAL and its mark a dated name; return the database's.

    The file itself keeps its first name as well, until another takes it: there is no
    moment without one. Until then it lacks its WAL, which its mark, copied, makes known.
    """
    aside = f"{path}.{why}-{show_date()}"
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = f"{path}.{why}-{show_date()}-{number}"
    try:
        os.link(path, aside)
    except OSError:  # a file system without links
        os.rename(path, aside)
    if os.path.exists(f"{path}-mark"):
        _copy_small(f"{path}-mark", f"{aside}-mark")
    for suffix in ("-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, aside + suffix)
    _remove(f"{path}-shm")
    sync_folder(path)
    return aside


def _copy_small(source: str, target: str) -> None:
    with open(source, "rb") as file:
        content = file.read(1 << 16)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as copy:
        copy.write(content)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
