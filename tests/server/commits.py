"""Commits as the planner makes them, for tests that speak to a backend or a hub by themselves."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from recordd.extending.backend import PersistenceBackend
from recordd.extending.commit import Deletion, Deletions, NewRecord, NewRows
from recordd.extending.journal import BackendJournal
from recordd.hub.hub import Hub
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.schema import FIRST_RECORD
from recordd.system.turns import Turns
from recordd.writing.applier import Applier
from recordd.writing.committer import Committer
from recordd_protocol.rows import Row


class _Ids:
    """The records of a backend by name, and the next id."""

    def __init__(self, known: dict[str, int]) -> None:
        self.known = known
        self.next = max(known.values(), default=-1) + 1

    def commit(self, rows: Sequence[Row]) -> NewRows:
        created = []
        for row in rows:
            if row.name not in self.known:
                created.append(NewRecord(self.next, row.name, row.rev is not None))
                self.known[row.name] = self.next
                self.next += 1
        return NewRows(rows, [self.known[row.name] for row in rows], created)


_ids: weakref.WeakKeyDictionary[PersistenceBackend, _Ids] = weakref.WeakKeyDictionary()

_next_by_epoch: dict[str, int] = {}


def _ids_of(backend: PersistenceBackend) -> _Ids:
    ids = _ids.setdefault(backend, _Ids({}))
    if isinstance(backend, SqliteBackend):  # others may have filled it, and deleted from it
        numbers = backend._catalog._ids
        ids.known = {name: number - FIRST_RECORD for name, number in numbers.items()}
        given = _next_by_epoch.get(backend._epoch, 0)
        ids.next = max(given, max(ids.known.values(), default=-1) + 1)
    return ids


async def store(backend: PersistenceBackend, rows: Sequence[Row]) -> None:
    """Store rows, and the records that are new with them."""
    ids = _ids_of(backend)
    await backend.apply([ids.commit(rows)], rows[-1].rev or 0)
    if isinstance(backend, SqliteBackend):
        _next_by_epoch[backend._epoch] = ids.next


async def delete(backend: PersistenceBackend, name: str, rev: int) -> None:
    """Delete a record with all its rows."""
    deletion = Deletion(name, _ids_of(backend).known.pop(name), 0, rev)
    await backend.apply([Deletions([deletion])], rev)


def publish(hub: Hub, rows: Sequence[Row]) -> None:
    """Publish rows, and the records that are new with them."""
    hub.publish(rows, hub.catalogue.find_records(commit_of(hub, rows)))


def commit_of(hub: Hub, rows: Sequence[Row]) -> NewRows:
    """Return the commit of rows, with the records that are new with them."""
    ids = _Ids({})
    ids.known = {name: hub.catalogue.get(name).record_id for name in hub.catalogue.names()}
    ids.next = hub.catalogue.next_record_id
    return ids.commit(rows)


def make_committer(hub: Hub, backend: PersistenceBackend | None) -> Committer:
    """The committer of a hub and its backend, whose transaction is the journal."""
    return Committer(BackendJournal(), Applier(hub, backend, Turns()))
