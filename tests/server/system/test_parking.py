"""A lot that is made when somebody parks."""

from __future__ import annotations

import trio
import trio.testing

from recordd.system.parking import SpareLot


async def test_all_who_park_go_on_and_who_unparks_nobody_does_no_harm() -> None:
    lot, gone = SpareLot(), []
    lot.unpark_all()

    async def park(number: int) -> None:
        await lot.park()
        gone.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(park, number)
        await trio.testing.wait_all_tasks_blocked()
        assert not gone
        lot.unpark_all()
    assert sorted(gone) == [0, 1, 2]
