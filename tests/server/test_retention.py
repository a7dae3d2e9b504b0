"""Retention: what goes, what stays, when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from recordd.backend import BackendError, BackendOptions, PersistenceBackend
from recordd.hub import Hub
from recordd.persistence import make_backend
from recordd.persistence.memory import MemoryBackend
from recordd.persistence.retention import Retention, RetentionPolicy
from recordd.rules import read_rules
from recordd.write_queue import WriteQueue
from recordd_protocol.patterns import compile_pattern, compile_patterns
from recordd_protocol.rows import Row
from tests.server.rows import PAGE

DAY_MS = 86_400_000


async def make(
    backend: PersistenceBackend,
    *rules: dict[str, Any],
    keep_latest: bool = True,
    age_ms: int | None = DAY_MS,
) -> tuple[Hub, Retention]:
    """A hub with old rows in `a` and `b`, and a run of retention that is due."""
    hub = Hub(read_rules(list(rules), default_retention_ms=age_ms, max_capacity=1), max_records=10)
    await backend.initialize()
    rows = [Row("ab"[n % 2], b"%d" % n, 1000 + n, n) for n in range(1, 9)]
    await backend.store(rows)
    hub.publish(rows)
    retention = Retention(
        hub, backend, WriteQueue(max_requests=1, max_bytes=1), RetentionPolicy(DAY_MS, keep_latest)
    )
    retention.request_run()
    return hub, retention


async def run(retention: Retention) -> None:
    while await retention.housekeep(True):
        pass


@pytest.fixture(params=["memory", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> PersistenceBackend:
    return make_backend(request.param, BackendOptions(database=str(tmp_path / "r.db")))


def counts(hub: Hub) -> dict[str, int]:
    return {name: state.rows for name in hub.names() if (state := hub.find(name))}


async def test_old_rows_go_and_the_latest_stays(backend: PersistenceBackend) -> None:
    hub, retention = await make(backend)
    await run(retention)
    assert counts(hub) == {"a": 1, "b": 1}
    stats = retention.statistics()
    assert (stats.runs, stats.last_deleted, stats.last_error) == (1, 6, None)
    await backend.close()


async def test_without_keep_latest_a_record_past_its_age_is_gone(
    backend: PersistenceBackend,
) -> None:
    hub, retention = await make(backend, {"name": "a", "retention": "off"}, keep_latest=False)
    await run(retention)
    assert counts(hub) == {"a": 4}
    await backend.close()


async def test_each_record_goes_by_the_first_rule_that_matches(backend: PersistenceBackend) -> None:
    hub, retention = await make(
        backend, {"name": "a", "retention": "off", "max_rows": 3}, {"name": "*", "retention": "off"}
    )
    await run(retention)
    assert counts(hub) == {"a": 3, "b": 4}
    await backend.close()


async def test_a_failed_run_is_counted_and_says_why() -> None:
    class Broken(MemoryBackend):
        async def cleanup(self, targets: Any, limit: int, *, next_rev: int) -> Any:
            raise BackendError("the disk is full")

    _, retention = await make(Broken())
    with pytest.raises(BackendError):
        await run(retention)
    stats = retention.statistics()
    assert (stats.runs, stats.last_error) == (1, "the disk is full")


async def test_it_runs_at_start_and_then_at_every_interval(autojump_clock: object) -> None:
    _, retention = await make(MemoryBackend())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(retention.run)
        for _ in range(3):
            await trio.sleep(1)
            await run(retention)
            assert await retention.housekeep(True) is False
            await trio.sleep(DAY_MS / 1000)
        nursery.cancel_scope.cancel()
    assert retention.statistics().runs == 3


async def test_many_rows_go_in_slices() -> None:
    limits: list[int] = []

    class Counting(MemoryBackend):
        async def cleanup(self, targets: Any, limit: int, *, next_rev: int) -> Any:
            limits.append(limit)
            return await super().cleanup(targets, min(limit, 2), next_rev=next_rev)

    hub, retention = await make(Counting())
    await run(retention)
    assert counts(hub) == {"a": 1, "b": 1}
    assert len(limits) > 2
    assert max(limits) <= 2000


async def test_a_record_that_loses_its_last_row_is_deleted_with_it(
    backend: PersistenceBackend,
) -> None:
    hub, retention = await make(backend, keep_latest=False)
    await run(retention)
    assert counts(hub) == {}
    assert hub.rev == 10
    assert hub.newest_gap(compile_pattern("a"), 8) > 8
    await backend.store([Row("a", b"1", 1, 11)])
    page = await backend.replay(compile_patterns("#"), after=0, as_of=11, limit=None, page=PAGE)
    assert [row.rev for row in page.rows] == [11]
    await backend.close()
