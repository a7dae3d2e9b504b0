"""One connection's conversation: its requests in order, their outcomes to the outbox.

Requests take effect in the order in which they came. Writes are handed to the writer
without waiting for their commit, so pipelined ones share it; a request that reads waits
until the connection's own writes before it are committed, and so sees them. What takes
time, a query of the history, runs in a task of its own and holds nothing up.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Generator, Sequence
from typing import Any, Final

import trio

from recordd.connections.open_connections import Connection
from recordd.connections.outbox import Outbox, OutboxLimits, Sender
from recordd.core import Core
from recordd.extending.points import QueryHandler
from recordd.following.feeder import Feeder
from recordd.following.open_subscriptions import OpenSubscriptions
from recordd.following.opening import Opening
from recordd.methods.caller import Caller
from recordd.methods.dispatch import Binding, methods_of
from recordd.methods.gate import FULL_GRANTS, Grants
from recordd.methods.listing import Listing
from recordd.methods.long_work import go_through
from recordd.methods.outcome import Answer, Handled, Later, Outcome
from recordd.methods.peer import Peer
from recordd.session.idleness import IdleWatch
from recordd.session.own_writes import OwnWrites
from recordd.session.queries import Queries
from recordd.session.replies import Replies
from recordd.session.runs import Runs, split_runs
from recordd.system.parking import SpareLot
from recordd.system.turns import TURN_S, Work
from recordd.writing.requests import DeleteRecord, TrimRecord, WriteRows
from recordd_protocol.dialect import Call, Dialect, Malformed, PlainCall, Result
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.framing import Framing
from recordd_protocol.rows import Page

__all__ = ["Session", "make_subscriptions", "open_session"]

logger: Final = logging.getLogger(__name__)

_Handling = Generator[Awaitable[object], None, None]
"""Messages being handled: it yields what has to be awaited before it can go on.

