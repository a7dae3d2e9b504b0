"""The suite that every backend has to pass, on those that ship and on a minimal one."""

from __future__ import annotations

from pathlib import Path

from recordd.conformance import BackendSuite
from recordd.extending.backend import BackendOptions, PersistenceBackend
from recordd.persistence.backends import make_backend
from tests.server.backends import sqlite_options
from tests.server.minimal_backend import MinimalBackend


class TestSqlite(BackendSuite):
    """With a tail so short that a test fills it."""

    def make_backend(self, folder: Path) -> PersistenceBackend:
        return make_backend("sqlite", sqlite_options(folder / "test.db", tail_rows=8))


class TestMemory(BackendSuite):
    is_durable = False

    def make_backend(self, folder: Path) -> PersistenceBackend:
        return make_backend("memory", BackendOptions())


class TestMinimal(BackendSuite):
    is_durable = False

    def make_backend(self, folder: Path) -> PersistenceBackend:
        return MinimalBackend()
