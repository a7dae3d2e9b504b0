"""The journal: where a commit is made durable, before it is applied anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from recordd.extending.columns import RowColumns
from recordd.extending.commit import Commit, NewRows, Renewal

__all__ = ["BackendJournal", "Journal", "newest_rev"]


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


def newest_rev(commit: Commit) -> int | None:
    """Return the newest rev that a commit gives; None where it gives none."""
    if isinstance(commit, Renewal):
        return commit.row.rev
    if isinstance(commit, NewRows):
        return _last(RowColumns.of(commit.rows).revs)
    return _last([deletion.rev for deletion in commit.deletions])


def _last(revs: Sequence[int | None]) -> int | None:
    return next((rev for rev in reversed(revs) if rev is not None), None)
