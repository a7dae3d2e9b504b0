"""The barrier around each connection: what happens to one does not reach the others."""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio

from recordd.connections.admission import Admission
from recordd.transports.peers import find_address

__all__ = ["serve_connections"]

logger: Final = logging.getLogger(__name__)


Server = Callable[[trio.SocketStream], Awaitable[None]]
"""Serves a connection to its end."""

Refuser = Callable[[trio.SocketStream, str], Awaitable[None]]
"""Tells a connection why there is no room for it."""

_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""The process or the machine has no more: it may have soon."""

_RETRY_AFTER_S: Final = 0.1
_LOG_EVERY_S: Final = 1.0
_MAX_REFUSING: Final = 32
"""Refusals under way: each has a file and lingers for a second. Past it they are closed untold."""

_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError)
"""The peer has left, which it may at any moment."""


async def serve_connections(
    listener: trio.SocketListener,
    admission: Admission,
    *,
    serve: Server,
    refuse: Refuser,
    nursery: trio.Nursery,
) -> NoReturn:
    """Accept connections for ever, each in a task of `nursery` behind a barrier.

    One too many is handed to `refuse` with the reason: a client that is told can try again.
    Cancelled, it stops accepting; the connections go on until `nursery` is cancelled.
    """
    refusing = 0

    async def turn_away(stream: trio.SocketStream, reason: str) -> None:
        nonlocal refusing
        if refusing >= _MAX_REFUSING:
            await trio.aclose_forcefully(stream)
            return
        refusing += 1
        try:
            await _contain(lambda stream: refuse(stream, reason), stream)
        finally:
            refusing -= 1

    async def guard(stream: trio.SocketStream) -> None:
        address = find_address(stream)
        if (reason := admission.refuse(address)) is not None:
            await turn_away(stream, reason)
            return
        admission.enter(address)
        try:
            await _contain(serve, stream)
        finally:
            admission.leave(address)

    accept = _Acceptor(listener, admission)
    while True:
        nursery.start_soon(guard, await accept.next())


class _Acceptor:
    """Accepts, and waits where the system has no room, saying so once a second at most."""

    def __init__(self, listener: trio.SocketListener, admission: Admission) -> None:
        self._listener: Final = listener
        self._admission: Final = admission
        self._logged_at = -_LOG_EVERY_S

    async def next(self) -> trio.SocketStream:
        """Return the next connection; cancelled, it is left in the system's queue."""
        while True:
            try:
                return await self._listener.accept()
            except OSError as error:
                # Others concern one connection that was gone before it was accepted.
                if error.errno in _FULL:
                    self._log(error)
                    await trio.sleep(_RETRY_AFTER_S)

    def _log(self, error: OSError) -> None:
        self._admission.note_accept_error()
        now = trio.current_time()
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            logger.error("connections wait to be accepted: %s", error.strerror)


async def _contain(serve: Server, stream: trio.SocketStream) -> None:
    """Serve a connection; a crash meanwhile is logged, and ends this connection alone."""
    try:
        async with stream:
            await serve(stream)
    except _GONE as gone:
        logger.debug("a peer left: %r", gone)
    except Exception:
        logger.exception("a connection failed")
    except BaseExceptionGroup as group:
        # At shutdown a crash may come together with the cancellation: the latter goes on.
        crashes, others = group.split(Exception)
        crashes = None if crashes is None else crashes.split(_GONE)[1]
        if crashes is not None:
            logger.error("a connection failed", exc_info=crashes)
        if others is not None:
            raise others from None
