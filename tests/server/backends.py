"""The backends that ship, made as the daemon makes them."""

from __future__ import annotations

from typing import Protocol, cast

from recordd.config.memory_budget import estimate_memory
from recordd.config.settings import Configuration
from recordd.extending.backend import (
    BackendOptions,
    BoundsMemory,
    CleansUp,
    KeepsHouse,
    PersistenceBackend,
    ReportsStatistics,
)
from recordd.persistence import make_backend

__all__ = ["FullBackend", "make_full_backend", "most_memory_of"]


class FullBackend(PersistenceBackend, CleansUp, KeepsHouse, ReportsStatistics, Protocol):
    """What both of them can do."""


def make_full_backend(name: str, options: BackendOptions) -> FullBackend:
    return cast("FullBackend", make_backend(name, options))


def most_memory_of(configuration: Configuration) -> int:
    """Return the sum of all bounds of a daemon with SQLite; nothing is opened."""
    settings = configuration.settings
    options = BackendOptions(
        database=settings.database, readers=settings.readers, tail_rows=settings.tail_rows
    )
    backend = make_backend("sqlite", options)
    assert isinstance(backend, BoundsMemory)
    parts = backend.estimate_memory(
        max_value_bytes=settings.max_value_bytes, max_reply_bytes=settings.max_reply_bytes
    )
    return sum(estimate_memory(settings, parts).values())
