"""The applier: commits, one after the other, into storage and then into the hub.

It alone publishes. What is in a commit it takes as it is: it gives no time, no rev and no id.
So a machine that applies another's commits comes to the same records; it has nothing that was
made ready for them, and looks that up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recordd.extending.backend import (
    CommitsAtOnce,
    Loaded,
    PersistenceBackend,
    Purged,
    find_capability,
)
from recordd.extending.commit import Commit, Deletions, NewRows, Renewal
from recordd.hub.hub import Hub
from recordd.hub.records import RecordState, Unborn
from recordd.hub.topic_index import Delivery
from recordd.system.turns import Turns, Work
from recordd.writing.purging import purge_newer

__all__ = ["Applier"]


class Applier:
    """Applies to a backend, where there is one, and to a hub; for one task."""

    def __init__(self, hub: Hub, backend: PersistenceBackend | None, turns: Turns) -> None:
        self.position = 0
        """Of the newest commit that was applied."""
        self._hub: Final = hub
        self._backend: Final = backend
        self._turns: Final = turns
        self._at_once: Final = find_capability(backend, CommitsAtOnce)
        self.can_at_once: Final = self._at_once is not None or backend is None
        """Whether `apply_at_once` may ever do anything."""

    def restore(self, loaded: Loaded) -> None:
        """Take over what storage has at start."""
        self._hub.restore(loaded)
        self.position = loaded.position

    async def apply(
        self,
        commit: Commit,
        position: int,
        records: Sequence[RecordState | Unborn] | None = None,
    ) -> None:
        """Apply a commit, whole or not at all; never cancelled.

        `records` has the record of each of its rows, where they were found before.

        Raises:
            PersistenceError: the storage refuses, and nobody was told of anything.
        """
        if isinstance(commit, NewRows):
            if records is None:
                records = self._hub.catalogue.find_records(commit)
            await self._apply_rows(commit, position, records)
        elif isinstance(commit, Renewal):
            await self._apply_renewal(commit, position)
        else:
            await self._apply_deletions(commit, position)
        self.position = max(self.position, position)

    def apply_at_once(
        self, commit: NewRows, position: int, records: Sequence[RecordState | Unborn]
    ) -> bool:
        """Do as `apply` without a wait; return False, nothing changed, where there would be one.

        Raises:
            PersistenceError: the storage refuses, and nobody was told of anything.
        """
        if not self.can_at_once:
            return False
        hub, delivery = self._hub, None
        if hub.topics:
            delivery = Delivery(hub.topics, commit.rows, records)
            if not Work(delivery.sort()).begin():
                return False
        if self._at_once is not None and not self._at_once.apply_at_once(commit, position):
            return False
        hub.publish(commit.rows, records, delivery)
        self.position = max(self.position, position)
        return True

    async def _apply_rows(
        self, commit: NewRows, position: int, records: Sequence[RecordState | Unborn]
    ) -> None:
        hub, delivery = self._hub, None
        if hub.topics:
            delivery = await self._sort(Delivery(hub.topics, commit.rows, records))
        await self._store(commit, position)
        if delivery is not None:  # only what came to be followed meanwhile
            await self._sort(delivery)
        hub.publish(commit.rows, records, delivery)

    async def _sort(self, delivery: Delivery) -> Delivery:
        """Find out who is to be told, in turns: publishing, which lets nobody run, is quick."""
        await self._turns.run(delivery.sort())
        return delivery

    async def _apply_deletions(self, commit: Deletions, position: int) -> None:
        for deletion in commit.deletions:
            await self._match(deletion.name)
        with self._hub.purge() as purge:
            await self._store(commit, position)
            for deletion in commit.deletions:
                purge.note_deletion(deletion)

    async def _apply_renewal(self, commit: Renewal, position: int) -> None:
        name = commit.row.name
        await self._match(name)
        await self._purge_replaced(commit)
        with self._hub.purge() as purge:
            await self._store(commit, position)
            purge.note({name: Purged(1, commit.replaced_rev)})
        self._hub.publish([commit.row], [self._hub.catalogue.get(name)])

    async def _purge_replaced(self, commit: Renewal) -> None:
        """Delete the rows that went before a trim came to its end; of who planned it, they have."""
        if self._backend is None:
            return
        name, newer_than_ms = commit.row.name, commit.newer_than_ms
        is_done = False
        while not is_done:
            _, is_done = await purge_newer(
                self._hub, self._backend, name, newer_than_ms, keep_latest=True
            )

    async def _match(self, name: str) -> None:
        if (state := self._hub.catalogue.find(name)) is not None:
            await self._turns.run(self._hub.topics.match(state))

    async def _store(self, commit: Commit, position: int) -> None:
        if self._backend is not None:
            await self._backend.apply([commit], position)
