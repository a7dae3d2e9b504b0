"""Rows taken off the near end of a record: those ahead of a time, which a wrong clock gave.

The record's latest row goes with them, so the newest one that is left is committed again,
in the same transaction, at its own time with a commit number of its own: followers are told
of it as of any commit, and who was away finds it in the log. Oldest rows go first: until the
last slice the latest row stays, and each slice is a whole.
"""

from __future__ import annotations

from typing import Final

from recordd.extending.backend import (
    CleansUp,
    CleanupTarget,
    KeepsHouse,
    NotConfigured,
    PersistenceBackend,
    QueryParams,
)
from recordd.extending.paging import PageLimits
from recordd.hub.hub import Hub
from recordd.system.clock import SYSTEM_CLOCK
from recordd_protocol.methods import Trimmed
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import Row

__all__ = ["trim_record"]

_SLICE_ROWS: Final = 2000
"""As retention: deleting them holds writes up for some 50 ms at worst."""

_ONE_ROW: Final = PageLimits(1, 1)


async def trim_record(
    hub: Hub, backend: PersistenceBackend, name: str, newer_than_ms: int
) -> Trimmed:
    """Delete a slice of a record's stored rows newer than a time; by the writer alone.

    A record that has no others is deleted with the last one. Of one whose rule no longer
    persists it, none is the latest, so none is made that again.

    Raises:
        PersistenceError: the storage refuses, or cannot clean up; nothing has changed.
    """
    if not isinstance(backend, CleansUp):
        raise NotConfigured("this backend cannot clean up: only whole records can be deleted")
    if isinstance(backend, KeepsHouse):
        while backend.indexed_rev < hub.rev and await backend.maintain(hub.rev):
            pass  # only what is indexed can be cleaned up
    is_archived = name in hub.archive
    left = None if is_archived else await _find_newest(hub, backend, name, newer_than_ms)
    target = CleanupTarget(
        name, None, None, keep_latest=False, newer_than_ms=newer_than_ms, renewed=left
    )
    with hub.purge() as purge:
        purged, done = await backend.cleanup([target], _SLICE_ROWS, next_rev=hub.rev + 1)
        purge.note(purged, now_ms=SYSTEM_CLOCK.wall_ms())
    if (what := purged.get(name)) is None:
        return Trimmed(deleted=0, more=False)
    if left is not None and what.renewed_rev is not None:
        hub.publish([Row(name, left.value, left.ts, what.renewed_rev)])
    is_last = done or what.deletion_rev is not None or what.renewed_rev is not None
    return Trimmed(deleted=what.rows, more=not is_last)


async def _find_newest(
    hub: Hub, backend: PersistenceBackend, name: str, newer_than_ms: int
) -> Row | None:
    """Return the newest row that is not newer than a time."""
    params = QueryParams(
        moment=backend.take_moment(hub.rev),
        limit_per_record=1,
        end_ms=newer_than_ms,
        page=_ONE_ROW,
    )
    page = await backend.query(compile_patterns(name), params)
    return page.rows[0] if page.rows else None
