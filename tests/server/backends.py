"""The backends that ship, made as the daemon makes them."""

from __future__ import annotations

from pathlib import Path
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
from recordd.persistence.backends import configured_backend, make_backend

__all__ = ["FullBackend", "make_full_backend", "most_memory_of", "sqlite_options"]


class FullBackend(PersistenceBackend, CleansUp, KeepsHouse, ReportsStatistics, Protocol):
    """What both of them can do."""


def sqlite_options(
    path: Path | str, *, query_timeout_s: float = 10.0, accept_loss: bool = False, **table: object
) -> BackendOptions:
    """The options of a file; without a reserve, which takes time to write."""
    table = {"database": str(path), "reserve_bytes": 0, **table}
    return BackendOptions(table, query_timeout_s=query_timeout_s, accept_loss=accept_loss)


def make_full_backend(name: str, options: BackendOptions) -> FullBackend:
    """One of both by its name; that in memory goes without the options of a file."""
    return cast(
        "FullBackend", make_backend(name, options if name == "sqlite" else BackendOptions())
    )


def most_memory_of(configuration: Configuration) -> int:
    """Return the sum of all bounds of a daemon with SQLite; nothing is opened."""
    settings = configuration.settings
    backend = configured_backend(configuration, accept_loss=False)
    assert isinstance(backend, BoundsMemory)
    parts = backend.estimate_memory(
        max_value_bytes=settings.max_value_bytes, max_reply_bytes=settings.max_reply_bytes
    )
    return sum(estimate_memory(settings, parts).values())
