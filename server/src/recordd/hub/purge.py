"""The one way by which rows go: storage deletes them, and the hub is told before others look.

Theory of operation. Storage and hub are two places, and a purge changes one after the other.
Between the two a reader may find a page without rows of which the hub still says that they
are there: it would not see the gap. So a purge is a block, opened before storage
deletes the first row and left when the hub knows of the last. A reader that has its page waits
until every block is left that was open then, and asks the hub about gaps only after that.

It does not wait for blocks that were opened later: it has seen their rows. Under a retention
that always has work a wait for "no block is open" would never end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

import trio

from recordd.extending.backend import Purged
from recordd.extending.commit import Deletion
from recordd_protocol.rows import Row

__all__ = ["Purge", "Purges"]


class Purgeable(Protocol):
    """What a purge changes of the hub."""

    def forget_rows(self, name: str, purged: Purged) -> None:
        """Count rows that storage has deleted."""

    def end_history(self, deletion: Row) -> None:
        """Forget a record whose last stored row has gone; a transient value of it stays."""

    def remove(self, deletion: Row) -> None:
        """Forget a record, whatever there is of it."""


class Purge:
    """A purge under way: takes what storage has deleted."""

    def __init__(self, hub: Purgeable) -> None:
        self._hub: Final = hub

    def note(self, purged: Mapping[str, Purged]) -> None:
        """Tell what a cleanup deleted, by record."""
        for name, what in purged.items():
            self._hub.forget_rows(name, what)

    def note_deletion(self, deletion: Deletion) -> None:
        """Tell that a record was deleted with all its rows."""
        if deletion.is_of_history:
            self._hub.end_history(deletion.row)
        else:
            self._hub.remove(deletion.row)


class Purges:
    """How many purges were begun and ended."""

    def __init__(self) -> None:
        self._begun = 0
        self._ended = 0
        self._one_ended: Final = trio.lowlevel.ParkingLot()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Count a purge for as long as the block lasts, also where storage refuses it."""
        self._begun += 1
        try:
            yield
        finally:
            self._ended += 1
            self._one_ended.unpark_all()

    async def wait(self) -> None:
        """Wait for the end of the purges that are under way."""
        begun = self._begun
        while self._ended < begun:
            await self._one_ended.park()
