"""The end of a record: a commit with a rev of its own, which its followers are told of."""

from __future__ import annotations

from recordd.extending.backend import PersistenceBackend
from recordd.hub.hub import Hub
from recordd.hub.purge import deletion_row
from recordd.system.clock import SYSTEM_CLOCK

__all__ = ["delete_record", "forget_record"]


async def delete_record(hub: Hub, backend: PersistenceBackend, name: str) -> None:
    """Delete a record from storage and then from the hub; by the writer alone."""
    rev = hub.rev + 1
    with hub.purge() as purge:
        await backend.delete(name, rev)
        purge.note_deletion(deletion_row(name, rev, SYSTEM_CLOCK.wall_ms()))


def forget_record(hub: Hub, name: str) -> None:
    """Delete a record that storage knows nothing of."""
    hub.remove(deletion_row(name, None, SYSTEM_CLOCK.wall_ms()))
