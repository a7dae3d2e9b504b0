"""A VFS under the checksums' one, in Python: it tells a witness of every call, which may fail it.

The witness is asked before each call takes effect. What it raises is the call's result; what
it does not raise reaches the real file. Shared memory and locks are inherited, so WAL works.

APSW keeps a Python exception of a VFS although SQLite forgives the error, and raises it from
the statement. SQLite forgives in two places that matter here, and `installed` restores both:
a failing automatic checkpoint behind a COMMIT, and the lock that the last, reading
connection does not get when it is closed.
"""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Iterator
from typing import Any, Final, Protocol

import apsw
import msgspec

from recordd.persistence.sqlite.worker import VFS as CHECKSUM_VFS
from recordd.persistence.sqlite.worker import open_vfs

__all__ = ["Call", "Kind", "Witness", "WitnessedVfs", "installed", "make_error"]

_NAME: Final = "witnessed"
_AUTOCHECKPOINT_PAGES: Final = 1000
"""SQLite's own default."""


class Kind(enum.Enum):
    """The calls that a witness is asked about."""

    READ = "read"
    WRITE = "write"
    SYNC = "sync"
    TRUNCATE = "truncate"
    DELETE = "delete"
    OPEN = "open"
    SIZE = "size"


class Call(msgspec.Struct, frozen=True):
    """One call of SQLite's on one file, told by its name without the folder.

    `offset` and `data` are those of a write; of a truncation `offset` is the new size; of a
    deletion `is_synced` tells whether the folder is synced with it.
    """

    kind: Kind
    file: str
    offset: int = 0
    data: bytes = b""
    is_synced: bool = False


class Witness(Protocol):
    """Who is told of every call; the threads of all connections call it."""

    def before(self, call: Call) -> None:
        """Take note of a call that is about to happen, or raise what it comes to instead."""


class WitnessedVfs(apsw.VFS):
    """Passes every call on to the `unix` VFS, after the witness was asked."""

    def __init__(self, witness: Witness) -> None:
        self._witness: Final = witness
        super().__init__(_NAME, "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else (name or "")
        self._witness.before(Call(Kind.OPEN, os.path.basename(path)))
        return _WitnessedFile(self._witness, os.path.basename(path), name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        name = os.path.basename(filename)
        self._witness.before(Call(Kind.DELETE, name, is_synced=bool(syncdir)))
        super().xDelete(filename, syncdir)


class _WitnessedFile(apsw.VFSFile):
    def __init__(
        self, witness: Witness, file: str, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        self._witness: Final = witness
        self._file: Final = file
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._witness.before(Call(Kind.READ, self._file, offset))
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:
        self._witness.before(Call(Kind.WRITE, self._file, offset, bytes(data)))
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._witness.before(Call(Kind.SYNC, self._file))
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:
        self._witness.before(Call(Kind.TRUNCATE, self._file, newsize))
        super().xTruncate(newsize)

    def xFileSize(self) -> int:
        self._witness.before(Call(Kind.SIZE, self._file))
        return super().xFileSize()

    def xLock(self, level: int) -> None:
        try:
            super().xLock(level)
        except apsw.IOError:
            # A reading connection cannot lock for writing; SQLite takes no for an answer.
            raise apsw.BusyError("cannot be locked") from None


@contextlib.contextmanager
def installed(witness: Witness) -> Iterator[None]:
    """Have all connections opened meanwhile go through a `WitnessedVfs`, under the checksums.

    The checksums' VFS wraps whichever is the default when it is loaded, so it is taken out
    and loaded anew, and again at the end. All connections must be closed by then.
    """
    _unregister_checksums()
    vfs = WitnessedVfs(witness)
    apsw.connection_hooks.append(_forgive_checkpoints)
    try:
        open_vfs()
        yield
    finally:
        apsw.connection_hooks.remove(_forgive_checkpoints)
        _unregister_checksums()
        vfs.unregister()
        apsw.set_default_vfs("unix")
        open_vfs()


def make_error(code: int) -> apsw.Error:
    """Return the exception that makes a VFS call come to SQLite's `code`."""
    error = apsw.exception_for(code)
    assert isinstance(error, apsw.Error)
    error.extendedresult = code  # type: ignore[attr-defined]
    return error


def _unregister_checksums() -> None:
    if CHECKSUM_VFS in apsw.vfs_names():
        apsw.unregister_vfs(CHECKSUM_VFS)


def _forgive_checkpoints(db: apsw.Connection) -> None:
    """Do what SQLite's automatic checkpoint does: its error is not the COMMIT's."""

    def checkpoint(_: apsw.Connection, name: str, pages: int) -> int:
        if pages >= _AUTOCHECKPOINT_PAGES:
            with contextlib.suppress(apsw.Error):
                db.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_PASSIVE)
        return apsw.SQLITE_OK

    db.set_wal_hook(checkpoint)
