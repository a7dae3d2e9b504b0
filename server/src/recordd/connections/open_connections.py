"""The connections that are open: read no further at the end, and cut where a peer is gone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec
import trio

from recordd.connections.outbox import Outbox
from recordd.connections.waiting import Waiting

__all__ = ["Connection", "OpenConnections", "OpenConnectionsStatistics"]

logger: Final = logging.getLogger(__name__)

_CROWDED_TIMEOUT_S: Final = 1.0
"""Instead of `send_timeout`, while more than `max_waiting_bytes` wait."""


class Connection(Protocol):
    """What may be done to a connection by others."""

    scope: trio.CancelScope
    """Cancels all of it, at once; of the connection's session, which puts it here."""

    def stop_reading(self) -> None:
        """Read nothing more; answer what was read, and end."""


class OpenConnectionsStatistics(msgspec.Struct, frozen=True):
    """How many connections were ended from this side, and why."""

    slow_peers_closed: int
    idle_closed: int
    dead_peers_closed: int


class OpenConnections:
    """Every connection by its outbox, from any transport."""

    def __init__(self, waiting: Waiting, *, send_timeout_s: float) -> None:
        """Take what waits on all connections, and for how long a peer may take nothing."""
        self.is_stopping = False
        self._waiting: Final = waiting
        self._send_timeout_s: Final = send_timeout_s
        self._by_outbox: Final[dict[Outbox, Connection]] = {}
        self._slow_peers_closed = 0
        self._idle_closed = 0
        self._dead_peers_closed = 0

    def statistics(self) -> OpenConnectionsStatistics:
        """Return how many were ended, and why."""
        return OpenConnectionsStatistics(
            slow_peers_closed=self._slow_peers_closed,
            idle_closed=self._idle_closed,
            dead_peers_closed=self._dead_peers_closed,
        )

    @contextlib.contextmanager
    def watch(self, outbox: Outbox, connection: Connection) -> Iterator[None]:
        """Hold this while a connection lives: it is to end with the daemon, and when stuck."""
        self._by_outbox[outbox] = connection
        if self.is_stopping:
            connection.stop_reading()
        try:
            yield
        finally:
            del self._by_outbox[outbox]
            outbox.forget()

    def stop_reading(self) -> None:
        """Stop reading from every connection; what was read is still answered."""
        self.is_stopping = True
        for connection in list(self._by_outbox.values()):
            connection.stop_reading()

    def end_idle(self, connection: Connection) -> None:
        """End a connection that neither asks nor follows."""
        self._idle_closed += 1
        connection.stop_reading()

    def cut_dead(self, outbox: Outbox, connection: Connection) -> None:
        """End at once a connection whose peer gives no sign of life."""
        self._dead_peers_closed += 1
        _cut(outbox, connection)

    async def cut_stuck(self) -> None:
        """End connections whose peer has taken nothing for the send timeout, for ever.

        One task that looks at all now and then: a deadline around each send would cost half
        as much as the send.
        """
        patience_s = self._send_timeout_s
        while True:
            await trio.sleep(min(patience_s / 8, _CROWDED_TIMEOUT_S))
            is_crowded = self._waiting.is_over
            timeout_s = min(patience_s, _CROWDED_TIMEOUT_S) if is_crowded else patience_s
            for outbox, connection in list(self._by_outbox.items()):
                if outbox.stuck_for_s() > timeout_s:
                    logger.warning("closed: it took nothing for %g s while data waited", timeout_s)
                    self._slow_peers_closed += 1
                    _cut(outbox, connection)


def _cut(outbox: Outbox, connection: Connection) -> None:
    outbox.discard()
    connection.scope.cancel()
