"""The reading connections, lent to one query each, in the order in which queries come."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

import trio

from recordd.persistence.sqlite.worker import SqliteWorker

__all__ = ["Readers"]


class Readers:
    """Connections that are open, and who waits for one."""

    def __init__(self) -> None:
        self._all: Final[list[SqliteWorker]] = []
        self._idle: Final[list[SqliteWorker]] = []
        self._freed: Final = trio.lowlevel.ParkingLot()

    def __iter__(self) -> Iterator[SqliteWorker]:
        return iter(self._all)

    def add(self, reader: SqliteWorker) -> None:
        """Lend a connection from now on; `close` closes it."""
        self._all.append(reader)
        self._idle.append(reader)

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[SqliteWorker]:
        """Borrow a connection, waiting for one in turn."""
        while not self._idle:
            await self._freed.park()
        reader = self._idle.pop()
        try:
            yield reader
        finally:
            self._idle.append(reader)
            self._freed.unpark()

    async def close(self) -> None:
        """Close every connection, also where one fails to close, and lend none any more."""
        async with contextlib.AsyncExitStack() as all_of_them:
            for reader in self._all:
                all_of_them.push_async_callback(reader.close)
        self._all.clear()
        self._idle.clear()
