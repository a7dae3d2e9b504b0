"""The writing connection at start: opened, and what can be mended mended before.

A file is read as far as memory needs it. Where that meets damage, it is mended and opened
again; where that does not help, the damage is raised, and nothing was changed by the look.
"""

from __future__ import annotations

import logging
from typing import Final

import apsw
import msgspec
import trio

from recordd.extending.backend import DamagedStorage, PassingBackendError, UnreadableStorage
from recordd.persistence.sqlite import loading, schema, standing
from recordd.persistence.sqlite.damage import DamageReport
from recordd.persistence.sqlite.gil_turns import GilTurns
from recordd.persistence.sqlite.mark import read_mark
from recordd.persistence.sqlite.mending import StartMender
from recordd.persistence.sqlite.options import OpenOptions
from recordd.persistence.sqlite.reindexing import IndexMender
from recordd.persistence.sqlite.writing_connection import WritingConnection

__all__ = ["Opened", "Opener"]

logger: Final = logging.getLogger(__name__)


class Opened(msgspec.Struct, frozen=True):
    """The writing connection, what the file holds, and whether its index has lost rows."""

    writer: WritingConnection
    found: loading.FoundState
    is_index_lost: bool


class Opener:
    """Opens one file, as often as that takes."""

    def __init__(self, options: OpenOptions, turns: GilTurns, damage: DamageReport) -> None:
        self._options: Final = options
        self._turns: Final = turns
        self._damage: Final = damage

    async def open_mended(self, mender: StartMender) -> Opened:
        """Open the file and read what memory holds, with what can be mended mended before.

        Raises:
            BackendError: it cannot be opened, or not be trusted; no connection is left open.
        """
        index = IndexMender(self._options.database, mender.report)
        has_tried = False
        while True:
            try:
                writer, found = await self._open()
            except DamagedStorage as met:
                is_mended = await trio.to_thread.run_sync(mender.mend)
                if not is_mended and not await self._reindex(index, met):
                    raise
                continue
            if found.damaged and not has_tried:
                has_tried = True
                await writer.close()
                await trio.to_thread.run_sync(mender.mend)
                continue
            if mender.is_index_due and await _mend_index(index, writer):
                await writer.close()
                continue
            return Opened(writer, found, index.is_lost)

    async def _open(self) -> tuple[WritingConnection, loading.FoundState]:
        """Open the writing connection and read what memory holds; on an error it is closed."""
        path = self._options.database
        writer = await self._open_writer()
        try:
            if not await writer.run(schema.read_version, path):
                standing.refuse_lost_file(path, accept_loss=self._options.accept_loss)
            await writer.run(schema.prepare, path, self._options.synchronous)
            found = await writer.run(loading.load, read_mark(path))
            await writer.run(_forget_pages)
            return writer, found
        except BaseException:
            await writer.close()
            raise

    async def _reindex(self, index: IndexMender, met: DamagedStorage) -> bool:
        """Make anew what is damaged of the index; return false where that is not what is wrong."""
        if isinstance(met, UnreadableStorage):
            return False
        writer = await self._open_writer()
        try:
            await writer.run(schema.prepare, self._options.database, self._options.synchronous)
            return await writer.run(index.mend)
        except DamagedStorage:
            return False
        finally:
            await writer.close()

    async def _open_writer(self) -> WritingConnection:
        path = self._options.database
        return await WritingConnection.open(path, self._turns, self._damage)


def _forget_pages(db: apsw.Connection) -> None:
    """Let go of the pages that loading has read; few of them are asked for again soon."""
    db.pragma("shrink_memory")


async def _mend_index(index: IndexMender, writer: WritingConnection) -> bool:
    """Make anew what is damaged of the index, if it can be; the daemon starts either way."""
    try:
        return await writer.run(index.mend)
    except (DamagedStorage, PassingBackendError) as error:
        logger.error("the index cannot be made anew: %s", error)
        return False
