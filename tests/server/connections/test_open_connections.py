"""The connections that are open: who is ended from this side, and how each is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from recordd.connections.open_connections import OpenConnections
from recordd.connections.outbox import Outbox, OutboxLimits
from recordd.connections.waiting import Waiting


class Wall:
    """A `Sender` whose peer takes nothing."""

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return b"\n".join(messages)

    def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
        return messages

    async def send(self, messages: list[bytes], note_progress: Callable[[], None]) -> bool:
        await trio.sleep_forever()
        raise AssertionError("it never wakes")


class End:
    """A connection that notes how it is ended."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.is_read = True

    def stop_reading(self) -> None:
        self.is_read = False


def make(send_timeout_s: float = 30.0) -> tuple[OpenConnections, Outbox, End]:
    waiting = Waiting(1000)
    outbox = Outbox(OutboxLimits(100, 10, 100), Wall(), waiting)
    return OpenConnections(waiting, send_timeout_s=send_timeout_s), outbox, End()


async def test_nothing_is_read_after_the_stop_by_old_connections_or_new_ones() -> None:
    connections, outbox, old = make()
    new = End()
    with connections.watch(outbox, old):
        connections.stop_reading()
        assert not old.is_read
    with connections.watch(outbox, new):
        assert not new.is_read
    assert connections.is_stopping


async def test_a_connection_that_has_ended_is_not_stopped() -> None:
    connections, outbox, gone = make()
    with connections.watch(outbox, gone):
        pass
    connections.stop_reading()
    assert gone.is_read


async def test_an_idle_connection_is_read_no_further_and_counted() -> None:
    connections, _, idle = make()
    connections.end_idle(idle)
    assert (idle.is_read, idle.scope.cancel_called) == (False, False)
    assert connections.statistics().idle_closed == 1


async def test_a_dead_peer_is_cut_at_once_and_counted() -> None:
    connections, outbox, dead = make()
    connections.cut_dead(outbox, dead)
    assert (outbox.is_closed, dead.scope.cancel_called) == (True, True)
    assert connections.statistics().dead_peers_closed == 1


async def test_a_peer_that_takes_nothing_is_cut_and_counted() -> None:
    connections, outbox, stuck = make(send_timeout_s=0.01)
    with trio.fail_after(20), connections.watch(outbox, stuck):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connections.cut_stuck)
            outbox.put(b"x")
            with stuck.scope:
                await outbox.flush()
            nursery.cancel_scope.cancel()
    assert stuck.scope.cancelled_caught
    assert connections.statistics().slow_peers_closed == 1
