"""Rows newer than a time, taken from storage a slice at a time."""

from __future__ import annotations

from typing import Final

from recordd.extending.backend import (
    CleansUp,
    CleanupTarget,
    KeepsHouse,
    NotConfigured,
    PersistenceBackend,
    Purged,
)
from recordd.hub.hub import Hub

__all__ = ["purge_newer"]

_SLICE_ROWS: Final = 2000
"""As retention: deleting them holds writes up for some 50 ms at worst."""

_NOTHING: Final = Purged(0, 0)


async def purge_newer(
    hub: Hub, backend: PersistenceBackend, name: str, newer_than_ms: int, *, keep_latest: bool
) -> tuple[Purged, bool]:
    """Delete a slice of a record's rows newer than a time, oldest first, and tell the hub.

    The last row of all stays, and with `keep_latest` the latest one.

    Returns:
        What went, and whether no others are left to delete.

    Raises:
        PersistenceError: the storage refuses, or cannot clean up; nothing has changed.
    """
    if not isinstance(backend, CleansUp):
        raise NotConfigured("this backend cannot clean up: only whole records can be deleted")
    if isinstance(backend, KeepsHouse):
        while backend.indexed_rev < hub.rev and await backend.maintain(hub.rev):
            pass  # only what is indexed can be cleaned up
    target = CleanupTarget(name, None, None, keep_latest, newer_than_ms)
    with hub.purge() as purge:
        purged, done = await backend.cleanup([target], _SLICE_ROWS)
        purge.note(purged)
    return purged.get(name, _NOTHING), done > 0
