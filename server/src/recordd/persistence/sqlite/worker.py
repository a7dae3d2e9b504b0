"""One reading connection on a thread of its own, and SQLite's errors in our words.

Built on APSW's Trio support: whole synchronous functions run on the thread, one hop each.
A function holds its own transaction; no statement of a transaction is awaited for, since
a cancellation between two of them would leave it open.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

import apsw
import apsw.sqlite_extra
import trio

from recordd.extending.backend import (
    BackendError,
    BackendShutdown,
    DamagedStorage,
    DiskFull,
    FatalBackendError,
    PassingBackendError,
    SerializationError,
)
from recordd.persistence.sqlite.damage import (
    DamageReport,
    describe_damage,
    find_cause,
    watch_sqlite_log,
)
from recordd.persistence.sqlite.gil_turns import GilTurns

__all__ = ["VFS", "Guard", "SqliteWorker", "open_vfs", "translate_error"]

P = ParamSpec("P")
T = TypeVar("T")

VFS: Final = "cksmvfs"
"""Checksums every page: a flipped bit is an error, not a wrong row."""

_FATAL: Final = (
    apsw.SQLITE_IOERR_FSYNC,
    apsw.SQLITE_IOERR_DIR_FSYNC,
)


_PASSING: Final = (
    apsw.BusyError,
    apsw.IOError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.ProtocolError,
)


class Guard:
    """Runs functions on a connection, and counts the transactions that an error left open."""

    def __init__(self) -> None:
        self.rollbacks = 0

    def run(
        self,
        db: apsw.Connection,
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> T:
        """Run `function(db, …)`; leave no transaction open, also after an error.

        Raises:
            apsw.Error: the cause, where one error followed from another.
            DamagedStorage: instead of the error that tells of damage.
        """
        try:
            return function(db, *args, **kwargs)
        except apsw.Error as error:
            if (damage := describe_damage(error, db)) is not None:
                raise damage from error
            raise find_cause(error)  # noqa: B904 - it is the context of the other
        finally:
            if db.in_transaction:
                self.rollbacks += 1
                db.execute("ROLLBACK")


class SqliteWorker:
    """A connection whose functions run one after the other on its thread."""

    def __init__(
        self, db: apsw.AsyncConnection, path: str, turns: GilTurns, damage: DamageReport
    ) -> None:
        self._db: Final = db
        self._path: Final = path
        self._turns: Final = turns
        self._damage: Final = damage
        self._guard: Final = Guard()
        self._closed = False

    @classmethod
    async def open(
        cls, path: str, turns: GilTurns, *, readonly: bool, damage: DamageReport | None = None
    ) -> SqliteWorker:
        """Open a connection; a writing one creates the file. `damage` is told of what it meets.

        Raises:
            BackendError: when SQLite cannot open it.
        """
        open_vfs()
        flags = (
            apsw.SQLITE_OPEN_READONLY
            if readonly
            else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        )
        try:
            db = await apsw.Connection.as_async(path, flags=flags, vfs=VFS)
        except apsw.Error as error:
            raise translate_error(error, path) from error
        return cls(db, path, turns, damage or DamageReport())

    async def run(
        self,
        function: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `function(connection, …)` on the thread.

        Cancelled, or past the caller's deadline, the function may or may not have had
        its effect: shield what writes. SQL that runs at that moment is aborted.

        Raises:
            SerializationError, BackendError, FatalBackendError: as `translate_error` says.
        """
        if self._closed:
            raise BackendShutdown("the database is closed")
        with self._turns.call():
            try:
                result = await self._db.async_run(self._run, function, args, kwargs)
            except apsw.Error as error:
                raise translate_error(error, self._path) from error
            except DamagedStorage as damage:
                self._damage.note(damage)
                raise
        return cast("T", result)

    def _run(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        return self._guard.run(cast("apsw.Connection", self._db), function, args, kwargs)

    async def close(self) -> None:
        """Close the connection and end its thread, which would else outlive the process's end.

        Raises:
            BackendError: the disk fails; the connection is closed nevertheless.
        """
        if not self._closed:
            self._closed = True
            try:
                with trio.CancelScope(shield=True):
                    await self._db.aclose()
            except apsw.Error as error:
                raise translate_error(error, self._path) from error


def open_vfs() -> None:
    """Register the checksum VFS with this process's SQLite; idempotent."""
    watch_sqlite_log()
    if VFS not in apsw.vfs_names():
        db = apsw.Connection(":memory:")
        apsw.sqlite_extra.load(db, "cksumvfs")
        db.close()


def _explain_cant_open(path: str) -> BackendError:
    """Return why a file cannot be opened, which SQLite keeps to itself.

    To open it here and close it again would drop SQLite's locks on it.
    """
    for name in (path, f"{path}-wal", f"{path}-shm"):
        if os.path.exists(name) and not os.access(name, os.R_OK | os.W_OK):
            return BackendError(f"{name}: not ours to read and write")
    return PassingBackendError(f"{path}: cannot be opened")


def translate_error(error: apsw.Error, path: str) -> BackendError | SerializationError:
    """Return an SQLite error as one of the backend's."""
    code = getattr(error, "extendedresult", 0)
    if code in _FATAL:
        return FatalBackendError(f"storage lost a write: {error}")
    if isinstance(error, apsw.TooBigError):
        return SerializationError(f"value: {error}")
    if isinstance(error, apsw.CantOpenError):
        return _explain_cant_open(path)
    if isinstance(error, apsw.FullError) or code == apsw.SQLITE_IOERR_SHMSIZE:
        return DiskFull()
    is_passing = isinstance(error, _PASSING) and code != apsw.SQLITE_IOERR_DATA
    refusal = PassingBackendError if is_passing else BackendError
    return refusal(f"storage refuses: {type(error).__name__}: {error}")
