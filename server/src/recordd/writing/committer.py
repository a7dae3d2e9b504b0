"""The two steps of a commit: made durable, then applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recordd.extending.commit import Commit
from recordd.extending.journal import Journal
from recordd.hub.records import RecordState, Unborn
from recordd.writing.applier import Applier

__all__ = ["Committer"]


class Committer:
    """Appends to a journal and hands on to the applier; for the writer's task alone."""

    def __init__(self, journal: Journal, applier: Applier) -> None:
        self.applier: Final = applier
        self._journal: Final = journal

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
