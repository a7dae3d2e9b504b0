"""The outbox over many schedules: what is put leaves, in order and once, whoever sends it.

Each play has several tasks that put and flush at random, as a connection's reading task, its
feeder, its queries and the writer do, and a peer that takes random parts. Which task runs
when is the seed's decision, so a play that fails can be played again.
"""

from __future__ import annotations

import os
import random
import traceback
from collections.abc import Callable, Sequence
from typing import Final

import pytest
import trio
import trio.testing

from recordd.connections.lane import CLOSED
from recordd.connections.outbox import Outbox, OutboxLimits, Room, _Turn
from recordd.hub.topic import Burst
from tests.schedules import run_with_seed

PLAYS: Final = int(os.environ.get("RECORDD_SCHEDULES", "200"))
CONTROL_PLAYS: Final = 200
LIMITS: Final = OutboxLimits(bytes=60, updates=6, update_bytes=90)


class MoodySender:
    """A peer that takes parts of what it is sent, makes it wait, and may go away."""

    def __init__(self, chance: random.Random, *, takes_at_once: bool, breaks_after: float) -> None:
        self.taken = b""
        self.is_broken = False
        self._chance = chance
        self._takes_at_once = takes_at_once  # a WebSocket takes nothing without waiting
        self._breaks_after = breaks_after
        self._slowness = chance.choice([1, 1, 4, 10])
        self._is_busy = False

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return b"%b\n" % b"\n".join(messages)

    def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
        assert not self._is_busy, "two send at the same time"
        assert messages, "a send of nothing"
        if not self._takes_at_once:
            return messages
        if self._breaks():
            raise trio.BrokenResourceError
        data = self.encode(messages)
        assert encoded in (None, data), "others' bytes"
        sent = self._chance.choice([0, len(data), self._chance.randrange(len(data))])
        self.taken += data[:sent]
        return [] if sent == len(data) else [data[sent:-1]]

    async def send(self, messages: list[bytes], note_progress: Callable[[], None]) -> bool:
        assert not self._is_busy, "two send at the same time"
        self._is_busy = True
        data = b"%b\n" % b"\n".join(messages)
        while data:
            await pause(self._chance, self._slowness)
            if self._breaks():
                return False
            sent = self._chance.randint(1, max(len(data) // self._slowness, 1))
            self.taken, data = self.taken + data[:sent], data[sent:]
            note_progress()
        self._is_busy = False
        return True

    def _breaks(self) -> bool:
        self.is_broken = self.is_broken or len(self.taken) >= self._breaks_after
        return self.is_broken


class Watch(trio.abc.Instrument):
    """Holds the invariant to the outbox after every step of every task."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.broken_at: str | None = None
        self.passed_at: str | None = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        outbox = self._outbox
        if outbox._messages and outbox._turn is _Turn.IDLE and not outbox._is_held:
            self.broken_at = self.broken_at or task.name
        if outbox.lane._is_free and (not outbox.is_empty or outbox.is_closed):
            self.passed_at = self.passed_at or task.name


class Play:
    """One connection's tasks at work on an outbox."""

    def __init__(self, chance: random.Random, outbox: Outbox) -> None:
        self.chance = chance
        self.outbox = outbox
        self.put: list[bytes] = []
        self.tasks = chance.sample(
            [self.answer, self.settle, self.publish, self.feed], k=chance.choice([1, 2, 2, 3, 4])
        )
        self._releases = chance.choice([0.0, 0.3])

    async def answer(self) -> None:
        """Do as the reading task: answer many requests together, and wait in between."""
        for _ in range(self.chance.choice([1, 2, 3, 8])):
            self.outbox.hold()
            for _ in range(self.chance.randint(0, 4)):
                self._put()
                if self.chance.random() < self._releases:
                    self.outbox.release()
                    await pause(self.chance)
                    self.outbox.hold()
            if self.outbox.is_over:
                self.outbox.release()
                await self.outbox.wait_under()
                self.outbox.hold()
            await self._flush()
            await pause(self.chance)

    async def _flush(self) -> None:
        """Flush; what that leaves to be awaited may be awaited by a task that runs later."""
        if (rest := self.outbox.begin_flush()) is not None:
            with trio.CancelScope(shield=True):
                await pause(self.chance)
            await rest

    async def settle(self) -> None:
        """Do as a query or the writer: put an answer at any time."""
        for _ in range(self.chance.choice([1, 2, 3, 8])):
            await pause(self.chance)
            self._put()

    async def publish(self) -> None:
        """Do as the writer: push updates as far as there is room."""
        for _ in range(self.chance.choice([1, 2, 3, 8])):
            await pause(self.chance)
            messages = [self._make() for _ in range(self.chance.randint(1, 3))]
            burst = Burst(messages, len(messages))
            if self.outbox.can_pass_on(burst):
                self.outbox.pass_on(burst)
                self.put += messages
                continue
            if self.outbox.try_put_updates(messages, len(messages), sum(map(len, messages))):
                self.put += messages
            self.outbox.flush_nowait()

    async def feed(self) -> None:
        """Do as the feeder: wait for room, and put what there was none for."""
        for _ in range(self.chance.choice([1, 2, 3, 8])):
            await self.outbox.wait_room()
            message = self._make()
            self.outbox.put_updates([message], 1, len(message))
            self.put.append(message)
            self.outbox.flush_nowait()
            if self.chance.random() < 0.3:
                await self.outbox.wait_empty()
            await pause(self.chance)

    def _put(self) -> None:
        self.put.append(self._make())
        self.outbox.put(self.put[-1])

    def _make(self) -> bytes:
        return b"%d " % self.chance.randrange(100) * self.chance.choice([1, 1, 1, 30])


async def pause(chance: random.Random, times: int = 1) -> None:
    for _ in range(times * chance.choice([0, 1, 1, 2, 5])):
        await trio.lowlevel.checkpoint()


async def play(seed: int, kind: type[Outbox]) -> str | None:
    """Return what went wrong. Not every connection has every task: one may cover for another."""
    chance = random.Random(seed)
    sender = MoodySender(
        chance,
        takes_at_once=chance.random() < 0.6,
        breaks_after=chance.choice([1e9, 1e9, chance.randint(0, 300)]),
    )
    outbox = kind(LIMITS, sender)
    outbox.count_live(1)
    watch = Watch(outbox)
    trio.lowlevel.add_instrument(watch)
    at_work = Play(chance, outbox)
    async with trio.open_nursery() as connection:
        connection.start_soon(outbox.run)
        async with trio.open_nursery() as tasks:
            for task in at_work.tasks:
                tasks.start_soon(task)
            await trio.testing.wait_all_tasks_blocked()
            stalled = [task.name for task in tasks.child_tasks]
            tasks.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        found = judge(at_work, sender, watch, stalled)
        outbox.close()
        await trio.testing.wait_all_tasks_blocked()
        if connection.child_tasks:
            found = found or "closed and empty, run does not end"
        connection.cancel_scope.cancel()
    return found


def judge(at_work: Play, sender: MoodySender, watch: Watch, stalled: list[str]) -> str | None:
    put = b"".join(b"%b\n" % message for message in at_work.put)
    if not put.startswith(sender.taken):
        return "not in order, or not once"
    if watch.broken_at:
        return f"nobody will send what waits since a step of {watch.broken_at}"
    if watch.passed_at:
        return f"a lane leads past what waits since a step of {watch.passed_at}"
    if stalled:
        return f"stalled: {stalled}"
    if not sender.is_broken and sender.taken != put:
        return f"{len(put) - len(sender.taken)} bytes wait for ever"
    return None if at_work.outbox.is_empty else "something waits for a peer that is gone"


def play_all(kind: type[Outbox], plays: int = PLAYS) -> dict[int, str]:
    """Return the seeds whose play went wrong, and how."""
    found = {seed: run_with_seed(seed, play, seed, kind) for seed in range(plays)}
    return {seed: text for seed, text in found.items() if text is not None}


@pytest.mark.timeout(60 + PLAYS // 20)
def test_whatever_is_put_is_sent_in_order_and_once_or_the_outbox_is_empty() -> None:
    assert not play_all(Outbox)


class Forgetful(Outbox):
    """The negative control: a flush ends, and nobody is left to send what came meanwhile."""

    def _end_sending(self) -> None:
        was = self._turn
        super()._end_sending()
        if was is _Turn.FLUSHING:
            self._turn = _Turn.IDLE


class Deaf(Outbox):
    """The negative control: what the peer did not take at once is left to nobody."""

    def flush_nowait(self) -> None:
        super().flush_nowait()
        if self._turn is _Turn.DUE:
            self._turn = _Turn.IDLE


class Hasty(Outbox):
    """The negative control: it sends while another task is in the middle of a message."""

    @property
    def is_sending(self) -> bool:
        return False


class Open(Outbox):
    """The negative control: its lane stays open, whoever has the turn."""

    def _set_lane(self) -> None:
        self.lane.set_free(True)


@pytest.mark.parametrize(
    ("broken", "symptom", "plays"),
    [
        (Forgetful, "nobody", CONTROL_PLAYS),
        (Deaf, "nobody", CONTROL_PLAYS),
        (Hasty, "two send", CONTROL_PLAYS),
        (Open, "a lane leads past", 10),
    ],
)
def test_the_plays_find_a_broken_outbox(broken: type[Outbox], symptom: str, plays: int) -> None:
    try:
        found = " ".join(play_all(broken, plays).values())
    except* AssertionError as raised:
        found = "".join(traceback.format_exception(raised))
    assert symptom in found


async def test_a_cancelled_flush_leaves_nothing_to_follow_half_a_message() -> None:
    sender = MoodySender(random.Random(1), takes_at_once=False, breaks_after=1e9)
    outbox = Outbox(LIMITS, sender)
    outbox.hold()
    outbox.put(b"one")
    with trio.CancelScope() as scope:
        scope.cancel()
        await outbox.flush()
    outbox.put(b"two")
    assert outbox.is_empty
    with trio.fail_after(5):
        await outbox.run()
    assert b"two" not in sender.taken


class Brink:
    """A peer that takes so many bytes of each send, and is gone at below none."""

    def __init__(self, takes: int) -> None:
        self._takes = takes

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return b"".join(messages)

    def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
        if self._takes < 0:
            raise trio.BrokenResourceError
        rest = self.encode(messages)[self._takes :]
        return [rest] if rest else []

    async def send(self, messages: list[bytes], note_progress: Callable[[], None]) -> bool:
        raise AssertionError("nobody runs it")


async def test_a_burst_is_not_passed_by_what_was_put_and_not_flushed() -> None:
    outbox = Outbox(LIMITS, Brink(100))
    assert outbox.can_pass_on(Burst([b"burst"], 1))
    outbox.put_updates([b"before"], 1, 6)
    assert not outbox.can_pass_on(Burst([b"burst"], 1))


async def test_a_peer_that_takes_half_a_burst_is_behind() -> None:
    outbox = Outbox(LIMITS, Brink(2))
    outbox.pass_on(Burst([b"burst"], 3))
    assert outbox.is_behind
    assert outbox.room == Room(LIMITS.updates - 3, LIMITS.update_bytes - 3)


async def test_a_peer_that_is_gone_when_a_burst_is_passed_on_closes_the_outbox() -> None:
    outbox = Outbox(LIMITS, Brink(-1))
    outbox.pass_on(Burst([b"burst"], 1))
    assert outbox.is_closed
    assert outbox.is_empty


async def test_the_task_that_sends_is_started_when_there_is_something_to_wait_for() -> None:
    sender = Brink(1)
    outbox = Outbox(LIMITS, sender)
    async with trio.open_nursery() as nursery:
        outbox.run_in(nursery)
        outbox.hold()
        outbox.put(b"a")
        await outbox.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
        outbox.put(b"b")
        assert len(nursery.child_tasks) == 1
        await trio.testing.wait_all_tasks_blocked()
        assert outbox.is_empty
        outbox.put(b"c")
        assert len(nursery.child_tasks) == 1
        outbox.close()
    assert outbox.is_empty


async def test_a_lane_is_closed_while_somebody_holds_the_outbox() -> None:
    outbox = Outbox(LIMITS, Brink(100))
    outbox.lane.set_way(7)
    outbox.count_live(1)
    for end in (outbox.release, outbox.flush, outbox.flush):
        assert outbox.lane.descriptor == 7
        outbox.hold()
        assert outbox.lane.descriptor == CLOSED
        if ended := end():
            await ended
    assert outbox.lane.descriptor == 7
