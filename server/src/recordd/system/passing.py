"""Errors that may pass by themselves: another start, or another try, can succeed.

A full disk is emptied, other programs close their files, a disk that does not answer comes
back. The service manager is told to try again (exit code 75, EX_TEMPFAIL of sysexits.h). An error
that stays whatever is tried is 78 (EX_CONFIG).
"""

from __future__ import annotations

import errno
from typing import Final

from recordd_protocol.errors import RecorddError

__all__ = ["NO_ROOM", "PassingError", "is_passing"]

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The system's errors of a full disk."""

_ERRNOS: Final = NO_ROOM | frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)


class PassingError(RecorddError):
    """The system refuses for a cause that may pass by itself."""


def is_passing(error: OSError) -> bool:
    """Tell whether the system may grant later the request that it refuses now."""
    return error.errno in _ERRNOS
