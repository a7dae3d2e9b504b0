"""How large the files of a database are."""

from __future__ import annotations

import os

__all__ = ["size_of"]


def size_of(path: str) -> int:
    """Return a file's bytes; 0 where there is none, or none that can be looked at."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
