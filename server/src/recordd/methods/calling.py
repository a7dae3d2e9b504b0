"""Calling a method from anywhere: HTTP, a test, another front."""

from __future__ import annotations

import msgspec
import trio

from recordd.following.opening import Opening
from recordd.methods.caller import Caller
from recordd.methods.dispatch import methods_of
from recordd.methods.listing import Listing
from recordd.methods.long_work import go_through
from recordd.methods.outcome import Answer, Handled, Later
from recordd.system.turns import Work
from recordd.writing.queue import WriteQueue
from recordd.writing.requests import DeleteRecord, TrimRecord, WriteRequest, WriteRows
from recordd_protocol.dialect import Result
from recordd_protocol.errors import RequestError

__all__ = ["call_method"]


async def call_method(
    caller: Caller,
    method: str,
    params: bytes | msgspec.Struct = b"{}",
    *,
    max_reply_bytes: int | None = None,
) -> Result:
    """Call a method of the table and return its result; bytes are JSON text already.

    `params` are JSON text of an object, or of the method's type. A write is committed when
    this returns. Cancelled, a write may be committed all the same; a query is given up.

    Raises:
        RequestError: the call is refused; `invalid_request` where it opens a subscription
            and the caller has nobody to send events to.
    """
    counts = caller.core.request_counts
    counts.received += 1
    try:
        binding = methods_of(caller.core.extensions)[method]
        typed = binding.admit(caller, params)
        if binding.is_query:
            caller.queries.check_room()
        limit = caller.core.settings.max_reply_bytes if max_reply_bytes is None else max_reply_bytes
        caller.max_reply_bytes = limit
        return await _finish(caller, binding.handle(caller, typed), limit)
    except RequestError:
        counts.refused += 1
        raise


async def _finish(caller: Caller, handled: Handled, max_reply_bytes: int) -> Result:
    match handled:
        case Answer():
            return handled.result
        case Later():
            return await _await_query(caller, handled)
        case Listing():
            handled.check_room(max_reply_bytes)
            return await handled.build(caller.core.turns, max_reply_bytes)
        case Opening():
            raise AssertionError("its handler asks for a connection first")
        case WriteRows() | DeleteRecord() | TrimRecord():
            return await _commit(caller.core.queue, handled)
        case steps:
            outcome = await go_through(caller.core, Work(steps))
            return await _finish(caller, outcome, max_reply_bytes)


async def _await_query(caller: Caller, query: Later) -> Result:
    caller.queries.begin()
    try:
        return await query.result
    finally:
        caller.queries.end()


async def _commit(queue: WriteQueue, request: WriteRequest) -> Result:
    """Hand a write to the writer and return the result once it is committed."""
    settled = trio.Event()
    outcomes: list[Result | RequestError] = []

    def deliver(outcome: Result | RequestError) -> None:
        outcomes.append(outcome)
        settled.set()

    request.deliver = deliver
    await queue.put(request)
    await settled.wait()
    (outcome,) = outcomes
    if isinstance(outcome, RequestError):
        raise outcome
    return outcome
