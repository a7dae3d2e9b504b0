"""The core: what all connections share. Built once, with extensions, then fixed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Final

import trio

from recordd.config.settings import Configuration, Settings
from recordd.connections.admission import Admission
from recordd.connections.dialects import make_dialects
from recordd.connections.open_connections import OpenConnections
from recordd.connections.request_counts import RequestCounts
from recordd.connections.waiting import Waiting
from recordd.extending.backend import PersistenceBackend, ReadsInParallel, find_capability
from recordd.extending.extensions import Extensions, Housekeeper, StartHook
from recordd.extending.paging import PageLimits
from recordd.hub.hub import Hub
from recordd.hub.latest import LatestReader
from recordd.hub.snapshots import SnapshotLimits, Snapshots
from recordd.system.readiness import Readiness
from recordd.system.reminders import Reminders
from recordd.system.turns import Turns
from recordd.writing.queue import WriteQueue
from recordd.writing.statistics import WriterStatistics
from recordd_protocol.dialect import ENVELOPE_BYTES

__all__ = ["Core", "CoreBuilder", "Extension", "build_core"]

logger: Final = logging.getLogger(__name__)

_PARALLEL_QUERIES: Final = 2
"""Of one connection, where the backend does not say: a slow one lets one behind it pass."""


class CoreBuilder:
    """The core while it is being built: what an extension may use and add to."""

    def __init__(self, configuration: Configuration) -> None:
        settings = configuration.settings
        self.settings: Final[Settings] = settings
        self.hub: Final = Hub(
            configuration.rules,
            max_records=settings.max_records,
            max_latest_bytes=settings.max_latest_bytes,
            backlog_bytes=settings.backlog_bytes,
        )
        self.page: Final = PageLimits(settings.page_rows, settings.max_reply_bytes - ENVELOPE_BYTES)
        self.queue: Final = WriteQueue(
            max_requests=settings.write_queue_requests, max_bytes=settings.write_queue_bytes
        )
        self.turns: Final = Turns()
        self.extensions: Final = Extensions()
        self.housekeepers: Final[list[Housekeeper]] = []


Extension = Callable[[CoreBuilder], None]
"""Puts a part of its own into the builder's extension map."""


class Core:
    """What a running daemon has once: settings, records, extensions, what its sessions share."""

    def __init__(self, builder: CoreBuilder) -> None:
        self.settings: Final = builder.settings
        self.hub: Final = builder.hub
        self.queue: Final = builder.queue
        self.extensions: Final = builder.extensions
        self.snapshots: Final = Snapshots(
            self.hub.catalogue,
            SnapshotLimits(
                max_bytes=self.settings.page_snapshot_bytes,
                per_owner=self.settings.page_snapshots,
                max_age_s=self.settings.page_snapshot_timeout_ms / 1000,
            ),
        )
        self.latest: Final = LatestReader(self.hub.catalogue, builder.page, self.snapshots)
        self.start_hooks: Final[tuple[StartHook, ...]] = (
            self.snapshots.expire,
            *builder.extensions.freeze(),
        )
        self.housekeepers: Final = tuple(builder.housekeepers)
        self.writer_statistics: Callable[[], WriterStatistics] = WriterStatistics
        """Of the writer, who is above the core: `running` says which."""
        self.waiting: Final = Waiting(self.settings.max_waiting_bytes)
        self.request_counts: Final = RequestCounts()
        self.admission: Final = Admission(self.settings)
        self.connections: Final = OpenConnections(
            self.waiting, send_timeout_s=self.settings.send_timeout_ms / 1000
        )
        reads = find_capability(self.extensions.get(PersistenceBackend), ReadsInParallel)
        self.parallel_queries: Final = _PARALLEL_QUERIES if reads is None else reads.parallel_reads
        """How many history queries of one connection run at a time."""
        self.one_renders: Final = trio.CapacityLimiter(1)
        """Long answers, in a thread: each copy of one holds the interpreter lock."""
        self.turns: Final = builder.turns
        self.reminders: Final = Reminders()
        """When to look at which connection again."""
        self.readiness: Final = Readiness()
        """Which connections have sent something."""
        self.server_version: Final = version("recordd")
        self.started_at_s: Final = time.monotonic()
        self.dialects: Final = make_dialects(self.settings)

    @property
    def uptime_s(self) -> float:
        """Seconds since the core was built."""
        return time.monotonic() - self.started_at_s


def build_core(configuration: Configuration, extensions: Iterable[Extension]) -> Core:
    """Build the core with its extensions, in order."""
    builder = CoreBuilder(configuration)
    for extension in extensions:
        extension(builder)
    return Core(builder)
