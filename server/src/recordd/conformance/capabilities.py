"""The smaller capabilities: each is tried where the backend has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from recordd.conformance.suite import Suite, have, needs
from recordd.conformance.support import AS_OF, EVERYTHING, ask, revs, row, settle, store
from recordd.extending.backend import (
    BoundsMemory,
    KeepsHouse,
    PersistenceBackend,
    ReadsInParallel,
    RemembersTime,
    ReportsStatistics,
    WatchesStorage,
)

__all__ = ["Capabilities"]


class Capabilities(Suite):
    """Housekeeping, statistics, memory, parallel reads, watching and time."""

    @needs(KeepsHouse)
    async def test_housekeeping_comes_to_an_end_and_changes_no_answer(
        self, backend: PersistenceBackend
    ) -> None:
        keeper = have(backend, KeepsHouse)
        await store(backend, [row(n) for n in range(1, 31)])
        before = revs((await backend.query(EVERYTHING, ask(backend))).rows)
        for _ in range(1000):
            if not await keeper.maintain(30):
                break
        else:
            pytest.fail("more is always due")
        assert keeper.indexed_rev >= 30
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == before

    @needs(ReportsStatistics)
    async def test_statistics_are_numbers_and_texts_and_name_the_backend(
        self, backend: PersistenceBackend
    ) -> None:
        reporter = have(backend, ReportsStatistics)
        empty = reporter.statistics()
        await store(backend, [row(1)])
        assert set(reporter.statistics()) == set(empty), "the keys are stable"
        assert all(isinstance(value, int | str) for value in empty.values())
        assert empty["backend"]

    @needs(BoundsMemory)
    async def test_memory_is_bounded_by_numbers(self, backend: PersistenceBackend) -> None:
        bounded = have(backend, BoundsMemory)
        parts = bounded.estimate_memory(max_value_bytes=1 << 20, max_reply_bytes=1 << 20)
        assert all(size >= 0 for size in parts.values())

    @needs(ReadsInParallel)
    async def test_one_read_at_least_runs_at_a_time(self, backend: PersistenceBackend) -> None:
        assert have(backend, ReadsInParallel).parallel_reads >= 1

    @needs(WatchesStorage)
    async def test_a_storage_that_is_as_it_was_passes_its_check(
        self, backend: PersistenceBackend
    ) -> None:
        watched = have(backend, WatchesStorage)
        await watched.check()
        await store(backend, [row(1)])
        await settle(backend)
        await watched.check()

    @needs(RemembersTime)
    async def test_a_time_is_remembered_over_a_restart(
        self, backend: PersistenceBackend, tmp_path: Path
    ) -> None:
        memory = have(backend, RemembersTime)
        before = memory.remembered_time_ms
        await memory.remember_time(AS_OF)
        assert (before, memory.remembered_time_ms) == (None, AS_OF)
        if not self.is_durable:
            return
        await backend.close()
        again = self.make_backend(tmp_path)
        await again.initialize()
        assert have(again, RemembersTime).remembered_time_ms == AS_OF
        await again.close()
