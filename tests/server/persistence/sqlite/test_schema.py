"""Files of older versions: what they hold stays, and a kill in the middle changes nothing."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from recordd.conformance.support import ask, ask_log, revs, row, settle
from recordd.extending.backend import BackendError
from recordd.persistence.sqlite import schema
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.schema import SCHEMA_VERSION
from recordd.persistence.sqlite.worker import VFS, open_vfs
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import Row, RowKind
from tests.server.backends import sqlite_options
from tests.server.commits import delete, store

EVERYTHING = compile_patterns("#")

Prepare = Callable[[apsw.Connection, str, str], None]

UNDO = {
    3: ["DROP INDEX timeline"],
    2: ["DROP TABLE deletion"],
    1: ["ALTER TABLE log DROP COLUMN late", "ALTER TABLE record DROP COLUMN purged_rev"],
}
"""What the step after each version added."""


def make(path: Path) -> SqliteBackend:
    return SqliteBackend(sqlite_options(path))


async def make_old(path: Path, version: int) -> None:
    """A file as that version left it: rows 1 to 10 of `a`; `b` was deleted as commit 12."""
    backend = make(path)
    await backend.initialize()
    await store(backend, [row(n) for n in range(1, 11)])
    await store(backend, [row(11, "b")])
    await delete(backend, "b", 12)
    await settle(backend)
    await backend.close()
    db = apsw.Connection(str(path), vfs=VFS)
    for older in range(SCHEMA_VERSION - 1, version - 1, -1):
        for statement in UNDO[older]:
            db.execute(statement)
    db.execute("INSERT INTO meta VALUES ('deleted_rev', 12)")
    db.pragma("user_version", version)
    db.close()


async def check_migrated(path: Path) -> None:
    backend = make(path)
    loaded = await backend.initialize()
    assert (loaded.rev, loaded.deleted_rev, loaded.deletions) == (12, 12, [])
    assert [(r.latest.name, r.rows, r.purged_rev) for r in loaded.records] == [("a", 10, 0)]
    await store(backend, [Row("a", b"13", 5, 13, RowKind.LATE), row(14, "c")])
    await delete(backend, "c", 15)
    page = await backend.replay(EVERYTHING, ask_log(backend, 9))
    assert [(r.rev, r.kind) for r in page.rows] == [(10, RowKind.LATEST), (13, RowKind.LATE)]
    assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [13, *range(1, 11)]
    await backend.close()
    backend = make(path)
    loaded = await backend.initialize()
    assert (loaded.rev, loaded.deleted_rev, loaded.deletions) == (15, 12, [("c", 15)])
    await backend.close()
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    plain.close()


@pytest.mark.parametrize("version", [1, 2])
async def test_an_older_file_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a.db"
    await make_old(path, version)
    await check_migrated(path)


@pytest.mark.parametrize("version", [1, 2])
async def test_a_kill_at_any_statement_of_a_migration_leaves_one_version_or_the_next(
    tmp_path: Path, version: int
) -> None:
    await kill_and_check(tmp_path, version, schema.prepare)


async def test_the_suite_flags_a_migration_that_is_no_transaction(tmp_path: Path) -> None:
    """Negative control: killed in between, its next start finds half of a version."""
    with pytest.raises(BackendError, match=r"exists|duplicate"):
        await kill_and_check(tmp_path, 1, prepare_in_pieces)


def prepare_in_pieces(db: apsw.Connection, path: str, synchronous: str) -> None:
    """Bring a file up to date statement by statement, each committed by itself."""
    for number in range(schema.read_version(db, path), SCHEMA_VERSION):
        db.execute(schema._MIGRATIONS[number])
        db.pragma("user_version", number + 1)


async def kill_and_check(folder: Path, version: int, prepare: Prepare) -> None:
    """Kill a migration at each statement; some of the files left are opened."""
    old = folder / "old.db"
    await make_old(old, version)
    open_vfs()
    found = set()
    for statements in range(1, 40):
        path = folder / f"{statements}.db"
        shutil.copy(old, path)
        is_done = _migrate_and_die(path, statements, prepare)
        db = apsw.Connection(str(path), vfs=VFS)
        found.add(int(db.pragma("user_version")))
        db.close()
        if is_done or statements % 3 == 0:
            await check_migrated(path)
        if is_done:
            break
    assert found == set(range(version, SCHEMA_VERSION + 1))


def _migrate_and_die(path: Path, statements: int, prepare: Prepare) -> bool:
    """Migrate in a process that kills itself before so many statements; tell whether it lived."""
    child = os.fork()
    if not child:
        try:
            _migrate(path, statements, prepare)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status)


def _migrate(path: Path, statements: int, prepare: Prepare) -> None:
    left = statements

    def count(*_: object) -> bool:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    db = apsw.Connection(str(path), vfs=VFS)
    db.exec_trace = count
    prepare(db, str(path), "full")
