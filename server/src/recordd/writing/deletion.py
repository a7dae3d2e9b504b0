"""The end of a record: a commit with a rev of its own, which its followers are told of."""

from __future__ import annotations

import time

from recordd.extending.backend import PersistenceBackend
from recordd.hub.hub import Hub
from recordd_protocol.rows import Row, RowKind

__all__ = ["delete_record", "deletion_of", "forget_record"]


async def delete_record(hub: Hub, backend: PersistenceBackend, name: str) -> None:
    """Delete a record from storage and then from the hub; by the writer alone."""
    rev = hub.rev + 1
    with hub.purging():
        await backend.delete(name, rev)
        hub.remove(deletion_of(name, rev))


def forget_record(hub: Hub, name: str) -> None:
    """Delete a record that storage knows nothing of."""
    hub.remove(deletion_of(name, None))


def deletion_of(name: str, rev: int | None) -> Row:
    """Return the deletion as a row, which is what the followers are told."""
    return Row(name, b"null", time.time_ns() // 1_000_000, rev, RowKind.DELETED)
