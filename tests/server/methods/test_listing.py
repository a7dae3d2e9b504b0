"""Listings: an array of many rows, built in turns and never longer than its limit."""

from __future__ import annotations

import json
import time

import pytest
import trio

from recordd.methods.listing import Listing
from recordd.system.turns import Turns
from recordd_protocol.errors import Reason, RequestError
from tests.core_in_memory import running_core
from tests.loop_lag import LoopLag

ROWS = 2000


class Renderer:
    """Makes rows, 50 µs each, and counts them."""

    def __init__(self) -> None:
        self.rendered = 0

    def __call__(self, item: int) -> str:
        self.rendered += 1
        ends = time.perf_counter() + 50e-6
        while time.perf_counter() < ends:
            pass
        return f"row {item}"


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 200])
async def test_both_ways_build_the_same_array(rows: int) -> None:
    listing = Listing(range(rows), str, min_row_bytes=1)
    built = await listing.build(Turns(), 1 << 20)
    assert built == listing.build_nowait()
    assert json.loads(built) == [str(n) for n in range(rows)]


async def test_a_long_listing_gives_way_while_it_is_built() -> None:
    render = Renderer()
    lag = LoopLag(count=lambda: render.rendered)
    trio.lowlevel.add_instrument(lag)
    built = await Listing(range(ROWS), render, min_row_bytes=1).build(Turns(), 1 << 20)
    trio.lowlevel.remove_instrument(lag)
    assert len(json.loads(built)) == ROWS
    assert lag.most_counted < ROWS // 5


async def test_what_cannot_fit_is_refused_before_it_is_built_or_soon_after() -> None:
    render = Renderer()
    listing = Listing(range(ROWS), render, min_row_bytes=5)
    with pytest.raises(RequestError) as refused:
        listing.check_room(5 * ROWS - 1)
    assert (refused.value.reason, render.rendered) == (Reason.TOO_LARGE, 0)
    listing.check_room(5 * ROWS)
    with pytest.raises(RequestError) as refused:
        await listing.build(Turns(), 2000)
    assert refused.value.reason is Reason.TOO_LARGE
    assert render.rendered < ROWS // 5


async def test_a_listing_shows_the_latest_of_its_turn_and_keeps_its_place() -> None:
    """While it is built, what was sent behind it on the connection waits; others do not."""
    async with running_core() as core:
        lister, writer = core.connect(), core.connect()
        names = [f"n{n}" for n in range(3000)]
        rows = [{"name": name, "value": 1, "ts": 1} for name in names]
        assert (await writer.call("record.set_many", records=rows))["last_rev"] == 3000
        await lister.send(
            b'{"t":"req","id":1,"method":"record.list"}', b'{"t":"req","id":2,"method":"hello"}'
        )
        assert (await writer.call("record.set", name="n2999", value=2, ts=2))["rev"] == 3001
        listed = await lister.receive()
        assert listed["id"] == 1
        assert [row["rev"] for row in listed["ok"]] in (
            list(range(1, 3001)),
            [*range(1, 3000), 3001],
        )
        assert (await lister.receive())["id"] == 2
