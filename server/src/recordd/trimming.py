"""Rows taken off the near end of a record: those ahead of a time, which a wrong clock gave.

The record's latest row goes with them, so the newest one that is left is committed again,
at its own time with a commit number of its own: followers are told of it as of any commit,
and who was away finds it in the log. Oldest rows go first: until the last slice the latest
row stays, and each slice is a whole.
"""

from __future__ import annotations

from typing import Final

from recordd.backend import CleanupTarget, PersistenceBackend, QueryParams
from recordd.deletion import deletion_of
from recordd.hub import Hub
from recordd.pages import PageLimits
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
    """Delete a slice of a record's rows newer than a time; by the writer alone.

    A record that has no others is deleted with the last one.

    Raises:
        PersistenceError: the storage refuses; rows may be gone, and are told as gone.
    """
    while backend.indexed_rev < hub.rev and await backend.maintain(hub.rev):
        pass  # only what is indexed can be cleaned up
    left = await _find_newest(hub, backend, name, newer_than_ms)
    target = CleanupTarget(name, None, None, keep_latest=False, newer_than_ms=newer_than_ms)
    with hub.purging():
        purged, done = await backend.cleanup([target], _SLICE_ROWS, next_rev=hub.rev + 1)
        if (what := purged.get(name)) is None:
            return Trimmed(deleted=0, more=False)
        hub.forget_rows(name, what)
        if what.deletion_rev is not None:
            hub.remove(deletion_of(name, what.deletion_rev))
    if done and left is not None:
        again = Row(name, left.value, left.ts, hub.rev + 1)
        await backend.store([again])
        hub.publish([again])
    return Trimmed(deleted=what.rows, more=not done)


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
