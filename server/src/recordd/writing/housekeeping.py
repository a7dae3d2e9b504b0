"""Housekeeping between batches: the merge of the index, retention, a look at the storage."""

from __future__ import annotations

import logging
import math
from typing import Final

import trio

from recordd.extending.backend import (
    FatalBackendError,
    KeepsHouse,
    PersistenceBackend,
    PersistenceError,
    WatchesStorage,
    find_capability,
)
from recordd.extending.extensions import Housekeeper
from recordd.hub.hub import Hub

__all__ = ["Housekeeping"]

logger: Final = logging.getLogger(__name__)

_CHECK_EVERY_S: Final = 0.5
"""How often the storage is looked at: what goes wrong with it is noticed within a second."""

_LAST_MERGE_S: Final = 1.0
"""How long a stop may take for the index; what is left is indexed after the next start."""

_RETRY_AFTER_S: Final = 5.0
"""How long housekeeping rests after an error: a full disk is not emptied by trying."""


class Housekeeping:
    """What the writer does for the storage while no batch waits; for the writer's task alone."""

    def __init__(self, hub: Hub, backend: PersistenceBackend | None) -> None:
        self.errors = 0
        self.not_before = 0.0
        """The time before which no housekeeper runs: one has failed."""
        self._hub: Final = hub
        self._housekeepers: Final[list[Housekeeper]] = []
        self._watched: Final = find_capability(backend, WatchesStorage)
        self.check_not_before = 0.0 if self._watched else math.inf
        """The time of the next look at the storage."""
        self._kept: Final = find_capability(backend, KeepsHouse)
        if self._kept is not None:
            self._housekeepers.append(self._maintain)

    def add(self, housekeeper: Housekeeper) -> None:
        """Have `housekeeper` run, behind those that there are."""
        self._housekeepers.append(housekeeper)

    async def check(self) -> None:
        """Have the storage look at itself now and then, whether there is work or not."""
        now = trio.current_time()
        if self._watched is not None and now >= self.check_not_before:
            self.check_not_before = now + _CHECK_EVERY_S
            await self._watched.check()

    async def run(self, idle: bool) -> bool:
        """Run every housekeeper once; one that fails is tried again a little later."""
        if trio.current_time() < self.not_before:
            return False
        due = failed = False
        for housekeeper in self._housekeepers:
            try:
                due = await housekeeper(idle) or due
            except FatalBackendError:
                raise
            except PersistenceError as error:
                # The others go on: what one cannot do, on a full disk, another may mend.
                failed = True
                self.errors += 1
                logger.error("housekeeping put off for %g s: %s", _RETRY_AFTER_S, error)
        if failed:
            self.not_before = trio.current_time() + _RETRY_AFTER_S
        return due and not failed

    async def _maintain(self, idle: bool) -> bool:
        assert self._kept is not None, "only added where there is one"
        return await self._kept.maintain(self._hub.rev if idle else 0)

    async def index_all(self) -> None:
        """Index every row, for a second at most: then damage to one concerns that row alone.

        Raises:
            FatalBackendError: as `run` does.
        """
        kept, ends_at = self._kept, trio.current_time() + _LAST_MERGE_S
        try:
            while (
                kept is not None
                and kept.indexed_rev < self._hub.rev
                and trio.current_time() < ends_at
                and await kept.maintain(self._hub.rev)
            ):
                pass
        except FatalBackendError:
            raise
        except PersistenceError as error:
            logger.warning("rows stay unindexed until the next start: %s", error)
