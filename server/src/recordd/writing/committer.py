"""The two steps of a commit: made durable, then applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recordd.extending.commit import Commit, NewRows
from recordd.extending.journal import BackendJournal, Journal, newest_rev
from recordd.hub.records import RecordState, Unborn
from recordd.writing.applier import Applier

__all__ = ["Committer"]


class Committer:
    """Appends to a journal and hands on to the applier; for the writer's task alone."""

    def __init__(self, journal: Journal, applier: Applier) -> None:
        self.applier: Final = applier
        self._journal: Final = journal
        self.can_at_once: Final = isinstance(journal, BackendJournal) and applier.can_at_once
        """Whether `commit_at_once` may ever do anything."""

    async def commit(
        self, commit: Commit, records: Sequence[RecordState | Unborn] | None = None
    ) -> None:
        """Make a commit durable and apply it; `records` as for `Applier.apply`.

        It was planned against the hub as it is: nothing else may be committed between.

        Raises:
            PersistenceError: nothing was committed.
        """
        position = await self._journal.append(commit)
        await self.applier.apply(commit, position, records)

    def commit_at_once(self, commit: NewRows, records: Sequence[RecordState | Unborn]) -> bool:
        """Do as `commit` without a wait; return False, nothing changed, where there would be one.

        A journal that is not the backend's own transaction is waited for.

        Raises:
            PersistenceError: nothing was committed; `commit` is to follow.
            FatalBackendError: the storage cannot be trusted any more.
        """
        position = newest_rev(commit) or 0
        return self.can_at_once and self.applier.apply_at_once(commit, position, records)
