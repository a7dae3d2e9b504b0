"""The writer actor: group commit, who fails with whom, and the end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from recordd.config.rules import read_rules
from recordd.extending.backend import BackendError, FatalBackendError, SerializationError
from recordd.extending.commit import Commit, NewRows
from recordd.hub.hub import Hub
from recordd.persistence.memory import MemoryBackend
from recordd.system.turns import Turns
from recordd.writing import gathering
from recordd.writing.queue import WriteQueue
from recordd.writing.requests import Condition, DeleteRecord, NewRow, WriteRequest, WriteRows
from recordd.writing.writer import Writer
from recordd_protocol.errors import Reason, RequestError
from tests.server.commits import make_committer


class FakeBackend(MemoryBackend):
    """Stores in memory; refuses as told; counts its transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.poison: bytes | None = None
        self.fault: BackendError | None = None

    async def apply(self, commits: Sequence[Commit], position: int) -> None:
        await trio.lowlevel.checkpoint()
        rows = [row for commit in commits if isinstance(commit, NewRows) for row in commit.rows]
        if self.fault is not None:
            raise self.fault
        if any(row.value == self.poison for row in rows):
            raise SerializationError("value: cannot be stored")
        if rows:
            self.batches.append(len(rows))
        await super().apply(commits, position)


class Bench:
    """A writer over a fake backend, and what came of each request."""

    def __init__(self, max_requests: int = 1000, max_bytes: int = 1 << 20) -> None:
        self.backend = FakeBackend()
        rules = read_rules([], default_retention_ms=None, max_capacity=1)
        self.hub = Hub(rules, max_records=100)
        self.queue = WriteQueue(max_requests=max_requests, max_bytes=max_bytes)
        self.writer = Writer(
            self.hub, self.backend, self.queue, Turns(), make_committer(self.hub, self.backend)
        )
        self.outcomes: list[object] = []

    def put(self, request: WriteRequest) -> None:
        request.deliver = self.outcomes.append
        self.queue.put_nowait(request)

    def write(self, *values: bytes, name: str = "a") -> None:
        items: list[NewRow] = [(name, value, None, None) for value in values]
        self.put(WriteRows(items, lambda rows: [row.rev for row in rows]))

    async def drain(self) -> None:
        """Close the queue and run the writer to its end."""
        self.queue.close()
        await self.writer.run()


async def test_what_waits_together_is_committed_together() -> None:
    bench = Bench()
    for n in range(50):
        bench.write(b"%d" % n)
    await bench.drain()
    assert bench.backend.batches == [50]
    assert bench.outcomes == [[n] for n in range(1, 51)]
    assert bench.writer.statistics().commits == 1


