"""Locks: of two processes that want the same thing, one is told.

A name is locked by a file beside it, which can be there before the thing is. But a file has
many names: hard links, mounts of it elsewhere. So a file that two must not change is locked
itself as well, and a process that comes by another name meets that lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import Final

__all__ = ["LockTaken", "is_file_locked", "take_file_lock", "take_lock"]

_LOCKED_BYTE: Final = 1 << 62
"""Behind the end of every database, and far from the bytes at 2**30 that SQLite locks."""

_RANGE: Final = struct.Struct("hhqqi0q")
"""`struct flock`: type, whence, start, length, pid."""

_OPEN: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class LockTaken(Exception):
    """Another process holds the lock."""


def take_lock(path: str) -> int:
    """Lock `path`.lock, creating it and its folder; return the descriptor, to be closed.

    The lock goes with the process, however that ends.

    Raises:
        LockTaken: another process holds it.
        OSError: the file cannot be made, or is a link: where that leads is not ours to open.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(f"{path}.lock", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LockTaken(path) from None
    return descriptor


def take_file_lock(path: str) -> int:
    """Lock the regular file at `path`, whatever names it has; return the descriptor.

    A lock of one byte that belongs to the open file (`F_OFD_SETLK`). Not `flock`, which on
    NFS is a lock of all bytes and would keep SQLite's own out; nor a plain POSIX lock,
    which is lost as soon as the process closes any descriptor of the file. SQLite's own locks
    are POSIX locks: close this descriptor after the last connection. A system without locks of
    open files (EINVAL: gVisor, WSL 1) has no NFS of its own either, and `flock` does.

    Raises:
        LockTaken: another process holds it, or has replaced the file just now.
        OSError: the file cannot be opened.
    """
    descriptor = _open_to_lock(path)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor  # its reader will refuse it
        _lock_file(descriptor)
        if not os.path.samestat(os.stat(path), os.fstat(descriptor)):
            raise BlockingIOError
    except BlockingIOError:
        os.close(descriptor)
        raise LockTaken(path) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_file_locked(path: str) -> bool:
    """Tell whether a process holds the lock of the file at `path`; takes none itself.

    Not for a process that has the file open by SQLite: its locks would go.
    """
    descriptor = os.open(path, os.O_RDONLY | _OPEN)
    try:
        asked = _RANGE.pack(fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_BYTE, 1, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False  # to ask would be to take it, for a moment
        raise
    finally:
        os.close(descriptor)
    kind: int = _RANGE.unpack(answer)[0]
    return kind != fcntl.F_UNLCK


def _open_to_lock(path: str) -> int:
    """Open a file to write, or to read where it is not ours to write."""
    try:
        return os.open(path, os.O_RDWR | _OPEN)
    except PermissionError:
        return os.open(path, os.O_RDONLY | _OPEN)


def _lock_file(descriptor: int) -> None:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _pack_range(descriptor))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _pack_range(descriptor: int) -> bytes:
    """Return the lock to ask for: processes that cannot write share it among themselves."""
    is_writable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    kind = fcntl.F_WRLCK if is_writable else fcntl.F_RDLCK
    return _RANGE.pack(kind, os.SEEK_SET, _LOCKED_BYTE, 1, 0)
