"""When a connection counts as idle, by a clock that does not wait."""

from __future__ import annotations

import trio
import trio.testing

from recordd.methods.peer import Peer
from recordd.session.idleness import IdleWatch
from recordd.session.session import open_session
from recordd.system.reminders import Reminders
from recordd_protocol.framing import Framing
from tests.core_in_memory import CoreInMemory, running_core
from tests.server.session.test_grants import Idle, Kept
from tests.server.session.test_session import SlowBackend
from tests.wire import request


class Worker:
    """Asked something at some times, busy up to another."""

    def __init__(self, busy_until: float = 0.0) -> None:
        self.active_at = trio.current_time()
        self.busy_until = trio.current_time() + busy_until

    @property
    def is_busy(self) -> bool:
        return trio.current_time() < self.busy_until


async def wait_idle(worker: Worker, timeout_s: float) -> None:
    """Return when it was told that a worker is idle."""
    reminders, idle = Reminders(), trio.Event()
    IdleWatch(worker, timeout_s, reminders, idle.set)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reminders.run)
        await idle.wait()
        assert not reminders
        nursery.cancel_scope.cancel()


async def test_who_does_nothing_is_idle_after_the_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    started_at = trio.current_time()
    await wait_idle(Worker(), 10)
    assert trio.current_time() - started_at == 10


async def test_a_request_puts_it_off(autojump_clock: trio.testing.MockClock) -> None:
    started_at, worker = trio.current_time(), Worker()

    async def ask() -> None:
        await trio.sleep(7)
        worker.active_at = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_idle(worker, 10)
    assert trio.current_time() - started_at == 17


async def test_who_is_busy_is_not_idle(autojump_clock: trio.testing.MockClock) -> None:
    started_at = trio.current_time()
    await wait_idle(Worker(busy_until=25), 10)
    assert trio.current_time() - started_at == 30  # looked at every 10 s


async def test_nobody_is_told_after_the_watch_has_stopped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    reminders, idle = Reminders(), trio.Event()
    watch = IdleWatch(Worker(busy_until=15), 10, reminders, idle.set)
    with trio.move_on_after(11):
        await reminders.run()  # it looks a second time
    watch.stop()
    assert not reminders
    with trio.move_on_after(100):
        await reminders.run()
    assert not idle.is_set()


async def test_a_session_ends_a_peer_that_is_idle_and_looks_no_more_at_one_that_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_core() as core:
        for idle_ms, ended in ((None, 0), (5000, 1)):
            async with open_session(
                core.core, Peer("test"), Kept(), Framing.LINE, Idle(), idle_timeout_ms=idle_ms
            ):
                await trio.sleep(6)
            assert core.core.connections.statistics().idle_closed == ended
        async with open_session(
            core.core, Peer("test"), Kept(), Framing.LINE, Idle(), idle_timeout_ms=5000
        ):
            assert core.core.reminders
        assert not core.core.reminders


async def test_a_peer_that_follows_is_busy_until_it_follows_no_more(core: CoreInMemory) -> None:
    async with open_session(core.core, Peer("test"), Kept(), Framing.LINE, Idle()) as session:
        seen = [session.is_busy]
        for method, params in (
            ("record.subscribe", {"name": "a"}),
            ("record.unsubscribe", {"subscription": "s1"}),
        ):
            await session.receive([request(method, 1, **params)])
            seen.append(session.is_busy)
    assert seen == [False, True, False]


async def test_a_peer_that_waits_for_a_query_is_busy_and_gets_its_answer_at_the_end() -> None:
    backend, kept = SlowBackend(), Kept()
    async with running_core(backend) as core:
        async with open_session(core.core, Peer("test"), kept, Framing.LINE, Idle()) as session:
            await session.receive([request("record.query", 1, limit=None)])
            assert session.is_busy
            backend.gate.set()
            await session.finish()
        assert len(kept.messages) == 1
