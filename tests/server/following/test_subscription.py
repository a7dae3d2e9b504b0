"""A burst that is passed on to a peer by itself: as if it had been put and flushed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Final, cast

import pytest
import trio
import trio.testing

from recordd.config.rules import read_rules
from recordd.connections.outbox import Outbox, OutboxLimits, Room, Sender, Updates
from recordd.connections.waiting import Waiting
from recordd.following.feeder import Feeder
from recordd.following.open_subscriptions import OpenSubscriptions
from recordd.following.opening import Opening
from recordd.hub.hub import Hub
from recordd.hub.statistics import HubStatistics
from recordd.system.turns import Turns
from recordd_protocol.aimx_events import AimxEvents
from recordd_protocol.dialect import Call, EventEncoder
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc_events import JsonRpcEvents
from recordd_protocol.patterns import Pattern, compile_pattern
from recordd_protocol.rows import Row, RowKind
from tests.schedules import run_with_seed
from tests.server.commits import publish

PLAYS: Final = int(os.environ.get("RECORDD_SCHEDULES", "200")) // 10
NAMES: Final = ("a", "b.x", "b.y", "t")
PATTERNS: Final = ("#", "a", "b.*")
LIMITS: Final = OutboxLimits(bytes=1000, updates=6, update_bytes=900)


class Taker:
    """A peer that takes as many bytes as it is told to, in order, whole messages or not."""

    def __init__(self) -> None:
        self.taken = b""
        self.sends = 0
        self._credit = 0
        self._more = trio.lowlevel.ParkingLot()

    @property
    def sender(self) -> Sender:
        return self

    def open(self, size: int) -> None:
        self._credit += size
        self._more.unpark_all()

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return b"%b\n" % b"\n".join(messages)

    def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
        data = self.encode(messages)
        assert encoded in (None, data), "others' bytes"
        self.sends += 1
        sent = min(self._credit, len(data))
        self._credit -= sent
        self.taken += data[:sent]
        return [] if sent == len(data) else [data[sent:-1]]

    async def send(self, messages: list[bytes], note_progress: Callable[[], None]) -> bool:
        while messages := self.send_nowait(messages):
            await self._more.park()
        return True


class Queueing(Outbox):
    """Takes the general way always: every burst is put and flushed."""

    def can_pass_on(self, updates: Updates) -> bool:
        return False


class Asking:
    """A call to subscribe, in either dialect."""

    def __init__(self, number: int, is_aimx: bool) -> None:
        self.subscription_id = str(number) if is_aimx else None
        self._is_aimx = is_aimx

    def encode_events(self, subscription_id: str, pattern: Pattern) -> EventEncoder:
        if self._is_aimx:
            return AimxEvents(subscription_id, Framing.LINE, pattern)
        return JsonRpcEvents(subscription_id, Framing.LINE, 1 << 20)


class World:
    """A hub and its connections, whose outboxes are all of one kind."""

    def __init__(
        self,
        nursery: trio.Nursery,
        kind: type[Outbox],
        connections: int,
        limits: OutboxLimits = LIMITS,
        make_peer: Callable[[], Taker] = Taker,
    ) -> None:
        rules = read_rules([], default_retention_ms=None, max_capacity=1)
        self.hub = Hub(rules, max_records=100, backlog_bytes=5000)
        self.hub.catalogue.epoch = "epoch"
        self.takers = [make_peer() for _ in range(connections)]
        self.waiting = Waiting(6000)
        self.outboxes = [kind(limits, taker.sender, self.waiting) for taker in self.takers]
        self.open: list[OpenSubscriptions] = []
        for outbox in self.outboxes:
            nursery.start_soon(outbox.run)
            feeder = Feeder(nursery, outbox, self.hub, Turns(), history=None, page_rows=10)
            self.open.append(OpenSubscriptions(self.hub, outbox, feeder, max_subscriptions=100))

    def follow(self, chance: random.Random) -> None:
        number = chance.randrange(len(self.open))
        subscriptions = self.open[number]
        asking = Asking(len(subscriptions), chance.random() < 0.3)
        pattern = compile_pattern(chance.choice(PATTERNS))
        opening = Opening(pattern, chance.random() < 0.5, None, None, chance.random() < 0.3)
        _, subscription = subscriptions.open(opening, cast("Call", asking))
        subscriptions.start(subscription)

    def commit(self, chance: random.Random) -> None:
        rows: list[Row] = []
        for name in chance.choices(NAMES, k=chance.choice([1, 1, 1, 2, 3, 7, 20])):
            rev = None if name == "t" else self.hub.rev + len(rows) + 1
            kind = chance.choice([RowKind.LATEST, RowKind.LATEST, RowKind.LATE])
            value = b"%d" % chance.randrange(10) ** chance.choice([1, 1, 1, 300])
            rows.append(Row(name, value, 1, rev, kind))
        publish(self.hub, rows)

    def read(self, chance: random.Random) -> None:
        chance.choice(self.takers).open(chance.choice([1, 50, 500, 5000, 100_000]))

    def hold(self, chance: random.Random) -> None:
        chance.choice(self.outboxes).hold()

    def answer(self, chance: random.Random) -> None:
        outbox = chance.choice(self.outboxes)
        outbox.put(b"answer")
        outbox.release()

    def state(self) -> State:
        taken, room = [taker.taken for taker in self.takers], [box.room for box in self.outboxes]
        return taken, room, self.waiting.size, self.hub.statistics()

    def end(self, chance: random.Random) -> None:
        if chance.random() < 0.2:
            number = chance.randrange(len(self.open))
            self.open[number].close_all()
            self.outboxes[number].close()


STEPS: Final = (
    *[World.commit] * 8,
    *[World.read] * 5,
    World.follow,
    World.follow,
    World.hold,
    World.answer,
    World.answer,
    World.end,
)


State = tuple[list[bytes], list[Room], int, HubStatistics]


async def play(seed: int, kind: type[Outbox]) -> list[State]:
    """Return how a world was after each step of a play."""
    chance, states = random.Random(seed), []
    connections = chance.choice([1, 3, 6])
    async with trio.open_nursery() as nursery:
        world = World(nursery, kind, connections)
        for number in range(120):
            step = World.follow if number < connections else chance.choice(STEPS)
            step(world, chance)
            if chance.random() < 0.7:  # two commits may come with no task in between
                await trio.testing.wait_all_tasks_blocked()
                states.append(world.state())
        for taker in world.takers:
            taker.open(1 << 30)
        await trio.testing.wait_all_tasks_blocked()
        states.append(world.state())
        nursery.cancel_scope.cancel()
    return states


@pytest.mark.parametrize("seed", range(PLAYS))
def test_a_burst_passed_on_is_as_if_it_had_been_put_and_flushed(seed: int) -> None:
    passing, queueing = (run_with_seed(seed, play, seed, kind) for kind in (Outbox, Queueing))
    assert passing == queueing


@pytest.mark.parametrize("subscriptions", [1, 3])
async def test_a_commit_is_one_send_for_each_connection(subscriptions: int) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, Outbox, 1)
        world.takers[0].open(1 << 30)
        for number in range(subscriptions):
            opening = Opening(compile_pattern("#"), False, None, None, False)
            call = cast("Call", Asking(number, False))
            _, subscription = world.open[0].open(opening, call)
            world.open[0].start(subscription)
        await trio.testing.wait_all_tasks_blocked()
        before = world.takers[0].sends
        publish(world.hub, [Row("a", b"1", 1, 1)])
        assert world.takers[0].sends == before + 1
        assert world.takers[0].taken.count(b'"rev":1}') == subscriptions
        nursery.cancel_scope.cancel()


async def test_the_bytes_of_a_burst_are_made_once_for_all() -> None:
    encodings = []

    class Counting(Taker):
        def encode(self, messages: Sequence[bytes]) -> bytes:
            encodings.append(messages)
            return super().encode(messages)

        def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
            assert encoded is not None
            self.taken += encoded
            return []

    async with trio.open_nursery() as nursery:
        world = World(nursery, Outbox, 0)
        takers = [Counting() for _ in range(5)]
        for taker in takers:
            outbox = Outbox(LIMITS, taker)
            feeder = Feeder(nursery, outbox, world.hub, Turns(), history=None, page_rows=10)
            connection = OpenSubscriptions(world.hub, outbox, feeder, max_subscriptions=1)
            opening = Opening(compile_pattern("#"), False, None, None, False)
            connection.start(connection.open(opening, cast("Call", Asking(0, False)))[1])
        publish(world.hub, [Row("a", b"1", 1, 1)])
        assert len(encodings) == 1
        assert len({taker.taken for taker in takers}) == 1
        nursery.cancel_scope.cancel()
