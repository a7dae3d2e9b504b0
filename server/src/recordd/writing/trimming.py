"""Rows taken off the near end of a record: those ahead of a time, which a wrong clock gave.

The record's latest row goes with them, so the newest one that is left is committed again,
in the same transaction, at its own time with a commit number of its own: followers are told
of it as of any commit, and who was away finds it in the log. Oldest rows go first, a slice a
request, as under retention: until that commit the latest row stays, and each slice is a whole.
"""

from __future__ import annotations

from typing import Final

from recordd.extending.backend import PersistenceBackend, QueryParams
from recordd.extending.commit import Commit, Deletion, Deletions, Renewal
from recordd.extending.paging import PageLimits
from recordd.hub.hub import Hub
from recordd.hub.records import RecordState
from recordd.writing.committer import Committer
from recordd.writing.purging import purge_newer
from recordd_protocol.methods import Trimmed
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import Row

__all__ = ["Trimmer"]

_ONE_ROW: Final = PageLimits(1, 1)


class Trimmer:
    """Trims the stored rows of records; by the writer alone."""

    def __init__(self, hub: Hub, backend: PersistenceBackend, committer: Committer) -> None:
        self._hub: Final = hub
        self._backend: Final = backend
        self._committer: Final = committer

    async def trim(self, name: str, newer_than_ms: int, *, now_ms: int) -> Trimmed:
        """Delete a slice of a record's stored rows newer than a time.

        A record that has no others is deleted with the last one. Of one whose rule no longer
        persists it, none is the latest, so none is made that again.

        Raises:
            PersistenceError: the storage refuses, or cannot clean up; the latest row is as
                it was.
        """
        if name in self._hub.archive:
            return await self._trim_archived(name, newer_than_ms, now_ms)
        state = self._hub.catalogue.get(name)
        left = await self._find_newest(name, newer_than_ms)
        purged, is_done = await purge_newer(
            self._hub, self._backend, name, newer_than_ms, keep_latest=True
        )
        if not is_done or state.ts <= newer_than_ms:
            return Trimmed(deleted=purged.rows, more=not is_done)
        await self._committer.commit(self._plan_end(state, newer_than_ms, left, now_ms))
        return Trimmed(deleted=purged.rows + 1, more=False)

    async def _trim_archived(self, name: str, newer_than_ms: int, now_ms: int) -> Trimmed:
        purged, is_done = await purge_newer(
            self._hub, self._backend, name, newer_than_ms, keep_latest=False
        )
        if not purged.is_spent:
            return Trimmed(deleted=purged.rows, more=not is_done)
        record_id = self._hub.archive.id_of(name)
        deletion = Deletion(name, record_id, now_ms, self._hub.rev + 1, is_of_history=True)
        await self._committer.commit(Deletions([deletion]))
        return Trimmed(deleted=purged.rows + 1, more=False)

    def _plan_end(
        self, state: RecordState, newer_than_ms: int, left: Row | None, now_ms: int
    ) -> Commit:
        """Return the commit by which the latest row goes, the last one that is newer."""
        rev = self._hub.rev + 1
        if left is None:
            return Deletions([Deletion(state.name, state.record_id, now_ms, rev)])
        assert state.rev is not None, "what is stored has a rev"
        return Renewal(
            state.record_id,
            newer_than_ms,
            state.ts,
            state.rev,
            Row(state.name, left.value, left.ts, rev),
        )

    async def _find_newest(self, name: str, newer_than_ms: int) -> Row | None:
        """Return the newest row that is not newer than a time."""
        params = QueryParams(
            moment=self._backend.take_moment(self._hub.rev),
            limit_per_record=1,
            end_ms=newer_than_ms,
            page=_ONE_ROW,
        )
        page = await self._backend.query(compile_patterns(name), params)
        return page.rows[0] if page.rows else None
