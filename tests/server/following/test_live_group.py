"""Groups of live subscriptions: what goes past an outbox is as if it had gone through it."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable, Iterable
from typing import Final, cast

import pytest
import trio
import trio.testing

from recordd.connections.lane import Lane, write_to_all
from recordd.connections.outbox import Outbox, OutboxLimits, Sender
from recordd.following import live_group
from recordd.following.opening import Opening
from recordd.following.subscription import Subscription
from recordd.transports.shared_stream import SharedStream
from recordd.transports.unix import _LineSender
from recordd.transports.websocket import _FrameSender
from recordd_protocol.dialect import Call
from recordd_protocol.patterns import compile_pattern
from recordd_protocol.rows import Row, RowKind
from tests.core_in_memory import running_core
from tests.schedules import run_with_seed
from tests.server.commits import publish
from tests.server.following.test_subscription import Asking, State, Taker, World

PLAYS: Final = int(os.environ.get("RECORDD_SCHEDULES", "200")) // 20
LIMITS: Final = OutboxLimits(bytes=30_000, updates=12, update_bytes=20_000)


class Open:
    """What a sender asks of the library's connection."""

    closed = None


class SocketTaker(Taker):
    """A peer at the other end of a socket, which takes as many bytes as it is told to."""

    def __init__(self, make_sender: Callable[[trio.SocketStream], Sender]) -> None:
        super().__init__()
        near, self._far = socket.socketpair()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        self._far.setblocking(False)
        self._near = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        self._sender: Final = make_sender(self._near)

    @property
    def sender(self) -> Sender:
        return self._sender

    def open(self, size: int) -> None:
        while size > 0:
            try:
                received = self._far.recv(min(size, 65_536))
            except (BlockingIOError, OSError):
                return
            self.taken += received
            size -= len(received)

    def leave(self) -> None:
        self._far.close()

    def close(self) -> None:
        self._far.close()
        self._near.socket.close()


class Unlaned(Outbox):
    """Takes the long way always: nothing is written past it."""

    def _set_lane(self) -> None:
        pass


def commit(world: World, chance: random.Random) -> None:
    """Publish values of which some are longer than a socket takes at once."""
    rows = []
    for number, name in enumerate(
        chance.choices(["a", "b.x", "t"], k=chance.choice([1, 1, 2, 7, 14]))
    ):
        size = chance.choice([1, 1, 100, 3000])
        rev = None if name == "t" else world.hub.rev + number + 1
        rows.append(Row(name, b"%d" % (10**size), 1, rev))
    publish(world.hub, rows)


def read_all(world: World, chance: random.Random) -> None:
    for taker in world.takers:
        taker.open(1 << 20)


def follow_too(world: World, chance: random.Random) -> None:
    """Open another subscription, seldom: lanes are for connections with one."""
    if chance.random() < 0.2:
        world.follow(chance)


def leave(world: World, chance: random.Random) -> None:
    if chance.random() < 0.1:
        cast("SocketTaker", chance.choice(world.takers)).leave()


STEPS: Final = (
    *[commit] * 6,
    *[World.read] * 3,
    *[read_all] * 2,
    follow_too,
    World.hold,
    *[World.answer] * 2,
    World.end,
    leave,
)


async def play(seed: int, kind: type[Outbox], is_framed: bool) -> list[State]:
    """Return how a world was after each step of a play, in which all is read at the end."""
    chance, states = random.Random(seed), []
    connections = chance.choice([1, 3, 6])
    async with running_core() as core, trio.open_nursery() as nursery:

        def make_sender(stream: trio.SocketStream) -> Sender:
            if not is_framed:
                return _LineSender(stream)
            shared = SharedStream(stream, b"\r\n\r\n", core.core)
            return _FrameSender(Open(), shared)  # type: ignore[arg-type]

        world = World(nursery, kind, connections, LIMITS, lambda: SocketTaker(make_sender))
        for number in range(80):
            step = World.follow if number < connections else chance.choice(STEPS)
            step(world, chance)
            if chance.random() < 0.7:
                await trio.testing.wait_all_tasks_blocked()
                states.append(world.state())
        for _ in range(300):
            for taker in world.takers:
                taker.open(1 << 30)
            await trio.testing.wait_all_tasks_blocked()
        states.append(world.state())
        nursery.cancel_scope.cancel()
    for taker in world.takers:
        cast("SocketTaker", taker).close()
    return states


