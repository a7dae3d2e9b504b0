"""The bounded channel in front of the writer."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from recordd.writing.queue import WriteQueue
from recordd.writing.requests import WriteRows
from recordd.writing.statistics import QueueStatistics


def write(size_bytes: int) -> WriteRows:
    """A request whose rows take so many bytes."""
    empty = WriteRows([("a", b"", None, None)], lambda rows: None).size_bytes
    return WriteRows([("a", b"1" * (size_bytes - empty), None, None)], lambda rows: None)


async def test_bytes_that_were_taken_make_room_again() -> None:
    queue = WriteQueue(max_requests=100, max_bytes=2000)
    for _ in range(5):
        queue.put_nowait(write(1000))
        queue.put_nowait(write(1000))
        with pytest.raises(trio.WouldBlock):
            queue.put_nowait(write(1000))
        assert queue.statistics() == QueueStatistics(requests=2, bytes=2000)
        assert len(queue.take_nowait(1 << 20)) == 2
    assert queue.statistics() == QueueStatistics(requests=0, bytes=0)


async def test_a_request_larger_than_the_queue_passes_alone() -> None:
    queue = WriteQueue(max_requests=100, max_bytes=2000)
    queue.put_nowait(large := write(9000))
    with pytest.raises(trio.WouldBlock):
        queue.put_nowait(write(1000))
    assert queue.take_nowait(1) == [large]


async def test_a_batch_takes_the_oldest_until_it_is_full() -> None:
    queue = WriteQueue(max_requests=100, max_bytes=1 << 20)
    requests = [write(1000) for _ in range(5)]
    for request in requests:
        queue.put_nowait(request)
    assert queue.take_nowait(1000) == requests[:1]
    assert queue.take_nowait(1500) == requests[1:3]
    assert queue.take_nowait(1 << 20) == requests[3:]
    assert queue.take_nowait(1 << 20) == []


async def test_who_waits_for_room_gets_it_from_a_take() -> None:
    queue = WriteQueue(max_requests=1, max_bytes=1 << 20)
    queue.put_nowait(write(1000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.put, waiting := write(1000))
        await trio.testing.wait_all_tasks_blocked()
        queue.take_nowait(1)
    assert queue.take_nowait(1) == [waiting]
