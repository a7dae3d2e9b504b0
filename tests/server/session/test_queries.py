"""A connection's queries: so few at a time, and none for a peer that takes nothing."""

from __future__ import annotations

import warnings

import trio
import trio.testing

from recordd.connections.request_counts import RequestCounts
from recordd.methods.outcome import Later
from recordd.methods.pending_queries import PendingQueries
from recordd.session.queries import Queries
from recordd.system.parking import SpareLot
from recordd_protocol.dialect import Result
from tests.core_in_memory import configure
from tests.server.session.test_replies import GET, Box, call


class Asked:
    """Queries that go on until they are let go, and what was asked of them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.box = Box()
        self.started = 0
        self.gate = trio.Event()
        self.pending = PendingQueries(configure().settings, RequestCounts())
        self.queries = Queries(
            nursery,
            self.box.outbox,
            self.box.replies,
            self.pending,
            parallel=2,
            settled=SpareLot(),
        )

    async def find(self) -> Result:
        self.started += 1
        await self.gate.wait()
        return []

    async def begin(self, count: int) -> None:
        for _ in range(count):
            self.queries.begin(call(GET), Later(self.find()))
        await trio.testing.wait_all_tasks_blocked()


async def test_so_few_run_at_a_time_and_all_are_answered() -> None:
    async with trio.open_nursery() as nursery:
        asked = Asked(nursery)
        await asked.begin(5)
        assert (asked.started, len(asked.pending)) == (2, 5)
        asked.gate.set()
    assert (asked.started, len(asked.pending)) == (5, 0)
    await asked.box.outbox.flush()
    assert len(asked.box.kept.messages) == 5


async def test_none_begins_while_the_outbox_is_over_its_limit() -> None:
    async with trio.open_nursery() as nursery:
        asked = Asked(nursery)
        asked.gate.set()
        asked.box.outbox.put(b"x" * (2 << 20))
        await asked.begin(1)
        assert asked.started == 0
        await asked.box.outbox.flush()
    assert asked.started == 1


async def test_a_query_given_up_before_its_turn_leaves_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with trio.open_nursery() as nursery:
            asked = Asked(nursery)
            await asked.begin(3)
            nursery.cancel_scope.cancel()
    assert (asked.started, len(asked.pending)) == (2, 0)
