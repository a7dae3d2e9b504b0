"""When the WAL is to be copied into the file: a checkpoint, in SQLite's words.

SQLite would do it inside a COMMIT, which the event loop may wait for. So the writing side does
it between two commits, on a thread.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Checkpoints"]

_RETRY_SHARE: Final = 4
"""A reader can keep the WAL from beginning anew. A try costs two syncs: not at each commit."""


class Checkpoints:
    """How long the WAL is, and at which length the next checkpoint is due, in pages."""

    def __init__(self, every_pages: int, overdue_pages: int) -> None:
        """Have one be due at `every_pages`, and overdue at `overdue_pages`."""
        self._every_pages: Final = every_pages
        self._grace_pages: Final = overdue_pages - every_pages
        self._pages = 0
        self._due_at_pages = every_pages

    @property
    def is_due(self) -> bool:
        """Whether the WAL is as long as it should become."""
        return self._pages >= self._due_at_pages

    @property
    def is_overdue(self) -> bool:
        """Whether it is so much longer that nothing more is to be written before."""
        return self._pages >= self._due_at_pages + self._grace_pages

    def note_length(self, pages: int) -> None:
        """Note how long the WAL is after a commit."""
        if pages < self._pages:  # it has begun anew
            self._due_at_pages = self._every_pages
        self._pages = pages

    def note_done(self) -> None:
        """Note a checkpoint, whole or as far as readers let it: the WAL is as long as before."""
        self._due_at_pages = self._pages + max(1, self._every_pages // _RETRY_SHARE)
