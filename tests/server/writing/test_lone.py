"""A lone write is committed before anybody else runs; it comes to what the writer's task does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from recordd.config.rules import read_rules
from recordd.extending.backend import (
    BackendError,
    FatalBackendError,
    SerializationError,
)
from recordd.extending.commit import Commit, NewRows
from recordd.hub.hub import Hub
from recordd.persistence.memory import MemoryBackend
from recordd.system.turns import Turns
from recordd.writing.lone import LoneWriter
from recordd.writing.queue import WriteQueue
from recordd.writing.requests import Condition, DeleteRecord, WriteRequest, WriteRows
from recordd.writing.writer import Writer
from recordd_protocol.errors import RequestError
from tests.server.commits import make_committer


class QuickBackend(MemoryBackend):
    """Commits at once while it is told to; counts both kinds of commits."""

    def __init__(self) -> None:
        super().__init__()
        self.ways: list[str] = []
        self.is_quick = True
        self.fault: Exception | None = None
        self.goes_on = trio.Event()
        self.goes_on.set()

    def apply_at_once(self, commit: NewRows, position: int) -> bool:
        if self.fault is not None:
            raise self.fault
        if self.is_quick:
            self.ways.append("at once")
            self._keep(commit.rows)
        return self.is_quick

    async def apply(self, commits: Sequence[Commit], position: int) -> None:
        await self.goes_on.wait()
        self.ways.append("by the task")
        if self.fault is not None:
            raise self.fault
        await super().apply(commits, position)


class Client:
    """Puts writes quietly, and announces them, as a session does."""

    def __init__(self, queue: WriteQueue) -> None:
        self.queue = queue
        self.outcomes: list[object] = []
        self.flush = lambda: None
        """Of its own: that tells clients apart."""

    def put(self, request: WriteRequest) -> None:
        request.deliver, request.flush = self.outcomes.append, self.flush
        self.queue.put_nowait(request, quietly=True)

    def write(self, rows: int = 1, if_rev: int | None = None) -> None:
        conditions = [] if if_rev is None else [Condition("a", if_rev)]
        self.put(
            WriteRows(
                [("a", b"1", None, None)] * rows,
                lambda rows: [row.rev for row in rows],
                conditions=conditions,
            )
        )
        self.queue.announce()


class Bench:
    """A writer at rest, and its clients."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.backend = QuickBackend()
        self.nursery = nursery
        rules = read_rules([], default_retention_ms=None, max_capacity=1)
        self.hub = Hub(rules, max_records=100)
        self.queue = WriteQueue(max_requests=1000, max_bytes=1 << 20)
        self.writer = Writer(
            self.hub, self.backend, self.queue, Turns(), make_committer(self.hub, self.backend)
        )
        self.clients = [Client(self.queue) for _ in range(2)]

    async def start(self) -> Client:
        self.nursery.start_soon(self.writer.run)
        await trio.testing.wait_all_tasks_blocked()
        return self.clients[0]


async def test_a_lone_write_is_committed_before_anybody_else_runs() -> None:
    async with trio.open_nursery() as nursery:
        client = await (bench := Bench(nursery)).start()
        for n in range(1, 4):
            client.write()
            assert client.outcomes[-1] == [n]
            assert (bench.hub.rev, len(bench.queue)) == (n, 0)
        assert bench.backend.ways == ["at once"] * 3
        assert bench.writer.statistics().commits == 3
        nursery.cancel_scope.cancel()


async def test_who_is_not_alone_waits_for_the_writers_task_and_shares_its_commit() -> None:
    async with trio.open_nursery() as nursery:
        client = await (bench := Bench(nursery)).start()
        client.write()
        other = bench.clients[1]
        other.write()
        client.write()  # there is one before it
        assert (other.outcomes, client.outcomes) == ([], [[1]])
        await trio.testing.wait_all_tasks_blocked()
        assert (other.outcomes, client.outcomes) == ([[2]], [[1], [3]])
        assert bench.backend.ways == ["at once", "by the task"]
        client.write()  # neither had the last commit alone
        assert bench.backend.ways == ["at once", "by the task"]
        await trio.testing.wait_all_tasks_blocked()
        client.write()
        assert bench.backend.ways[2:] == ["by the task", "at once"]
        nursery.cancel_scope.cancel()


async def test_the_task_keeps_house_when_lone_writes_have_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    idle_at_s: list[float] = []

    async def keep_house(is_idle: bool) -> bool:
        if is_idle:
            idle_at_s.append(trio.current_time())
        return False

    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        bench.writer.add_housekeeper(keep_house)
        client = await bench.start()
        await trio.sleep(10)  # by then it rests until something comes
        for _ in range(3):
            began_s, before = trio.current_time(), len(idle_at_s)
            for _ in range(4):
                client.write()
                await trio.sleep(0.5)
            await trio.sleep(10)
            ended_s = began_s + 1.5
            assert [at_s - ended_s for at_s in idle_at_s[before:]] == pytest.approx([1.0])
        assert bench.backend.ways == ["at once"] * 12
        nursery.cancel_scope.cancel()


async def test_the_task_does_what_storage_cannot_do_at_once() -> None:
    async with trio.open_nursery() as nursery:
        client = await (bench := Bench(nursery)).start()
        bench.backend.is_quick = False
        client.write()
        assert client.outcomes == []
        await trio.testing.wait_all_tasks_blocked()
        assert (client.outcomes, bench.backend.ways) == ([[1]], ["by the task"])
        nursery.cancel_scope.cancel()