class Counting:
    """Counts what lanes took whole, and in part."""

    def __init__(self) -> None:
        self.whole = self.cut = 0

    def write_to_all(self, lanes: Iterable[Lane], data: bytes) -> dict[Lane, int]:
        asked = list(lanes)
        left = write_to_all(asked, data)
        self.whole += len(asked) - len(left)
        self.cut += sum(sent > 0 for sent in left.values())
        return left


def test_what_goes_by_a_lane_is_as_if_it_had_gone_through_the_outbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting = Counting()
    monkeypatch.setattr(live_group, "write_to_all", counting.write_to_all)
    for is_framed in (False, True):
        for seed in range(PLAYS):
            by_lane, long_way = (
                run_with_seed(seed, play, seed, kind, is_framed) for kind in (Outbox, Unlaned)
            )
            assert by_lane == long_way, (is_framed, seed)
    assert counting.whole > 3 * PLAYS
    assert counting.cut > PLAYS // 2


def follow(world: World, *, is_aimx: bool = False, every: bool = False) -> Subscription:
    opening = Opening(compile_pattern("#"), False, None, None, every)
    asking = cast("Call", Asking(len(world.open[0]), is_aimx))
    _, subscription = world.open[0].open(opening, asking)
    world.open[0].start(subscription)
    return subscription


def write(world: World, *, times: int, kind: RowKind = RowKind.LATEST) -> None:
    """Commit values of one record, each by itself."""
    for _ in range(times):
        publish(world.hub, [Row("a", b"%d" % world.hub.rev, 1, world.hub.rev + 1, kind)])


@pytest.mark.parametrize("every", [False, True])
async def test_numbers_go_on_where_a_subscription_that_fell_behind_left_its_group(
    every: bool,
) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, Outbox, 1)
        peer = world.takers[0]
        write(world, times=2)
        follow(world, is_aimx=True, every=every)
        for _ in range(3):
            peer.open(1 << 20)
            write(world, times=3)
            peer.open(-(1 << 20))  # so it is behind from here on
            write(world, times=12)
            peer.open(2 << 20)
            await trio.testing.wait_all_tasks_blocked()
            peer.open(-(1 << 20))
        peer.open(1 << 20)
        write(world, times=2)
        numbers = [json.loads(line)["seq"] for line in peer.taken.splitlines()]
        revs = [json.loads(line)["rev"] for line in peer.taken.splitlines()]
        assert numbers[-1] == 47
        assert numbers == [rev - 2 for rev in revs]  # a gap tells exactly of what is left out
        assert (numbers == list(range(1, 48))) == every
        nursery.cancel_scope.cancel()


async def test_who_is_told_of_a_loss_is_told_once_and_of_all_that_comes_then() -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, Outbox, 1)
        peer, subscription = world.takers[0], follow(world)
        write(world, times=6)
        write(world, times=3, kind=RowKind.LATE)  # to conflate finds nothing of these
        peer.open(1 << 20)
        await trio.testing.wait_all_tasks_blocked()
        peer.taken = b""
        topic = subscription.topic
        assert (len(topic.untold), topic.live) == (1, 1)
        write(world, times=2)
        assert (len(topic.untold), topic.live) == (0, 1)
        told = [json.loads(line)["params"] for line in peer.taken.splitlines()]
        assert [event["rev"] for event in told] == [10, 11]
        assert told[0]["skipped"] == 3
        assert "skipped" not in told[1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_aimx", [False, True])
async def test_a_group_is_there_as_long_as_it_has_members(is_aimx: bool) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, Outbox, 1)
        world.takers[0].open(1 << 20)
        topics = []
        for _ in range(3):
            topics.append(follow(world, is_aimx=is_aimx).topic)
            write(world, times=1)
        assert len(topics[0].groups) == topics[0].live == 3
        world.open[0].close_all()
        assert not topics[0].groups
        nursery.cancel_scope.cancel()
