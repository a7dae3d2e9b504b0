"""How what a request came to gets into the outbox, in the dialect of its call."""

from __future__ import annotations

import logging
from typing import Final

import trio

from recordd.connections.outbox import Outbox
from recordd.connections.request_counts import RequestCounts
from recordd.methods.peer import Peer
from recordd_protocol.dialect import Call, Malformed, Result
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import METHODS
from recordd_protocol.rows import Page

__all__ = ["Replies"]

logger: Final = logging.getLogger(__name__)


class Replies:
    """The answers and refusals of one connection; the one place where an error becomes one."""

    def __init__(
        self,
        outbox: Outbox,
        peer: Peer,
        counts: RequestCounts,
        *,
        page_rows: int,
        max_reply_bytes: int,
        one_renders: trio.CapacityLimiter,
    ) -> None:
        """Take what others may be answered with at most: what is longer `one_renders`."""
        self._outbox: Final = outbox
        self._peer: Final = peer
        self._counts: Final = counts
        self._page_rows: Final = page_rows
        self._max_reply_bytes: Final = max_reply_bytes
        self._one_renders: Final = one_renders

    def put(self, reply: bytes | None) -> None:
        """Have a reply sent, where there is one."""
        if reply is not None:
            self._outbox.put(reply)

    async def answer(self, call: Call, result: Result) -> None:
        """Render a result; one that is longer than others may be, in a thread."""
        if self.is_long(call, result):
            limiter = self._one_renders
            self.put(await trio.to_thread.run_sync(call.answer, result, limiter=limiter))
        else:
            self.put(call.answer(result))

    def is_long(self, call: Call, result: Result) -> bool:
        """Tell whether to render an answer would hold the loop up; only AimX has such answers."""
        if isinstance(result, bytes):
            return len(result) > self._max_reply_bytes
        if not isinstance(result, Page) or call.max_reply_bytes <= self._max_reply_bytes:
            return False
        if len(result.rows) > self._page_rows:
            return True
        return sum([len(row.body) for row in result.rows]) > self._max_reply_bytes

    def refuse(self, call: Call, error: Exception) -> None:
        """Answer with the reason; what is no refusal is a fault of ours, and logged."""
        self._counts.refused += 1
        if not isinstance(error, RequestError):
            logger.error("%s: %s failed", self._peer, call.method, exc_info=error)
            error = RequestError(Reason.INTERNAL, "internal error; see the daemon's log")
        method = METHODS.get(call.method)
        if method is not None and method.is_write and not call.wants_answer:
            self._counts.unanswered_writes_refused += 1
            text = "%s: %s refused, unanswered: %a"
            logger.warning(text, self._peer, call.method, str(error)[:200])
        self.put(call.refuse(error))

    def refuse_malformed(self, item: Malformed) -> None:
        """Answer what is no call, where that has an answer."""
        self._counts.refused += 1
        logger.debug("%s: malformed: %a", self._peer, item.text[:200])
        self.put(item.reply)
