"""The writing connection, on the loop and on a thread."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
import trio

from recordd.extending.backend import BackendError, BackendShutdown, DiskFull, FatalBackendError
from recordd.persistence.sqlite.damage import DamageReport
from recordd.persistence.sqlite.gil_turns import GilTurns
from recordd.persistence.sqlite.schema import BUSY_MS
from recordd.persistence.sqlite.writing_connection import WritingConnection
from tests.faults.vfs import make_error


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[WritingConnection]:
    connection = await WritingConnection.open(str(tmp_path / "a.db"), GilTurns(), DamageReport())
    await connection.run(_prepare)
    yield connection
    await connection.close()


def _prepare(db: apsw.Connection) -> None:
    db.pragma("journal_mode", "wal")
    db.execute("CREATE TABLE t (a)")


def insert(db: apsw.Connection, value: int) -> int:
    with db:
        db.execute("INSERT INTO t VALUES (?)", (value,))
    return threading.get_ident()


def read(db: apsw.Connection) -> list[int]:
    return [value for (value,) in db.execute("SELECT a FROM t")]


def read_busy_timeout(db: apsw.Connection) -> object:
    return db.pragma("busy_timeout")


def raise_in_transaction(db: apsw.Connection, error: Exception) -> None:
    db.execute("BEGIN")
    db.execute("INSERT INTO t VALUES (7)")
    raise error


async def test_a_function_runs_where_its_caller_says(connection: WritingConnection) -> None:
    assert connection.run_here(insert, 1) == threading.get_ident()
    assert await connection.run(insert, 2) != threading.get_ident()
    assert connection.run_here(read) == [1, 2]


@pytest.mark.parametrize(
    ("error", "translated"),
    [
        (make_error(apsw.SQLITE_FULL), DiskFull),
        (make_error(apsw.SQLITE_IOERR_FSYNC), FatalBackendError),
        (apsw.SQLError("no"), BackendError),
        (ValueError("no"), ValueError),
    ],
)
@pytest.mark.parametrize("is_here", [True, False])
async def test_an_error_leaves_no_transaction_open_and_speaks_our_words(
    connection: WritingConnection, error: Exception, translated: type[Exception], is_here: bool
) -> None:
    async def run() -> None:
        if is_here:
            return connection.run_here(raise_in_transaction, error)
        return await connection.run(raise_in_transaction, error)

    with pytest.raises(translated):
        await run()
    assert connection.rollbacks == 1
    assert await connection.run(read) == []


async def test_the_loop_waits_for_no_other_program(
    connection: WritingConnection, tmp_path: Path
) -> None:
    assert connection.run_here(read_busy_timeout) == 0
    assert await connection.run(read_busy_timeout) == BUSY_MS
    other = apsw.Connection(str(tmp_path / "a.db"))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(trio.WouldBlock):
        connection.run_here(insert, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, insert, 2)
        await trio.testing.wait_all_tasks_blocked()
        other.execute("COMMIT")
    other.close()
    assert await connection.run(read) == [2]


async def test_one_function_at_a_time_uses_the_connection(connection: WritingConnection) -> None:
    may_end = threading.Event()

    def wait(db: apsw.Connection) -> None:
        may_end.wait(10)
        insert(db, 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, wait)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            connection.run_here(insert, 3)
        nursery.start_soon(connection.run, insert, 2)
        await trio.testing.wait_all_tasks_blocked()
        may_end.set()
    assert await connection.run(read) == [1, 2]


def count(db: apsw.Connection, most: int) -> object:
    return db.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?)"
        " SELECT count(*) FROM n",
        (most,),
    ).get


async def test_cancelled_a_long_statement_is_aborted_and_no_later_one(
    connection: WritingConnection,
) -> None:
    begun = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def count_for_ever(db: apsw.Connection) -> None:
        token.run_sync_soon(begun.set)
        count(db, -1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, count_for_ever)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    assert connection.run_here(count, 20_000) == 20_000


async def test_shielded_a_write_is_whole_though_its_caller_was_cancelled(
    connection: WritingConnection,
) -> None:
    with trio.CancelScope() as outer:
        outer.cancel()
        with trio.CancelScope(shield=True):
            await connection.run(insert, 1)
    assert await connection.run(read) == [1]


async def test_a_closed_connection_runs_nothing(connection: WritingConnection) -> None:
    await connection.close()
    await connection.close()
    with pytest.raises(BackendShutdown):
        await connection.run(read)
    with pytest.raises(BackendShutdown):
        connection.run_here(read)
