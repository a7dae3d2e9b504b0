"""The journal: where a commit is made durable, before it is applied anywhere."""

from __future__ import annotations

from typing import Protocol

from recordd.extending.commit import Commit, newest_rev

__all__ = ["BackendJournal", "Journal"]


class Journal(Protocol):
    """Commits in their order, each at a position of its own."""

    async def append(self, commit: Commit) -> int:
        """Make a commit durable and return its position; called one at a time, never cancelled.

        Once it has returned, the commit happened: whoever applies commits comes to it, in
        this order.

        Raises:
            PersistenceError: the commit never happens.
        """


class BackendJournal:
    """The default: a backend's own transaction is the journal, and a rev the position."""

    async def append(self, commit: Commit) -> int:
        """Return the newest rev that the commit gives, 0 where it gives none."""
        return newest_rev(commit) or 0