async def test_nothing_is_published_or_answered_before_its_commit() -> None:
    bench = Bench()
    bench.write(b"1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        while not bench.backend.batches:
            assert bench.outcomes == []
            assert len(bench.hub.catalogue) == 0
            await trio.sleep(0)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.outcomes == [[1]]
        assert len(bench.hub.catalogue) == 1
        nursery.cancel_scope.cancel()


async def test_a_row_that_cannot_be_stored_fails_its_own_request_alone() -> None:
    bench = Bench()
    bench.backend.poison = b"2"
    bench.write(b"1")
    bench.write(b"0", b"2", b"0")
    bench.write(b"3")
    await bench.drain()
    good, bad, also_good = bench.outcomes
    assert (good, also_good) == ([1], [2])
    assert isinstance(bad, SerializationError)
    assert bench.hub.rev == 2


async def test_trouble_of_the_storage_fails_the_batch_and_the_next_one_may_pass() -> None:
    bench = Bench()
    bench.backend.fault = BackendError("the disk is full")
    bench.write(b"1")
    bench.write(b"2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        await trio.testing.wait_all_tasks_blocked()
        assert all(
            isinstance(o, RequestError) and o.reason is Reason.UNAVAILABLE for o in bench.outcomes
        )
        assert (len(bench.outcomes), len(bench.hub.catalogue), bench.hub.rev) == (2, 0, 0)
        bench.backend.fault = None
        bench.write(b"3")
        await trio.testing.wait_all_tasks_blocked()
        assert bench.outcomes[-1] == [1]
        nursery.cancel_scope.cancel()


async def test_a_fatal_fault_is_answered_and_raised() -> None:
    bench = Bench()
    bench.backend.fault = FatalBackendError("fsync failed")
    bench.write(b"1")
    with pytest.raises(FatalBackendError):
        await bench.drain()
    assert isinstance(bench.outcomes[0], FatalBackendError)


async def test_a_deletion_takes_its_turn_between_writes() -> None:
    bench = Bench()
    bench.write(b"1")
    bench.put(DeleteRecord("a", lambda rows: f"deleted {rows}"))
    bench.write(b"2")
    bench.put(DeleteRecord("nope", lambda rows: rows))
    await bench.drain()
    first, deleted, second, missing = bench.outcomes
    assert (first, deleted, second) == ([1], "deleted 1", [3])
    assert isinstance(missing, RequestError)
    assert bench.hub.catalogue.find("a") is not None


async def test_a_closed_queue_is_drained_and_takes_no_more() -> None:
    bench = Bench()
    bench.write(b"1")
    await bench.drain()
    assert bench.outcomes == [[1]]
    with pytest.raises(RequestError) as caught:
        bench.write(b"2")
    assert caught.value.reason is Reason.UNAVAILABLE


@pytest.mark.parametrize("limits", [(3, 1 << 20), (1000, 1600)])
async def test_a_full_queue_makes_who_puts_wait_and_loses_nothing(limits: tuple[int, int]) -> None:
    bench = Bench(*limits)

    async def put_one(n: int) -> None:
        request = WriteRows([("a", b"0123456789", n, None)], lambda rows: n)
        request.deliver = bench.outcomes.append
        await bench.queue.put(request)

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(put_one, n)
        await trio.testing.wait_all_tasks_blocked()
        assert len(bench.queue) == 3
        nursery.start_soon(bench.writer.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sorted(bench.outcomes, key=str) == sorted(range(20), key=str)


async def test_a_request_larger_than_the_queue_passes_alone() -> None:
    bench = Bench(max_bytes=10)
    bench.write(b"x" * 1000)
    with pytest.raises(trio.WouldBlock):
        bench.write(b"y")
    await bench.drain()
    assert bench.outcomes == [[1]]


async def test_housekeeping_runs_between_batches_and_when_idle(autojump_clock: object) -> None:
    bench = Bench()
    seen: list[bool] = []

    async def housekeep(idle: bool) -> bool:
        seen.append(idle)
        return False

    bench.writer.add_housekeeper(housekeep)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        await trio.sleep(10)
        assert seen[0] is False
        assert seen[-1] is True
        count = len(seen)
        await trio.sleep(1000)
        assert len(seen) == count, "an idle writer sleeps"
        bench.write(b"1")
        await trio.sleep(10)
        assert len(seen) > count
        nursery.cancel_scope.cancel()


async def test_housekeeping_that_fails_is_tried_again_and_stops_nothing(
    autojump_clock: object,
) -> None:
    bench = Bench()
    attempts: list[float] = []

    async def fail(idle: bool) -> bool:
        attempts.append(trio.current_time())
        raise BackendError("the file is busy")

    bench.writer.add_housekeeper(fail)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        for _ in range(3):
            bench.write(b"1")
            await trio.sleep(6)
        nursery.cancel_scope.cancel()
    assert bench.outcomes == [[1], [2], [3]]
    assert len(attempts) == bench.writer.statistics().housekeeping_errors >= 3
    assert min(b - a for a, b in itertools.pairwise(attempts)) >= 5


async def test_a_fatal_fault_settles_every_request_of_the_batch() -> None:
    bench = Bench()
    bench.backend.fault = FatalBackendError("fsync failed")
    bench.write(b"1")
    bench.put(
        WriteRows([("a", b"2", None, None)], lambda rows: rows, conditions=[Condition("a", 99)])
    )
    bench.put(DeleteRecord("a", lambda rows: rows))
    bench.write(b"3")
    with pytest.raises(FatalBackendError):
        await bench.drain()
    reasons = [outcome.reason for outcome in bench.outcomes if isinstance(outcome, RequestError)]
    assert sorted(reason.word for reason in reasons) == [
        "conflict",
        "unavailable",
        "unavailable",
        "unavailable",
    ]


class LaggingBackend(FakeBackend):
    """Indexes nothing before it is told to maintain; then refuses, or never ends."""

    slices = 0

    @property
    def indexed_rev(self) -> int:
        return 0

    async def maintain(self, up_to_rev: int) -> bool:
        await trio.sleep(0.25)
        self.slices += 1
        if self.fault is not None:
            raise self.fault
        return True


@pytest.mark.parametrize("fault", [None, BackendError("the disk is full")])
async def test_a_stop_waits_for_the_index_but_not_long_and_its_errors_are_no_reason_to_fail(
    fault: BackendError | None, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench()
    backend = LaggingBackend()
    writer = Writer(bench.hub, backend, bench.queue, Turns(), make_committer(bench.hub, backend))
    bench.write(b"1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await trio.testing.wait_all_tasks_blocked()
        backend.slices, backend.fault = 0, fault
        bench.queue.close()
    assert bench.outcomes == [[1]]
    assert 1 <= backend.slices <= 6


class Passes(trio.abc.Instrument):
    """How often the loop went round."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def write_in_lock_step(bench: Bench, rounds: int, thinks: int = 0) -> int:
    """Write, and write again some passes after the answer; return the passes of the last round."""
    passes = Passes()
    trio.lowlevel.add_instrument(passes)
    for _ in range(rounds):
        answered = trio.Event()
        request = WriteRows([("a", b"1", None, None)], lambda rows: [row.rev for row in rows])
        request.deliver = lambda _, answered=answered: answered.set()  # type: ignore[misc]
        passes.count = 0
        bench.queue.put_nowait(request)
        await answered.wait()
        for _ in range(thinks):
            await trio.lowlevel.checkpoint()
    trio.lowlevel.remove_instrument(passes)
    return passes.count


async def run_clients(bench: Bench) -> None:
    """Have eight clients write in lock-step, two of which come again in each pass."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        async with trio.open_nursery() as writing:
            for number in range(8):
                writing.start_soon(write_in_lock_step, bench, 20, number // 2)
        nursery.cancel_scope.cancel()
    assert sum(bench.backend.batches) == 8 * 20


async def test_clients_in_lock_step_share_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_GATHER_S", 10.0)
    bench = Bench()
    await run_clients(bench)
    assert len(bench.backend.batches) < 26


async def test_others_are_not_looked_for_at_every_other_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four clients that come all at once are four at every commit."""
    monkeypatch.setattr(gathering, "_GATHER_S", 10.0)
    bench, passes = Bench(), Passes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        trio.lowlevel.add_instrument(passes)
        async with trio.open_nursery() as writing:
            for _ in range(4):
                writing.start_soon(write_in_lock_step, bench, 80)
        trio.lowlevel.remove_instrument(passes)
        nursery.cancel_scope.cancel()
    assert bench.backend.batches.count(4) > 70
    assert passes.count / 80 < 3.5, "4 where they are"


async def test_a_batch_is_gathered_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_GATHER_S", 0.0)
    bench = Bench()
    await run_clients(bench)
    assert len(bench.backend.batches) > 30, "without time to gather they come apart"


async def test_a_lone_write_waits_for_nobody(
    mock_clock: trio.testing.MockClock,
) -> None:
    # The clock stands still: idle, the writer would take passes of its own.
    bench = Bench()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        await trio.testing.wait_all_tasks_blocked()
        # The writer is woken, the fake backend takes a pass, the client is woken.
        assert await write_in_lock_step(bench, 3) <= 3
        nursery.cancel_scope.cancel()


async def test_who_does_not_come_again_is_waited_for_once_and_for_a_moment(
    mock_clock: trio.testing.MockClock,
) -> None:
    bench = Bench()
    for _ in range(50):
        bench.write(b"1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        await trio.testing.wait_all_tasks_blocked()
        assert await write_in_lock_step(bench, 1) <= 5
        assert await write_in_lock_step(bench, 1) <= 3
        nursery.cancel_scope.cancel()
    assert bench.backend.batches == [50, 1, 1]
