"""The writing connection: used on the loop while that is quick, on a thread when it is not.

A hop to a thread and back takes as long as a whole transaction on a disk that answers at
once, and a loop that is busy fights with the thread for the interpreter lock beside. So the
caller says where a function runs. One function at a time uses the connection.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw
import trio

from recordd.extending.backend import BackendShutdown, DamagedStorage
from recordd.persistence.sqlite.damage import DamageReport
from recordd.persistence.sqlite.gil_turns import GilTurns
from recordd.persistence.sqlite.schema import BUSY_MS
from recordd.persistence.sqlite.worker import VFS, Guard, open_vfs, translate_error

__all__ = ["WritingConnection"]

P = ParamSpec("P")
T = TypeVar("T")

_STEPS_BETWEEN_LOOKS: Final = 50_000
"""Of SQLite's machine, some milliseconds, until a statement that was given up ends."""


class WritingConnection:
    """A connection that writes, and who uses it."""

    def __init__(
        self, db: apsw.Connection, path: str, turns: GilTurns, damage: DamageReport
    ) -> None:
        self._db: Final = db
        self._path: Final = path
        self._turns: Final = turns
        self._damage: Final = damage
        self._guard: Final = Guard()
        self._use: Final = trio.Lock()
        self._is_given_up = False
        self._closed = False
        db.set_progress_handler(lambda: self._is_given_up, _STEPS_BETWEEN_LOOKS)

    @classmethod
    async def open(cls, path: str, turns: GilTurns, damage: DamageReport) -> WritingConnection:
        """Open a connection; it creates the file. `damage` is told of what it meets.

        Raises:
            BackendError: when SQLite cannot open it.
        """
        open_vfs()
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        open_it = functools.partial(apsw.Connection, path, flags=flags, vfs=VFS)
        try:
            db = await trio.to_thread.run_sync(open_it)
        except apsw.Error as error:
            raise translate_error(error, path) from error
        return cls(db, path, turns, damage)

    @property
    def rollbacks(self) -> int:
        """How many transactions an error has left open."""
        return self._guard.rollbacks

    def run_here(
        self,
        function: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `function(connection, …)` on the loop, which stands still meanwhile.

        Raises:
            trio.WouldBlock: the connection is in use, by us or by another program: nothing
                was changed.
            SerializationError, BackendError, FatalBackendError: as `translate_error` says.
        """
        self._check_open()
        self._use.acquire_nowait()
        try:
            self._db.set_busy_timeout(0)
            return self._guard.run(self._db, function, args, kwargs)
        except apsw.BusyError:
            raise trio.WouldBlock from None
        except apsw.Error as error:
            raise translate_error(error, self._path) from error
        except DamagedStorage as damage:
            self._damage.note(damage)
            raise
        finally:
            self._db.set_busy_timeout(BUSY_MS)
            self._use.release()

    async def run(
        self,
        function: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `function(connection, …)` on a thread, when the connection is free.

        Cancelled, SQL that runs at that moment is aborted, and the function has ended: it may
        or may not have had its effect. Shield what writes.

        Raises:
            SerializationError, BackendError, FatalBackendError: as `translate_error` says.
        """
        await self._take()
        try:
            self._check_open()
            with self._turns.call():
                return await self._run_on_thread(
                    lambda: self._guard.run(self._db, function, args, kwargs)
                )
        except apsw.InterruptError as error:
            await trio.lowlevel.checkpoint_if_cancelled()
            raise translate_error(error, self._path) from error
        except apsw.Error as error:
            raise translate_error(error, self._path) from error
        except DamagedStorage as damage:
            self._damage.note(damage)
            raise
        finally:
            self._is_given_up = False
            self._use.release()

    async def close(self) -> None:
        """Close the connection.

        Raises:
            BackendError: the disk fails; the connection is closed nevertheless.
        """
        with trio.CancelScope(shield=True):
            async with self._use:
                if self._closed:
                    return
                self._closed = True
                try:
                    await trio.to_thread.run_sync(self._db.close)
                except apsw.Error as error:
                    raise translate_error(error, self._path) from error

    def _check_open(self) -> None:
        if self._closed:
            raise BackendShutdown("the database is closed")

    async def _take(self) -> None:
        """Wait for the connection; without a pass of the loop where it is free."""
        try:
            self._use.acquire_nowait()
        except trio.WouldBlock:
            await self._use.acquire()

    async def _run_on_thread(self, call: Callable[[], T]) -> T:
        """Run a call on a thread of Trio's, to its end, also when cancelled.

        As `trio.to_thread.run_sync` does, but that a statement can be given up.
        """
        task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()

        def deliver(result: Any) -> None:  # an outcome: Trio has no name for it
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)

        def give_up(_: object) -> trio.lowlevel.Abort:
            self._is_given_up = True
            return trio.lowlevel.Abort.FAILED

        trio.lowlevel.start_thread_soon(call, deliver)
        result: T = await trio.lowlevel.wait_task_rescheduled(give_up)
        return result
