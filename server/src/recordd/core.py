"""The core: what all connections share. Built once, with extensions, then fixed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Final, Protocol

import trio

from recordd.backend import PersistenceBackend
from recordd.extensions import Extensions, StartHook
from recordd.hub import Hub
from recordd.outbox import Outbox
from recordd.settings import Configuration, Settings
from recordd.write_queue import WriteQueue
from recordd.writer import Housekeeper, Writer
from recordd_protocol.dialect import Dialect
from recordd_protocol.jsonrpc import JsonRpc

__all__ = ["Connection", "Core", "CoreBuilder", "Counters", "Extension", "build_core"]


class Counters:
    """What `server.stats` counts, since start."""

    def __init__(self) -> None:
        self.connections = 0
        self.connections_total = 0
        self.connections_refused = 0
        self.requests = 0
        self.request_errors = 0
        self.unanswered_write_errors = 0


class Connection(Protocol):
    """What the core may do to a connection."""

    @property
    def scope(self) -> trio.CancelScope:
        """Cancels all of it, at once."""

    def stop_reading(self) -> None:
        """Read nothing more; answer what was read, and end."""


class CoreBuilder:
    """The core while it is being built: what an extension may use and add to."""

    def __init__(self, configuration: Configuration) -> None:
        settings = configuration.settings
        self.settings: Final[Settings] = settings
        self.hub: Final = Hub(configuration.rules, max_records=settings.max_records)
        self.queue: Final = WriteQueue(
            max_requests=settings.write_queue_requests, max_bytes=settings.write_queue_bytes
        )
        self.extensions: Final = Extensions()
        self.housekeepers: Final[list[Housekeeper]] = []


Extension = Callable[[CoreBuilder], None]
"""Puts a part of its own into the builder's extension map."""


class Core:
    """Settings, records, writer, extensions and counters of a running daemon."""

    def __init__(self, builder: CoreBuilder) -> None:
        self.settings: Final = builder.settings
        self.hub: Final = builder.hub
        self.queue: Final = builder.queue
        self.extensions: Final = builder.extensions
        self.start_hooks: Final[tuple[StartHook, ...]] = builder.extensions.freeze()
        self.writer: Final = Writer(
            self.hub, self.extensions.get(PersistenceBackend), builder.queue
        )
        self.counters: Final = Counters()
        self.server_version: Final = version("recordd")
        self.started_at_s: Final = time.monotonic()
        self.dialects: Final[tuple[Dialect, ...]] = (
            JsonRpc(
                max_reply_bytes=self.settings.max_reply_bytes,
                max_batch_calls=self.settings.max_batch_calls,
            ),
        )
        for housekeeper in builder.housekeepers:
            self.writer.add_housekeeper(housekeeper)

        self.is_stopping = False
        self._connections: Final[dict[Outbox, Connection]] = {}

    @contextlib.contextmanager
    def watch(self, outbox: Outbox, connection: Connection) -> Iterator[None]:
        """Hold this while a connection lives: it is to end with the daemon, and when stuck."""
        self._connections[outbox] = connection
        if self.is_stopping:
            connection.stop_reading()
        try:
            yield
        finally:
            del self._connections[outbox]

    def stop_reading(self) -> None:
        """Stop reading from every connection; what was read is still answered."""
        self.is_stopping = True
        for connection in list(self._connections.values()):
            connection.stop_reading()

    async def cancel_stuck_peers(self) -> None:
        """End connections whose peer has taken nothing for `send_timeout`, for ever.

        One task that looks at all now and then: a deadline around each send would cost half
        as much as the send.
        """
        timeout_s = self.settings.send_timeout_ms / 1000
        while True:
            await trio.sleep(timeout_s / 8)
            for outbox, connection in list(self._connections.items()):
                if outbox.stuck_for_s() > timeout_s:
                    outbox.discard()
                    connection.scope.cancel()

    @property
    def uptime_s(self) -> float:
        """Seconds since the core was built."""
        return time.monotonic() - self.started_at_s

    def choose_dialect(self, message: bytes) -> Dialect:
        """Return the dialect that a message says it is written in."""
        for dialect in self.dialects:
            if dialect.claims(message):
                return dialect
        raise AssertionError("the last dialect claims everything")


def build_core(configuration: Configuration, extensions: Iterable[Extension]) -> Core:
    """Build the core with its extensions, in order."""
    builder = CoreBuilder(configuration)
    for extension in extensions:
        extension(builder)
    return Core(builder)
