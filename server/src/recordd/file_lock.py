"""Lock files: of two daemons that want the same thing, one is told."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["LockTaken", "take_lock"]


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
