"""What becomes a reply, what becomes none, and what is counted."""

from __future__ import annotations

import logging

import pytest
import trio

from recordd.connections.outbox import Outbox, OutboxLimits
from recordd.connections.request_counts import RequestCounts
from recordd.methods.peer import Peer
from recordd.session.replies import Replies
from recordd_protocol.aimx import Aimx
from recordd_protocol.dialect import Call
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.framing import Framing
from recordd_protocol.rows import Page, Row
from tests.server.session.test_grants import Kept

DENIED = RequestError(Reason.DENIED, "no")


def call(message: bytes) -> Call:
    (found,) = Aimx(Framing.LINE, max_reply_bytes=10_000).decode(message)
    assert not isinstance(found, tuple | bytes)
    return found


GET = b'{"t":"req","id":1,"method":"record.query"}'
WRITE = b'{"t":"write","topic":"a","payload":1}'


class Box:
    """Replies, and all that they look at."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.counts = RequestCounts()
        self.outbox = Outbox(OutboxLimits(1 << 20, 10, 1 << 20), self.kept)
        self.replies = Replies(
            self.outbox,
            Peer("test"),
            self.counts,
            page_rows=3,
            max_reply_bytes=1000,
            one_renders=trio.CapacityLimiter(1),
        )


def page(rows: int, size: int = 1) -> Page:
    return Page([Row("a", b"1" * size, n, n + 1) for n in range(rows)], rev=rows, epoch="e")


@pytest.mark.parametrize(
    ("result", "is_long"),
    [
        (page(3), False),
        (page(4), True),
        (page(2, 600), True),
        (b"x" * 1000, False),
        (b"x" * 1001, True),
        (page(4).rows[0], False),
    ],
)
async def test_what_is_longer_than_others_may_be_is_long(
    result: Page | bytes | Row, is_long: bool
) -> None:
    assert Box().replies.is_long(call(GET), result) == is_long


async def test_a_long_answer_has_the_same_bytes_as_a_short_one() -> None:
    box = Box()
    await box.replies.answer(call(GET), page(4))
    await box.outbox.flush()
    assert box.kept.messages == [call(GET).answer(page(4))]


async def test_a_write_that_nobody_is_told_of_is_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = Box()
    box.replies.refuse(call(WRITE), DENIED)
    box.replies.refuse(call(GET), DENIED)
    assert (box.counts.refused, box.counts.unanswered_writes_refused) == (2, 1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    await box.outbox.flush()
    assert len(box.kept.messages) == 1


async def test_a_fault_of_ours_is_answered_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = Box()
    box.replies.refuse(call(GET), KeyError("secret"))
    await box.outbox.flush()
    assert b"secret" not in box.kept.messages[0]
    assert caplog.records[0].exc_info is not None