async def test_the_task_does_what_is_no_write_of_a_few_rows() -> None:
    async with trio.open_nursery() as nursery:
        client = await (bench := Bench(nursery)).start()
        client.write()
        client.put(DeleteRecord("a", lambda rows: rows))
        client.queue.announce()
        await trio.testing.wait_all_tasks_blocked()
        client.write(65)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.backend.ways == ["at once", "by the task", "by the task"]
        assert client.outcomes == [[1], 1, list(range(3, 68))]
        nursery.cancel_scope.cancel()


async def test_a_condition_that_does_not_hold_is_refused_at_once() -> None:
    async with trio.open_nursery() as nursery:
        client = await Bench(nursery).start()
        client.write(if_rev=7)
        assert isinstance(client.outcomes[0], RequestError)
        client.write(if_rev=0)
        assert client.outcomes[1] == [1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("fault", [BackendError("full"), SerializationError("value: no")])
async def test_a_refusal_of_the_storage_is_that_of_the_task(fault: BackendError) -> None:
    async with trio.open_nursery() as nursery:
        client = await (bench := Bench(nursery)).start()
        bench.backend.fault = fault
        client.write()
        assert client.outcomes == []
        await trio.testing.wait_all_tasks_blocked()
        assert (client.outcomes, bench.backend.ways) == ([fault], ["by the task"])
        bench.backend.fault = None
        client.write()
        await trio.testing.wait_all_tasks_blocked()
        assert client.outcomes[1] == [1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("fault", [FatalBackendError("fsync failed"), ZeroDivisionError()])
async def test_a_fault_for_good_ends_the_writer_and_is_met_once(fault: Exception) -> None:
    benches: list[Bench] = []

    async def write_once() -> None:
        async with trio.open_nursery() as nursery:
            benches.append(bench := Bench(nursery))
            client = await bench.start()
            bench.backend.fault = fault
            client.write()
            await trio.testing.wait_all_tasks_blocked()

    with pytest.raises(ExceptionGroup) as caught:
        await write_once()
    (bench,) = benches
    assert caught.value.exceptions == (fault,)
    assert bench.backend.ways == [], "the storage is not asked again"
    assert bench.clients[0].outcomes == ([fault] if isinstance(fault, FatalBackendError) else [])


async def test_nothing_is_committed_beside_a_commit_of_the_task() -> None:
    async with trio.open_nursery() as nursery:
        client = await (bench := Bench(nursery)).start()
        bench.backend.goes_on = trio.Event()
        client.write(65)
        await trio.testing.wait_all_tasks_blocked()
        client.write()
        assert client.outcomes == []
        bench.backend.goes_on.set()
        await trio.testing.wait_all_tasks_blocked()
        assert client.outcomes == [list(range(1, 66)), [66]]
        assert bench.backend.ways == ["by the task"] * 2
        nursery.cancel_scope.cancel()


async def test_the_task_has_its_turn_after_some_rows() -> None:
    async with trio.open_nursery() as nursery:
        client = await (bench := Bench(nursery)).start()
        turns = 0

        async def keep_house(idle: bool) -> bool:
            nonlocal turns
            turns += 1
            return False

        bench.writer.add_housekeeper(keep_house)
        for _ in range(600):
            client.write()
            await trio.testing.wait_all_tasks_blocked()
        assert bench.backend.ways.count("by the task") == 2
        assert turns >= 2
        nursery.cancel_scope.cancel()


class Clock:
    """A clock that is set."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_pause_makes_anybody_the_lone_one() -> None:
    clock = Clock()
    lone = LoneWriter(clock)
    writes = [WriteRows([("a", b"1", None, None)], lambda rows: None) for _ in range(2)]
    for write in writes:
        write.flush = lambda write=write: None  # type: ignore[misc]
    assert lone.may_commit(writes[0])
    assert not lone.may_commit(writes[1])
    clock.now_s += 0.006
    assert lone.may_commit(writes[1])
    assert not lone.may_commit(writes[0])
    lone.note_batch(writes)
    assert not lone.may_commit(writes[1])
    lone.note_batch(writes[:1])
    assert lone.may_commit(writes[0])


def test_storage_that_refuses_is_asked_again_a_little_later() -> None:
    clock = Clock()
    lone, write = LoneWriter(clock), WriteRows([("a", b"1", None, None)], lambda rows: None)
    assert lone.may_commit(write)
    lone.note_refusal()
    assert not lone.may_commit(write)
    clock.now_s += 0.011
    assert lone.may_commit(write)


def test_what_is_not_announced_at_once_wakes_the_task() -> None:
    queue = WriteQueue(max_requests=9, max_bytes=1 << 20)

    def fail() -> bool:
        raise ZeroDivisionError

    client = Client(queue)
    request = WriteRows([("a", b"1", None, None)], lambda rows: None)
    client.put(request)
    assert [queue.is_awake, queue.lone] == [False, request]
    queue.on_announce(lambda: True)
    queue.announce()
    assert [queue.is_awake] == [False]
    queue.on_announce(fail)
    with pytest.raises(ZeroDivisionError):
        queue.announce()
    assert [queue.is_awake] == [True]
    queue.announce()  # it is awake: nobody is asked
