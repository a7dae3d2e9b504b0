"""One connection's conversation: its requests in order, their outcomes to the outbox.

Requests take effect in the order in which they came. Writes are handed to the writer
without waiting for their commit, so pipelined ones share it; a request that reads waits
until the connection's own writes before it are committed, and so sees them. What takes
time, a query of the history, runs in a task of its own and holds nothing up.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Final, TypeVar

import trio

from recordd.connections.open_connections import Connection
from recordd.core import Core
from recordd.extending.points import QueryHandler
from recordd.following.feeder import Feeder
from recordd.following.open_subscriptions import OpenSubscriptions
from recordd.following.opening import Opening
from recordd.methods.caller import Caller
from recordd.methods.calling import go_through
from recordd.methods.dispatch import Binding, methods_of
from recordd.methods.gate import FULL_GRANTS, Grants
from recordd.methods.listing import Listing
from recordd.methods.outcome import Answer, Handled, Later, Outcome
from recordd.methods.peer import Peer
from recordd.outgoing.outbox import Outbox, OutboxLimits, Sender
from recordd.system.turns import TURN_S, Work
from recordd.writing.requests import DeleteRecord, TrimRecord, WriteRequest, WriteRows
from recordd_protocol.dialect import Call, Malformed, Result
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.framing import Framing
from recordd_protocol.rows import Page

__all__ = ["Session", "make_subscriptions", "open_session"]

logger: Final = logging.getLogger(__name__)
T = TypeVar("T")

_LARGE_ROWS: Final = 1024
"""To render so many takes some 0.5 ms."""

_NO_CALLS: Final = (bytes, Malformed)
"""What a message may come to beside calls."""


@contextlib.asynccontextmanager
async def open_session(
    core: Core,
    peer: Peer,
    sender: Sender,
    framing: Framing,
    connection: Connection,
    *,
    grants: Grants = FULL_GRANTS,
    idle_timeout_ms: int | None = None,
) -> AsyncIterator[Session]:
    """Run a session whose messages leave through `sender`; at the end, send what is left.

    Where nothing is asked or followed for `idle_timeout_ms`, its connection is not read on.
    Cancelled, or when the daemon cuts the connection, it ends at once.
    """
    settings = core.settings
    limits = OutboxLimits(
        settings.outbox_bytes, settings.subscriber_updates, settings.subscriber_bytes
    )
    outbox = Outbox(limits, sender, core.waiting)
    with connection.scope, core.connections.watch(outbox, connection):
        async with trio.open_nursery() as nursery:
            session = Session(core, nursery, outbox, framing, peer=peer, grants=grants)
            nursery.start_soon(outbox.run)
            idling = trio.CancelScope()
            if idle_timeout_ms is not None:
                idle_s = idle_timeout_ms / 1000
                nursery.start_soon(session.watch_idleness, idle_s, connection, idling)
            try:
                yield session
            finally:
                idling.cancel()
                session.close()
            outbox.close()


class Session:
    """The state of one connection above its transport."""

    def __init__(
        self,
        core: Core,
        nursery: trio.Nursery,
        outbox: Outbox,
        framing: Framing,
        *,
        peer: Peer,
        grants: Grants,
    ) -> None:
        self.core: Final = core
        self.peer: Final = peer
        self.outbox: Final = outbox
        dialects = core.dialects[framing]
        self._last_resort: Final = dialects[-1]
        self._decode_by_last_resort: Final = dialects[-1].decode
        self._dialects: Final = [(dialect.claims, dialect.decode) for dialect in dialects[:-1]]
        self._methods: Final = methods_of(core.extensions)
        self._subscriptions: Final = make_subscriptions(core, nursery, outbox)
        self._caller: Final = Caller(core, peer, grants, self._subscriptions)
        self._nursery: Final = nursery
        self._active_at = trio.current_time()
        self._waiting: Final = core.waiting
        self._counts: Final = core.request_counts
        self._pending_writes = 0
        self._pending_queries: Final = self._caller.queries
        self._queries: Final = trio.CapacityLimiter(core.parallel_queries)
        self._settled: Final = trio.lowlevel.ParkingLot()

    async def receive(self, messages: Sequence[bytes]) -> None:
        """Handle messages in order and send the answers that are ready.

        Waits where the write queue or the outbox is full, or the peer is slow to take its
        answers. Cancelled, the requests handled so far have had or will have their effect,
        the others none.
        """
        self._active_at = trio.current_time()
        self.outbox.hold()
        clock = time.perf_counter
        turn_ends = clock() + TURN_S
        for message in messages:
            for call in self._decode(message):
                if isinstance(call, _NO_CALLS):
                    self._note_no_call(call)
                elif (waiting := self._begin(call)) is not None:
                    await self._wait(waiting)
                if clock() > turn_ends:
                    turn_ends = await self._wait(self.core.turns.next())
            if self.outbox.is_over:
                await self._wait(self.outbox.wait_under())
        await self.outbox.flush()

    async def finish(self, refusal: RequestError | None = None) -> None:
        """End the subscriptions, and wait until every request has been answered.

        `refusal` is why the last message could not be read, in the dialect of last resort.
        """
        self.close()
        while self._pending_writes or len(self._pending_queries):
            await self._settled.park()
        if refusal is not None:
            self._counts.refused += 1
            self._send(self._last_resort.refuse_message(refusal))

    async def watch_idleness(
        self, timeout_s: float, connection: Connection, scope: trio.CancelScope
    ) -> None:
        """Stop reading from a peer that neither asks nor follows for so long; then end."""
        with scope:
            while (rest_s := self._active_at + timeout_s - trio.current_time()) > 0:
                await trio.sleep(rest_s)
                if self._pending_writes or len(self._pending_queries) or len(self._subscriptions):
                    self._active_at = trio.current_time()
            logger.debug("%s: closed: idle for %g s", self.peer, timeout_s)
            self.core.connections.end_idle(connection)

    def close(self) -> None:
        """End the subscriptions; no further pages will be asked for."""
        self._subscriptions.close_all()
        self._caller.close()

    def _decode(self, message: bytes) -> Sequence[Call | Malformed | bytes]:
        """Decode a message in the dialect that it says it is written in."""
        for claims, decode in self._dialects:
            if claims(message):
                return decode(message)
        return self._decode_by_last_resort(message)

    def _note_no_call(self, item: Malformed | bytes) -> None:
        if isinstance(item, bytes):
            self.outbox.put(item)
            return
        self._counts.refused += 1
        logger.debug("%s: malformed: %a", self.peer, item.text[:200])
        self._send(item.reply)

    async def _wait(self, waiting: Awaitable[T]) -> T:
        """Wait in the middle of the messages; answers that are ready leave meanwhile."""
        self.outbox.release()
        result = await waiting
        self.outbox.hold()
        return result

    def _begin(self, call: Call) -> Awaitable[None] | None:
        """Start one request, or return what has to be awaited to have it started.

        This is the hot path: a coroutine for each request would cost more than most of them.
        """
        self._counts.received += 1
        try:
            binding = self._methods[call.method]
            params = binding.admit(self._caller, call.params)
            if not binding.is_write:
                if self._pending_writes:
                    return self._begin_read_later(call, binding, params)
                if binding.is_query or self._waiting.size > self._waiting.max_bytes:
                    self._check_room(call, binding)
            return self._take(call, binding.handle(self._caller, params))
        except Exception as error:
            self._refuse(call, error)
        return None

    def _take(self, call: Call, handled: Handled) -> Awaitable[None] | None:
        """Go on with what a handler came to: the one place that tells the outcomes apart."""
        # In the order of how often each comes: `match` costs twice as much.
        if type(handled) is Answer:
            result = handled.result
            if type(result) is Page and self._is_long(call, result):
                self._begin_query(call, Later(_return(result)))
            elif (reply := call.answer(result)) is not None:
                self.outbox.put(reply)
            return None
        if isinstance(handled, (WriteRows, DeleteRecord, TrimRecord)):
            return self._queue_write(call, handled)
        if isinstance(handled, Later):
            self._begin_query(call, handled)
            return None
        if isinstance(handled, Listing):
            return self._begin_listing(call, handled)
        if isinstance(handled, Opening):
            return self._begin_subscription(call, handled)
        return self._begin_work(call, Work(handled))

    def _begin_work(self, call: Call, work: Work[Outcome]) -> Awaitable[None] | None:
        """Do at once what is soon done, answer included; go on with the rest in turns."""
        if work.begin() and not self._is_large(work.result):
            return self._take(call, work.result)
        return self._go_on(call, work)

    def _is_large(self, outcome: Outcome) -> bool:
        """Tell whether to answer takes a good part of a turn: a hundred may ask in one pass."""
        match outcome:
            case Opening():
                has_values = outcome.snapshot or outcome.after_rev is not None
                records = len(self.core.hub.catalogue)
                return has_values and not outcome.pattern.is_exact and records > _LARGE_ROWS
            case Answer(Page(rows=rows)):
                return len(rows) > _LARGE_ROWS
            case _:
                return False

    async def _go_on(self, call: Call, work: Work[Outcome]) -> None:
        try:
            waiting = self._take(call, await go_through(self.core, work))
        except Exception as error:
            self._refuse(call, error)
        else:
            if waiting is not None:
                await waiting

    async def _begin_read_later(self, call: Call, binding: Binding, params: Any) -> None:
        """Let the connection's own writes before it be committed first, so that it sees them."""
        while self._pending_writes:
            await self._settled.park()
        try:
            self._check_room(call, binding)
            waiting = self._take(call, binding.handle(self._caller, params))
        except Exception as error:
            self._refuse(call, error)
        else:
            if waiting is not None:
                await waiting

    def _begin_listing(self, call: Call, listing: Listing) -> Awaitable[None] | None:
        """Answer a short listing at once; a long one is built first, then it goes on."""
        if call.wants_answer:
            listing.check_room(call.max_reply_bytes)
            if not listing.is_short:
                return self._send_listing(call, listing)
        self._send(call.answer(listing.build_nowait() if call.wants_answer else None))
        return None

    async def _send_listing(self, call: Call, listing: Listing) -> None:
        try:
            rows = await listing.build(self.core.turns, call.max_reply_bytes)
            await self._send_result(call, rows)
        except Exception as error:
            self._refuse(call, error)

    def _begin_subscription(self, call: Call, opening: Opening) -> Awaitable[None] | None:
        if not call.wants_answer or self.outbox.is_closed:  # nobody would know its id
            self._send(call.answer(None))
            return None
        if self._subscriptions.is_opening:
            return self._begin_subscription_later(call, opening)
        answer, subscription = self._subscriptions.open(opening, call)
        self._send(call.answer(answer))
        self._subscriptions.start(subscription)
        return None

    async def _begin_subscription_later(self, call: Call, opening: Opening) -> None:
        while self._subscriptions.is_opening and not self.outbox.is_closed:
            await self._subscriptions.wait_opened()
            await self.core.turns.run(self.core.hub.catalogue.prepare_snapshot(opening.pattern))
        try:
            self._begin_subscription(call, opening)
        except RequestError as error:
            self._refuse(call, error)

    def _queue_write(self, call: Call, request: WriteRequest) -> Awaitable[None] | None:
        request.deliver = functools.partial(self._settle_write, call)
        try:
            self.core.queue.put_nowait(request)
        except trio.WouldBlock:
            return self._queue_write_later(call, request)
        self._pending_writes += 1
        return None

    async def _queue_write_later(self, call: Call, request: WriteRequest) -> None:
        try:
            await self.core.queue.put(request)
        except RequestError as error:
            self._refuse(call, error)
        else:
            # The writer has not settled it yet: `put` returns without letting others run.
            self._pending_writes += 1

    def _settle_write(self, call: Call, outcome: Result | RequestError) -> None:
        self._pending_writes -= 1
        if isinstance(outcome, RequestError):
            self._refuse(call, outcome)
        else:
            self._send(call.answer(outcome))
        if not self._pending_writes:
            self._settled.unpark_all()

    def _check_room(self, call: Call, binding: Binding) -> None:
        """Refuse a read that there is no room for, before any work is done for it."""
        if self._waiting.size > self._waiting.max_bytes:
            self._check_room_for_answer()
        if binding.is_query:
            self._pending_queries.check_room()
            self._caller.max_reply_bytes = call.max_reply_bytes

    def _check_room_for_answer(self) -> None:
        if self._waiting.refuses(is_behind=self.outbox.is_behind):
            text = f"max_waiting_bytes: {self._waiting.size} bytes wait to be taken"
            raise RequestError(Reason.OVERLOADED, text)

    def _begin_query(self, call: Call, query: Later) -> None:
        self._pending_queries.begin()
        self._nursery.start_soon(self._run_query, call, query)

    async def _run_query(self, call: Call, query: Later) -> None:
        try:
            # So few at a time, and with room for the answer: bounds what a peer that
            # does not read can make us hold.
            async with self._queries:
                await self.outbox.wait_under()
                await self._send_result(call, await query.result)
        except Exception as error:
            self._refuse(call, error)
        finally:
            query.close()  # cancelled before its turn it would never have been awaited
            self._pending_queries.end()
            self._settled.unpark_all()

    async def _send_result(self, call: Call, result: Result) -> None:
        """Render a result; one that is longer than others may be, in a thread."""
        if self._is_long(call, result):
            one_renders = self.core.one_renders
            self._send(await trio.to_thread.run_sync(call.answer, result, limiter=one_renders))
        else:
            self._send(call.answer(result))

    def _is_long(self, call: Call, result: Result) -> bool:
        """Tell whether to render an answer would hold the loop up; only AimX has such answers."""
        if type(result) is bytes:
            return len(result) > self.core.settings.max_reply_bytes
        if type(result) is not Page:
            return False
        most_rows, most_bytes = self.core.settings.page_rows, self.core.settings.max_reply_bytes
        if call.max_reply_bytes <= most_bytes:
            return False
        if len(result.rows) > most_rows:
            return True
        return sum([len(row.body) for row in result.rows]) > most_bytes

    def _send(self, reply: bytes | None) -> None:
        if reply is not None:
            self.outbox.put(reply)

    def _refuse(self, call: Call, error: Exception) -> None:
        """Answer with the reason. The one place where an exception becomes a refusal."""
        self._counts.refused += 1
        if not isinstance(error, RequestError):
            logger.error("%s: %s failed", self.peer, call.method, exc_info=error)
            error = RequestError(Reason.INTERNAL, "internal error; see the daemon's log")
        binding = self._methods.get(call.method)
        if binding is not None and binding.is_write and not call.wants_answer:
            self._counts.unanswered_writes_refused += 1
            logger.warning(
                "%s: %s refused, unanswered: %a", self.peer, call.method, str(error)[:200]
            )
        self._send(call.refuse(error))


async def _return(result: Result) -> Result:
    return result


def make_subscriptions(core: Core, nursery: trio.Nursery, outbox: Outbox) -> OpenSubscriptions:
    """Return a connection's subscriptions, none yet; the task that feeds them is in `nursery`."""
    feeder = Feeder(
        nursery,
        outbox,
        core.hub,
        core.turns,
        history=core.extensions.get(QueryHandler),
        page_rows=core.settings.subscriber_updates,
    )
    return OpenSubscriptions(
        core.hub,
        outbox,
        feeder,
        counters=core.counters,
        max_subscriptions=core.settings.max_subscriptions,
    )
