from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from recordd.extending.backend import BackendShutdown
from recordd.persistence.sqlite.gil_turns import GilTurns
from recordd.persistence.sqlite.readers import Readers
from recordd.persistence.sqlite.worker import SqliteWorker


async def open_readers(path: Path, count: int) -> Readers:
    readers = Readers()
    for _ in range(count):
        readers.add(await SqliteWorker.open(str(path), GilTurns(), readonly=False))
    return readers


async def test_a_reader_is_lent_to_one_query_at_a_time_in_the_order_of_asking(
    tmp_path: Path,
) -> None:
    readers = await open_readers(tmp_path / "a.db", 1)
    served: list[int] = []

    async def ask(number: int) -> None:
        async with readers.borrow():
            served.append(number)
            await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery, readers.borrow():
        for number in range(3):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked()
        assert served == []
    assert served == [0, 1, 2]
    await readers.close()


async def test_a_reader_comes_back_from_a_query_that_fails_or_is_given_up(tmp_path: Path) -> None:
    readers = await open_readers(tmp_path / "a.db", 1)
    with pytest.raises(ValueError, match="no"):
        async with readers.borrow():
            raise ValueError("no")
    with trio.CancelScope() as scope:
        async with readers.borrow():
            scope.cancel()
            await trio.lowlevel.checkpoint()
    with trio.fail_after(5):
        async with readers.borrow() as reader:
            assert await reader.run(lambda db: db.execute("SELECT 1").get) == 1
    await readers.close()


async def test_closing_closes_every_reader(tmp_path: Path) -> None:
    readers = await open_readers(tmp_path / "a.db", 2)
    opened = list(readers)
    await readers.close()
    assert list(readers) == []
    for reader in opened:
        with pytest.raises(BackendShutdown):
            await reader.run(lambda db: None)
