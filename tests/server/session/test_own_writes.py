"""A connection's writes, from the queue to their answers."""

from __future__ import annotations

import trio
import trio.testing

from recordd.session.own_writes import OwnWrites
from recordd.system.parking import SpareLot
from recordd.writing.queue import WriteQueue
from recordd.writing.requests import DeleteRecord, settle_all
from recordd_protocol.errors import Reason, RequestError
from tests.server.session.test_replies import GET as SET
from tests.server.session.test_replies import WRITE, Box, call


def deletion() -> DeleteRecord:
    return DeleteRecord("a", lambda rows: rows)


async def test_a_write_that_finds_the_queue_full_counts_from_when_there_is_room() -> None:
    queue = WriteQueue(max_requests=1, max_bytes=1 << 20)
    settled, box = SpareLot(), Box()
    writes = OwnWrites(queue, box.outbox, box.replies, settled)
    assert writes.begin(call(WRITE), deletion()) is None
    waiting = writes.begin(call(WRITE), deletion())
    assert waiting is not None
    assert writes.pending == 1

    async def put() -> None:
        await waiting

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        nursery.start_soon(writes.wait)
        for pending in (2, 1):
            await trio.testing.wait_all_tasks_blocked()
            (request,) = queue.take_nowait(1)
            await trio.testing.wait_all_tasks_blocked()
            assert writes.pending == pending
            request.settle(1)
    assert writes.pending == 0


async def test_a_write_that_waits_for_room_is_refused_when_the_queue_closes() -> None:
    queue, box = WriteQueue(max_requests=1, max_bytes=1 << 20), Box()
    writes = OwnWrites(queue, box.outbox, box.replies, SpareLot())
    writes.begin(call(WRITE), deletion())
    waiting = writes.begin(call(WRITE), deletion())
    assert waiting is not None
    queue.close()
    await waiting
    assert (writes.pending, box.counts.unanswered_writes_refused) == (1, 1)


async def test_the_answers_of_a_commit_leave_at_once_in_one_send_a_connection() -> None:
    queue = WriteQueue(max_requests=10, max_bytes=1 << 20)
    boxes = [Box(), Box()]
    connections = [OwnWrites(queue, box.outbox, box.replies, SpareLot()) for box in boxes]
    for writes in connections * 2:
        writes.begin(call(SET), deletion())
    settle_all((request, 1) for request in queue.take_nowait(1 << 20))
    for box, writes in zip(boxes, connections, strict=True):
        assert box.kept.messages == [b'{"t":"reply","id":1,"ok":1}'] * 2
        assert (box.kept.sends, writes.pending, box.outbox.is_empty) == (1, 0, True)


async def test_a_refusal_by_the_writer_leaves_at_once_too() -> None:
    queue, box = WriteQueue(max_requests=1, max_bytes=1 << 20), Box()
    writes = OwnWrites(queue, box.outbox, box.replies, SpareLot())
    writes.begin(call(SET), deletion())
    queue.take_nowait(1)[0].settle(RequestError(Reason.CONFLICT, "no"))
    assert b"no" in b"".join(box.kept.messages)
    assert (writes.pending, box.counts.refused) == (0, 1)
