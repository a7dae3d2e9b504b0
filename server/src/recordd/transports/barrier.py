"""The barrier around each connection: what happens to one does not reach the others."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from recordd.core import Core

__all__ = ["serve_connections"]

logger: Final = logging.getLogger(__name__)


Handler = Callable[[trio.SocketStream], Awaitable[None]]


async def serve_connections(
    listener: trio.SocketListener,
    core: Core,
    *,
    serve: Handler,
    refuse: Handler,
    nursery: trio.Nursery,
) -> None:
    """Accept connections for ever, each in a task of `nursery` behind a barrier.

    Past `max_connections`, all transports counted, a connection is handed to `refuse`,
    which says so and ends: a client that is told can try again. Cancelled, it stops
    accepting; the connections go on until `nursery` is cancelled.
    """

    async def guard(stream: trio.SocketStream) -> None:
        counters = core.counters
        if counters.connections >= core.settings.max_connections:
            counters.connections_refused += 1
            await _contain(refuse, stream)
            return
        counters.connections += 1
        counters.connections_total += 1
        try:
            await _contain(serve, stream)
        finally:
            counters.connections -= 1

    await trio.serve_listeners(guard, [listener], handler_nursery=nursery)


async def _contain(handler: Handler, stream: trio.SocketStream) -> None:
    """Run a connection's handler; a crash in it is logged, and ends this connection alone."""
    try:
        async with stream:
            await handler(stream)
    except Exception:
        logger.exception("a connection failed")
    except BaseExceptionGroup as group:
        # At shutdown a crash may come together with the cancellation: the latter goes on.
        crashes, others = group.split(Exception)
        if crashes is not None:
            logger.error("a connection failed", exc_info=crashes)
        if others is not None:
            raise others from None
