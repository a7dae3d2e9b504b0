"""Standard streams that are closed, full, or read by somebody who has enough of them.

`recordd.system.standard_streams` is the same for the other distribution, since the package
that both share does no I/O; `tests/process/test_streams.py` fails when they drift.
"""

from __future__ import annotations

import os
import sys

__all__ = ["discard_output", "fill_standard_streams"]


def fill_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed.

    Else the next file or socket would take its number, and get the command's output. Standard
    output is open for reading only: a write to it fails, and is not lost in silence.
    """
    for stream, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free: this one
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def discard_output() -> None:
    """Keep the interpreter from flushing, and failing, again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
