"""The core: what all connections share. Built once, with extensions, then fixed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import version
from typing import Final, TypeVar

import trio

from recordd.backend import PersistenceBackend
from recordd.extensions import Extensions, StartHook
from recordd.hub import Hub
from recordd.settings import Configuration, Settings
from recordd.write_queue import WriteQueue
from recordd.writer import Housekeeper, Writer
from recordd_protocol.dialect import Dialect
from recordd_protocol.jsonrpc import JsonRpc

__all__ = ["Core", "CoreBuilder", "Counters", "Extension", "build_core"]


T = TypeVar("T")


class Counters:
    """What `server.stats` counts, since start."""

    def __init__(self) -> None:
        self.connections = 0
        self.connections_total = 0
        self.connections_refused = 0
        self.requests = 0
        self.request_errors = 0
        self.unanswered_write_errors = 0


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

        self.intake_closed = False
        self._intake: Final[set[trio.CancelScope]] = set()

    async def take_in(self, receive: Callable[[], Awaitable[T]]) -> T | None:
        """Wait for what `receive` yields; None once intake is closed."""
        if self.intake_closed:
            return None
        with trio.CancelScope() as scope:
            self._intake.add(scope)
            try:
                return await receive()
            finally:
                self._intake.discard(scope)
        return None

    def close_intake(self) -> None:
        """Stop reading from every connection; what was read is still answered."""
        self.intake_closed = True
        for scope in self._intake:
            scope.cancel()

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