What decides is no coroutine so: a connection whose messages need no wait needs no task of its own.
"""

_LARGE_ROWS: Final = 1024
"""To render so many takes some 0.5 ms."""

_BURST: Final = 32
"""Messages that are decoded together: as objects they take more memory than as text."""


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
    with core.connections.watch(outbox, connection):
        async with trio.open_nursery() as nursery:
            connection.scope = nursery.cancel_scope
            session = Session(core, nursery, outbox, framing, peer=peer, grants=grants)
            outbox.run_in(nursery)
            idling = session.watch_idle(idle_timeout_ms, connection)
            try:
                yield session
            except BaseException:
                outbox.discard()  # nobody is left to send
                raise
            finally:
                if idling is not None:
                    idling.stop()
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
        self._dialects: Final = core.dialects[framing]
        self._dialect = self._dialects[-1]
        """Whose plain requests are looked for: that of the latest message that was none."""
        self._methods: Final = methods_of(core.extensions)
        self._subscriptions: Final = make_subscriptions(core, nursery, outbox)
        self._caller: Final = Caller(core, peer, grants, self._subscriptions)
        self._waiting: Final = core.waiting
        self._counts: Final = core.request_counts
        self._replies: Final = Replies(
            outbox,
            peer,
            core.request_counts,
            page_rows=core.settings.page_rows,
            max_reply_bytes=core.settings.max_reply_bytes,
            one_renders=core.one_renders,
        )
        self._settled: Final = SpareLot()
        self._writes: Final = OwnWrites(core.queue, outbox, self._replies, self._settled)
        self._runs: Final = Runs(
            self._caller, self._methods.granted_to(grants), outbox, self._writes
        )
        self._queries: Final = Queries(
            nursery,
            outbox,
            self._replies,
            self._caller.queries,
            parallel=core.parallel_queries,
            settled=self._settled,
        )
        self._now: Final = trio.lowlevel.current_clock().current_time
        self.active_at = self._now()
        """When something last came."""
        self._turn_ends = 0.0

    async def receive(self, messages: Sequence[bytes]) -> None:
        """Handle messages in order and send the answers that are ready.

        Waits where the write queue or the outbox is full, or the peer is slow to take its
        answers. Cancelled, the requests handled so far have had or will have their effect,
        the others none.

        `messages` are those of one read: that bounds how long it takes to decode some ahead.
        """
        if (rest := self.begin_receive(messages)) is not None:
            await rest

    def begin_receive(self, messages: Sequence[bytes]) -> Awaitable[None] | None:
        """Do as `receive`, as far as that needs no wait; return what is to be awaited then.

        Any task may call this, and the rest be awaited by another: nothing of the connection
        is to be received before that is done.
        """
        self.active_at = self._now()
        self.outbox.hold()
        self._turn_ends = time.perf_counter() + TURN_S
        handling = self._handle(messages)
        if (waiting := self._advance(handling)) is not None:
            return self._receive_rest(handling, waiting)
        return self.outbox.begin_flush()

    async def finish(self, refusal: RequestError | None = None) -> None:
        """End the subscriptions, and wait until every request has been answered.

        `refusal` is why the last message could not be read, in the dialect of last resort.
        """
        self.close()
        while self._has_pending:
            await self._settled.park()
        if refusal is not None:
            self._counts.refused += 1
            self._replies.put(self._dialects[-1].refuse_message(refusal))

    @property
    def is_busy(self) -> bool:
        """Whether something is followed, or a request is still to be answered."""
        return self._has_pending or len(self._subscriptions) > 0

    def watch_idle(self, timeout_ms: int | None, connection: Connection) -> IdleWatch | None:
        """Stop reading from a peer once it neither asks nor follows for so long; None: never."""
        if timeout_ms is None:
            return None
        timeout_s = timeout_ms / 1000

        def end() -> None:
            logger.debug("%s: closed: idle for %g s", self.peer, timeout_s)
            self.core.connections.end_idle(connection)

        return IdleWatch(self, timeout_s, self.core.reminders, end)

    def close(self) -> None:
        """End the subscriptions; no further pages will be asked for."""
        self._subscriptions.close_all()
        self._caller.close()

    @property
    def _has_pending(self) -> bool:
        return self._writes.pending > 0 or len(self._caller.queries) > 0

    def _handle(self, messages: Sequence[bytes]) -> _Handling:
        """Handle messages in order, up to the last."""
        position = 0
        while position < len(messages):
            burst = messages[position : position + _BURST]
            calls = self._dialect.decode_plain(burst)
            if calls:
                yield from self._handle_plain(calls)
                if time.perf_counter() > self._turn_ends:
                    yield from self._end_turn()
            if len(calls) < len(burst):
                yield from self._handle_other(burst[len(calls)])
                position += 1
            position += len(calls)

    def _handle_plain(self, calls: Sequence[PlainCall]) -> _Handling:
        """Handle calls that were decoded with their parameters, in order: the hot path."""
        for run in split_runs(calls):
            if not self._runs.take(run):
                for call in run:
                    yield from self._handle_call(call)
            elif self.outbox.is_over:
                yield self.outbox.wait_under()

    def _handle_call(self, call: Call) -> _Handling:
        """Handle any call."""
        if (waiting := self._begin(call)) is not None:
            yield waiting
        if self.outbox.is_over:
            yield self.outbox.wait_under()
        if time.perf_counter() > self._turn_ends:
            yield from self._end_turn()

    def _handle_other(self, message: bytes) -> _Handling:
        """Handle a message that is no plain request."""
        for item in self._find_dialect(message).decode(message):
            if isinstance(item, bytes):
                self.outbox.put(item)
            elif isinstance(item, Malformed):
                self._replies.refuse_malformed(item)
            elif (waiting := self._begin(item)) is not None:
                yield waiting
            if time.perf_counter() > self._turn_ends:
                yield from self._end_turn()
        if self.outbox.is_over:
            yield self.outbox.wait_under()

    def _end_turn(self) -> _Handling:
        """Let others run."""
        yield self.core.turns.next()
        self._turn_ends = time.perf_counter() + TURN_S

    def _advance(self, handling: _Handling) -> Awaitable[object] | None:
        """Go on to where something has to be awaited, or to the end: then it returns None.

        While it waits, answers that are ready leave, and writes that were begun are committed.
        """
        try:
            waiting = next(handling, None)
        finally:
            self._writes.announce()
        if waiting is not None:
            self.outbox.release()
        return waiting

    async def _receive_rest(self, handling: _Handling, waiting: Awaitable[object] | None) -> None:
        """Wait, and go on with the messages, until all are handled."""
        while waiting is not None:
            await waiting
            self.outbox.hold()
            waiting = self._advance(handling)
        await self.outbox.flush()

    def _find_dialect(self, message: bytes) -> Dialect:
        """Return the dialect that a message says it is written in; the next may be plain in it."""
        claiming = (dialect for dialect in self._dialects if dialect.claims(message))
        self._dialect = next(claiming)
        return self._dialect

    def _begin(self, call: Call) -> Awaitable[None] | None:
        """Start one request, or return what has to be awaited to have it started.

        A coroutine for each request would cost more than most of them.
        """
        self._counts.received += 1
        try:
            binding = self._methods[call.method]
            params = binding.admit(self._caller, call.params)
            if not binding.is_write:
                if self._writes.pending:
                    return self._begin_read_later(call, binding, params)
                if binding.is_query or self._waiting.size > self._waiting.max_bytes:
                    self._check_room(call, binding)
            return self._take(call, binding.handle(self._caller, params))
        except Exception as error:
            self._replies.refuse(call, error)
        return None

    def _take(self, call: Call, handled: Handled) -> Awaitable[None] | None:
        """Go on with what a handler came to: the one place here that tells the outcomes apart."""
        # In the order of how often each comes: `match` costs twice as much.
        if type(handled) is Answer:
            result = handled.result
            if type(result) is Page and self._replies.is_long(call, result):
                self._queries.begin(call, Later(_return(result)))
            elif (reply := call.answer(result)) is not None:
                self.outbox.put(reply)
            return None
        if isinstance(handled, (WriteRows, DeleteRecord, TrimRecord)):
            return self._writes.begin(call, handled)
        if isinstance(handled, Later):
            self._queries.begin(call, handled)
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
            self._replies.refuse(call, error)
        else:
            if waiting is not None:
                await waiting

    async def _begin_read_later(self, call: Call, binding: Binding, params: Any) -> None:
        """Let the connection's own writes before it be committed first, so that it sees them."""
        await self._writes.wait()
        try:
            self._check_room(call, binding)
            waiting = self._take(call, binding.handle(self._caller, params))
        except Exception as error:
            self._replies.refuse(call, error)
        else:
            if waiting is not None:
                await waiting

    def _begin_listing(self, call: Call, listing: Listing) -> Awaitable[None] | None:
        """Answer a short listing at once; a long one is built first, then it goes on."""
        if call.wants_answer:
            listing.check_room(call.max_reply_bytes)
            if not listing.is_short:
                return self._send_listing(call, listing)
        self._replies.put(call.answer(listing.build_nowait() if call.wants_answer else None))
        return None

    async def _send_listing(self, call: Call, listing: Listing) -> None:
        try:
            rows = await listing.build(self.core.turns, call.max_reply_bytes)
            await self._replies.answer(call, rows)
        except Exception as error:
            self._replies.refuse(call, error)

    def _begin_subscription(self, call: Call, opening: Opening) -> Awaitable[None] | None:
        if not call.wants_answer or self.outbox.is_closed:  # nobody would know its id
            self._replies.put(call.answer(None))
            return None
        if self._subscriptions.is_opening:
            return self._begin_subscription_later(call, opening)
        answer, subscription = self._subscriptions.open(opening, call)
        self._replies.put(call.answer(answer))
        self._subscriptions.start(subscription)
        return None

    async def _begin_subscription_later(self, call: Call, opening: Opening) -> None:
        while self._subscriptions.is_opening and not self.outbox.is_closed:
            await self._subscriptions.wait_opened()
            await self.core.turns.run(self.core.hub.catalogue.prepare_snapshot(opening.pattern))
        try:
            self._begin_subscription(call, opening)
        except RequestError as error:
            self._replies.refuse(call, error)

    def _check_room(self, call: Call, binding: Binding) -> None:
        """Refuse a read that there is no room for, before any work is done for it."""
        if self._waiting.size > self._waiting.max_bytes:
            self._check_room_for_answer()
        if binding.is_query:
            self._caller.queries.check_room()
            self._caller.max_reply_bytes = call.max_reply_bytes

    def _check_room_for_answer(self) -> None:
        if self._waiting.refuses(is_behind=self.outbox.is_behind):
            text = f"max_waiting_bytes: {self._waiting.size} bytes wait to be taken"
            raise RequestError(Reason.OVERLOADED, text)


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
        max_subscriptions=core.settings.max_subscriptions,
    )
