"""Turns at the loop: one connection's long work is cut, and that of many comes in turn."""

from __future__ import annotations

import time

import trio

from recordd.core import CoreBuilder
from recordd.extending.points import HistoryQuery, QueryHandler
from recordd.system.turns import Steps, Turns
from recordd_protocol.methods import Replay
from recordd_protocol.rows import Page, Row
from tests.core_in_memory import running_core
from tests.loop_lag import LoopLag
from tests.wire import request

CALLS = 200


class SlowHandler(QueryHandler):
    """Answers at once, after a millisecond of work."""

    def query(self, query: HistoryQuery) -> Page | Steps[Page]:
        ends = time.perf_counter() + 0.001
        while time.perf_counter() < ends:
            pass
        return Page([], rev=0, epoch="")

    def replay(self, params: Replay) -> Page:
        raise NotImplementedError

    def at(self, rev: int) -> Row:
        raise NotImplementedError


class EndlessHandler(SlowHandler):
    """Works for ever, in steps."""

    def query(self, query: HistoryQuery) -> Steps[Page]:
        while True:
            yield


def with_endless_queries(builder: CoreBuilder) -> None:
    builder.extensions.insert(QueryHandler, EndlessHandler())


def with_slow_queries(builder: CoreBuilder) -> None:
    builder.extensions.insert(QueryHandler, SlowHandler())


async def test_a_batch_gives_way_between_its_calls() -> None:
    async with running_core(extensions=[with_slow_queries]) as core:
        counts = core.core.request_counts
        peer = core.connect()
        batch = b",".join(request("record.query", n, limit=None) for n in range(CALLS))
        lag = LoopLag(count=lambda: counts.received)
        trio.lowlevel.add_instrument(lag)
        await peer.send(b"[" + batch + b"]")
        assert len(await peer.receive()) == CALLS
        assert counts.received == CALLS
        assert lag.most_counted < CALLS // 10


async def test_long_work_lets_others_run_and_ends_with_the_daemon() -> None:
    async with running_core(extensions=[with_endless_queries]) as core:
        busy, other = core.connect(), core.connect()
        await busy.send(request("record.query", 1, limit=None), request("hello", 2, client="t"))
        for _ in range(10):
            assert (await other.call("hello", client="t"))["server"] == "recordd"
        core.core.connections.is_stopping = True
        answer = await busy.receive()
        assert answer["error"]["data"]["reason"] == "unavailable"
        assert (await busy.receive())["id"] == 2


async def test_however_many_are_busy_one_slice_runs_in_each_pass() -> None:
    turns = Turns()
    slices = 0

    async def work() -> None:
        nonlocal slices
        for _ in range(10):
            await turns.next()
            slices += 1

    lag = LoopLag(count=lambda: slices)
    trio.lowlevel.add_instrument(lag)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(work)
    assert (slices, lag.most_counted) == (200, 1)


async def test_turns_go_round() -> None:
    turns = Turns()
    order: list[str] = []

    async def work(name: str) -> None:
        for _ in range(5):
            await turns.next()
            order.append(name)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(work, name)
    assert all(set(order[n : n + 3]) == {"a", "b", "c"} for n in range(0, 15, 3))
