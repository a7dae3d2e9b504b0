"""Gaps: up to which rev the history of what matches a pattern may lack rows.

Rows go in three ways: a record is deleted, retention or trimming takes rows (a purge), or
the deletion itself is so old that its name is forgotten. Of each way one rev is kept where it
belongs (tombstone, record, archive), so that to answer costs a match and not a history. The
answer may be too high, never too low: a client resyncs once too often rather than misses a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from recordd.hub.archive import Archive
from recordd.hub.catalogue import Catalogue
from recordd.hub.purge import Purges
from recordd.hub.tombstones import Tombstones
from recordd_protocol.patterns import Pattern, PatternSet

__all__ = ["Gaps"]


class Gaps:
    """What the history may lack, of current records, archived ones and deleted ones."""

    def __init__(self, catalogue: Catalogue, archive: Archive, tombstones: Tombstones) -> None:
        self.purges: Final = Purges()
        self._catalogue: Final = catalogue
        self._archive: Final = archive
        self._tombstones: Final = tombstones
        self._purged_rev = 0  # the newest of any record

    def note_purged(self, rev: int) -> None:
        """Note that rows up to `rev` were purged, of a record that knows it too."""
        self._purged_rev = max(self._purged_rev, rev)

    async def wait_purged(self) -> None:
        """Wait until the hub knows of every deletion that a look at storage can have seen."""
        await self.purges.wait()

    def prepare_gap(self, pattern: Pattern, after_rev: int) -> Iterator[None]:
        """Do in steps what `newest_gap` would take long for."""
        if pattern.matches_all or self._purged_rev <= after_rev:
            return iter(())
        return self._catalogue.prepare_match(PatternSet([pattern]))

    def newest_gap(self, pattern: Pattern, after_rev: int) -> int:
        """Return the newest rev above `after_rev` up to which matching rows may be missing.

        0 where none is: every row that was committed after `after_rev` is still there.
        """
        tombstones = self._tombstones
        newest = max(tombstones.forgotten_rev, tombstones.newest_rev(pattern, after_rev))
        if pattern.matches_all:  # it may be of a record that is deleted: then so since
            newest = max(newest, self._purged_rev)
        elif self._purged_rev > max(after_rev, newest):
            states = self._catalogue.match(PatternSet([pattern]))
            newest = max(newest, max((state.purged_rev for state in states), default=0))
            newest = max(newest, self._archive.newest_purge(pattern, max(after_rev, newest)))
        return newest if newest > after_rev else 0
