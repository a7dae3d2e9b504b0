"""Work that goes on by itself, and who is told of what it met."""

from __future__ import annotations

import pytest
import trio

from recordd.extending.backend import BackendError, FatalBackendError
from recordd.persistence.sqlite.beside import Beside


async def test_work_goes_on_until_somebody_waits_for_it() -> None:
    beside, gate, done = Beside(), trio.Event(), list[str]()

    async def work() -> None:
        await gate.wait()
        assert beside.is_awaited
        done.append("work")

    beside.start(work)
    assert (beside.is_busy, beside.is_free) == (True, False)
    assert not beside.is_awaited
    with trio.CancelScope() as scope:
        scope.cancel()
        gate.set()
        await beside.wait()  # to the end, also when cancelled
        done.append("waited")
    assert done == ["work", "waited"]
    assert (beside.is_busy, beside.is_free, beside.is_awaited) == (False, True, False)
    await beside.join()


async def fail_with(beside: Beside, fault: Exception) -> None:
    async def work() -> None:
        raise fault

    beside.start(work)
    await trio.testing.wait_all_tasks_blocked()
    assert not beside.is_busy


async def test_a_fault_is_told_once_to_who_joins_and_lets_nothing_begin_before() -> None:
    beside = Beside()
    await fail_with(beside, BackendError("damaged"))
    await beside.wait()
    assert not beside.is_free
    with pytest.raises(BackendError, match="damaged"):
        await beside.join()
    await beside.join()
    assert beside.is_free


async def test_a_fatal_fault_is_told_to_everybody_who_waits() -> None:
    beside = Beside()
    await fail_with(beside, FatalBackendError("storage lost a write"))
    for _ in range(2):
        with pytest.raises(FatalBackendError):
            await beside.wait()
    with pytest.raises(FatalBackendError):
        await beside.join()
    assert not beside.is_free
