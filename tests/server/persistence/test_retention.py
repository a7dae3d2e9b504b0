"""Retention: what goes, what stays, when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from recordd.config.rules import read_rules
from recordd.conformance.support import ask_log
from recordd.extending.backend import BackendError, DiskFull
from recordd.extending.commit import Commit, Deletions
from recordd.hub.hub import Hub
from recordd.persistence.memory import MemoryBackend
from recordd.persistence.retention import Retention, RetentionPolicy
from recordd.writing.queue import WriteQueue
from recordd_protocol.patterns import compile_pattern, compile_patterns
from recordd_protocol.rows import Row
from tests.server.backends import FullBackend, make_full_backend, sqlite_options
from tests.server.commits import make_committer, publish, store
from tests.server.persistence.test_retention_clock import FakeClock

DAY_MS = 86_400_000


async def make(
    backend: FullBackend,
    *rules: dict[str, Any],
    keep_latest: bool = True,
    age_ms: int | None = DAY_MS,
) -> tuple[Hub, Retention]:
    """A hub with old rows in `a` and `b`, and a run of retention that is due."""
    hub = Hub(read_rules(list(rules), default_retention_ms=age_ms, max_capacity=1), max_records=10)
    await backend.initialize()
    rows = [Row("ab"[n % 2], b"%d" % n, 1000 + n, n) for n in range(1, 9)]
    await store(backend, rows)
    publish(hub, rows)
    policy = RetentionPolicy(DAY_MS, keep_latest, max_clock_leap_ms=10**15)
    retention = Retention(
        hub, backend, make_committer(hub, backend), WriteQueue(max_requests=1, max_bytes=1), policy
    )
    retention.request_run()
    return hub, retention


async def run(retention: Retention) -> None:
    while await retention.housekeep(True):
        pass


@pytest.fixture(params=["memory", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> FullBackend:
    return make_full_backend(request.param, sqlite_options(tmp_path / "r.db"))


def counts(hub: Hub) -> dict[str, int]:
    return {
        name: state.rows for name in hub.catalogue.names() if (state := hub.catalogue.find(name))
    }


async def test_old_rows_go_and_the_latest_stays(backend: FullBackend) -> None:
    hub, retention = await make(backend)
    await run(retention)
    assert counts(hub) == {"a": 1, "b": 1}
    stats = retention.statistics()
    assert (stats.runs, stats.last_deleted, stats.last_error) == (1, 6, None)
    await backend.close()


async def test_without_keep_latest_a_record_past_its_age_is_gone(
    backend: FullBackend,
) -> None:
    hub, retention = await make(backend, {"name": "a", "retention": "off"}, keep_latest=False)
    await run(retention)
    assert counts(hub) == {"a": 4}
    await backend.close()


async def test_each_record_goes_by_the_first_rule_that_matches(backend: FullBackend) -> None:
    hub, retention = await make(
        backend, {"name": "a", "retention": "off", "max_rows": 3}, {"name": "*", "retention": "off"}
    )
    await run(retention)
    assert counts(hub) == {"a": 3, "b": 4}
    await backend.close()


async def test_a_failed_run_is_counted_and_says_why() -> None:
    class Broken(MemoryBackend):
        async def cleanup(self, targets: Any, limit: int) -> Any:
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
        async def cleanup(self, targets: Any, limit: int) -> Any:
            limits.append(limit)
            return await super().cleanup(targets, min(limit, 2))

    hub, retention = await make(Counting())
    await run(retention)
    assert counts(hub) == {"a": 1, "b": 1}
    assert len(limits) > 2
    assert max(limits) <= 2000


async def test_a_record_that_loses_its_last_row_is_deleted_with_it(
    backend: FullBackend,
) -> None:
    hub, retention = await make(backend, keep_latest=False)
    await run(retention)
    assert counts(hub) == {}
    assert hub.rev == 10
    assert hub.gaps.newest_gap(compile_pattern("a"), 8) > 8
    await store(backend, [Row("a", b"1", 1, 11)])
    page = await backend.replay(compile_patterns("#"), ask_log(backend))
    assert [row.rev for row in page.rows] == [11]
    await backend.close()


async def test_on_a_full_disk_fewer_records_end_at_a_time() -> None:
    class Small(MemoryBackend):
        async def apply(self, commits: Sequence[Commit], position: int) -> None:
            (commit,) = commits
            if isinstance(commit, Deletions) and len(commit.deletions) > 1:
                raise DiskFull
            await super().apply(commits, position)

    hub, retention = await make(Small(), keep_latest=False)
    await run(retention)
    assert (counts(hub), hub.rev, retention.statistics().last_deleted) == ({}, 10, 8)


NOON = 1_790_000_000_000


async def make_hourly(
    backend: FullBackend, clock: FakeClock, days: int = 20
) -> tuple[Hub, Retention]:
    """A hub with a row an hour up to now, kept for 30 days, and its retention."""
    hub = Hub(read_rules([], default_retention_ms=30 * DAY_MS, max_capacity=1), max_records=10)
    hub.restore(await backend.initialize())
    if not hub.rev:
        first = clock.wall_ms() - days * DAY_MS
        rows = [Row("a", b"1", first + n * DAY_MS // 24, n) for n in range(1, days * 24 + 1)]
        await store(backend, rows)
        publish(hub, rows)
    queue = WriteQueue(max_requests=1, max_bytes=1)
    retention = Retention(
        hub,
        backend,
        make_committer(hub, backend),
        queue,
        RetentionPolicy(DAY_MS, True),
        clock=clock,
    )
    return hub, retention


async def look(retention: Retention) -> None:
    """Do what is due at a start and then every day."""
    retention.request_run()
    retention._is_time_due = True
    await run(retention)


async def test_a_leap_of_the_clock_deletes_nothing_until_it_is_confirmed(
    backend: FullBackend, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(NOON)
    hub, retention = await make_hourly(backend, clock)
    await look(retention)
    assert retention.statistics().last_error is None
    clock.set(NOON + 365 * DAY_MS)
    await look(retention)
    assert counts(hub) == {"a": 480}
    stats = retention.statistics()
    assert stats.clock_leap_ms == 365 * DAY_MS
    assert stats.last_error is not None
    assert "max_clock_leap" in stats.last_error
    assert [r.levelname for r in caplog.records if "max_clock_leap" in r.message] == ["ERROR"]
    assert retention.confirm_clock() == 365 * DAY_MS
    await run(retention)
    assert counts(hub) == {"a": 1}
    assert retention.statistics().last_error is None
    await backend.close()


async def test_a_leap_that_is_taken_back_leaves_every_row(backend: FullBackend) -> None:
    clock = FakeClock(NOON)
    hub, retention = await make_hourly(backend, clock)
    await look(retention)
    for leap in (365 * DAY_MS, -365 * DAY_MS, -365 * DAY_MS, 365 * DAY_MS):
        clock.set(clock.wall_ms() + leap)
        await look(retention)
    stats = retention.statistics()
    assert (counts(hub), stats.last_error, stats.clock_leap_ms) == ({"a": 480}, None, 0)
    await backend.close()


async def test_retention_goes_on_while_it_does_not_follow_the_clock(
    backend: FullBackend,
) -> None:
    clock = FakeClock(NOON)
    hub, retention = await make_hourly(backend, clock, days=30)
    await look(retention)
    clock.set(NOON + 10 * DAY_MS)
    before = counts(hub)["a"]
    clock.run(DAY_MS)
    await look(retention)
    assert counts(hub) == {"a": before - 47}
    await backend.close()


async def test_a_leap_over_a_restart_is_told_and_a_short_stop_is_none(tmp_path: Path) -> None:
    options = sqlite_options(tmp_path / "r.db")
    clock = FakeClock(NOON)
    for stopped_ms, leap_ms in ((0, 0), (DAY_MS // 2, 0), (21 * DAY_MS, 21 * DAY_MS), (0, 21 * DAY_MS)):  # fmt: skip
        clock.set(clock.wall_ms() + stopped_ms)
        backend = make_full_backend("sqlite", options)
        hub, retention = await make_hourly(backend, clock)
        await look(retention)
        assert retention.statistics().clock_leap_ms == leap_ms
        assert counts(hub) == {"a": 480}
        await backend.close()


async def test_without_a_remembered_time_the_newest_row_tells(tmp_path: Path) -> None:
    class Forgetful(MemoryBackend):
        """A backend of rows alone, which outlives its daemon."""

        async def close(self) -> None: ...

    backend = Forgetful()
    clock = FakeClock(NOON)
    hub, _ = await make_hourly(backend, clock)
    publish(hub, [Row("ahead", b"1", NOON + 400 * DAY_MS, 481)])
    clock.set(NOON + 365 * DAY_MS)
    policy = RetentionPolicy(DAY_MS, True)
    later = Retention(
        hub,
        backend,
        make_committer(hub, backend),
        WriteQueue(max_requests=1, max_bytes=1),
        policy,
        clock=clock,
    )
    await look(later)
    assert later.statistics().clock_leap_ms == 365 * DAY_MS
    assert counts(hub) == {"a": 480, "ahead": 1}


async def test_a_time_that_cannot_be_remembered_keeps_no_row(tmp_path: Path) -> None:
    class Full(MemoryBackend):
        """Takes no more, but can be made smaller."""

        remembered_time_ms = None

        async def remember_time(self, time_ms: int) -> None:
            raise BackendError("the disk is full")

    clock = FakeClock(NOON)
    hub, retention = await make_hourly(Full(), clock, days=40)
    with pytest.raises(BackendError):
        await look(retention)
    assert counts(hub) == {"a": 721}
    assert retention.statistics().last_error is None


class AskingBackend(MemoryBackend):
    """Has somebody ask for a run of retention while one is under way."""

    retention: Retention | None = None

    async def cleanup(self, *args: Any, **kwargs: Any) -> Any:
        if self.retention is not None and not self.retention.statistics().runs:
            self.retention.request_run()
        return await super().cleanup(*args, **kwargs)


async def test_a_run_that_is_asked_for_during_another_comes_behind_it() -> None:
    backend = AskingBackend()
    hub, backend.retention = await make(backend)
    await run(backend.retention)
    assert backend.retention.statistics().runs == 2
    assert not await backend.retention.housekeep(True)
    assert counts(hub) == {"a": 1, "b": 1}
