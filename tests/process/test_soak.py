"""Twenty followers that come, go and resume at random, under up to 10,000 rows a second.

Two seconds here; `make soak` does twenty (RECORDD_SOAK_S).
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path

import msgspec
import pytest
import trio

from recordd_client import connect, open_client
from tests.daemon_process import DaemonProcess
from tests.wire import Wire, request

SECONDS = float(os.environ.get("RECORDD_SOAK_S", "2"))
ROWS_PER_SECOND = 10_000
BURST = 100
GROUPS = 10
FOLLOWERS = 20
CATCH_UP_S = 30.0


def write_load(path: Path) -> None:
    """Write rows at their rate, in turn to every group; each has to be answered."""
    lines = [request("record.set", n, name=f"g{n % GROUPS}.{n}", value=n) for n in range(BURST)]
    started = time.monotonic()
    with Wire(path) as wire:
        for burst in range(1, int(SECONDS * ROWS_PER_SECOND / BURST) + 1):
            wire.send(*lines)
            for _ in lines:
                assert "result" in wire.receive()
            time.sleep(max(0.0, started + burst * BURST / ROWS_PER_SECOND - time.monotonic()))
            if time.monotonic() > started + SECONDS:  # on a machine that cannot keep up
                break
    print(f"{(burst * BURST) / (time.monotonic() - started):,.0f} rows/s")


class Follower:
    """Follows one group, on connection after connection, each cut off without a word."""

    def __init__(self, number: int) -> None:
        self.pattern = f"g{number % GROUPS}.*"
        self.revs: list[int | None] = []
        self.chance = random.Random(number)
        self.resyncs = 0

    async def follow(self, url: str, load: SpawnProcess) -> None:
        after = 0
        while load.is_alive():
            with trio.move_on_after(self.chance.uniform(0, 0.6)):
                await self._follow_once(url, after)
            after = self.revs[-1] or 0 if self.revs else 0
        async with open_client(url) as db:
            page = await db.query_latest(self.pattern, as_type=msgspec.Raw)
        newest = max(row.rev or 0 for row in page.rows)
        with trio.move_on_after(CATCH_UP_S if newest > after else 0):
            await self._follow_once(url, after, until=newest)

    async def _follow_once(self, url: str, after: int, until: int | None = None) -> None:
        async with (
            open_client(url) as db,
            db.subscribe(
                self.pattern,
                after=after,
                delivery="every",
                on_resync=self._count,
                as_type=msgspec.Raw,
            ) as updates,
        ):
            async for update in updates:
                self.revs.append(update.rev)
                if update.rev == until:
                    return

    def _count(self, _: object) -> None:
        self.resyncs += 1


@pytest.mark.timeout(SECONDS + 90)
async def test_followers_that_come_and_go_miss_nothing_and_get_nothing_twice(
    daemon: DaemonProcess,
) -> None:
    # A process of its own: in this one it would wait for the interpreter lock.
    load = multiprocessing.get_context("spawn").Process(
        target=write_load, args=(daemon.socket_path,)
    )
    followers = [Follower(number) for number in range(FOLLOWERS)]
    load.start()
    async with trio.open_nursery() as nursery:
        for number, follower in enumerate(followers):
            url = daemon.ws_url if number % 2 else daemon.url
            nursery.start_soon(follower.follow, url, load)
    load.join()
    assert load.exitcode == 0
    with connect(daemon.url) as db:
        for follower in followers:
            revs: list[int | None] = []
            after: int | str | None = 0
            while after is not None:
                page = db.replay(after, name=follower.pattern, as_type=msgspec.Raw)
                revs += [row.rev for row in page.rows]
                after = page.next
            assert follower.revs == revs
            assert follower.resyncs == 0
