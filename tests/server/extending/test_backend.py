"""What a backend need not do, and what is said where it is asked for nevertheless."""

from __future__ import annotations

from pathlib import Path

import pytest

from recordd.config.settings import Configuration, ConfigurationError, load
from recordd.core import build_core
from recordd.extending.backend import (
    BoundsMemory,
    CleansUp,
    KeepsHouse,
    PersistenceBackend,
    ReadsInParallel,
    RemembersTime,
    ReportsStatistics,
    WatchesStorage,
)
from recordd.persistence import BackupPolicy, RetentionPolicy, with_persistence
from recordd.persistence.memory import MemoryBackend
from tests.core_in_memory import configure, running_core
from tests.server.minimal_backend import MinimalBackend

CAPABILITIES = [
    BoundsMemory, CleansUp, KeepsHouse, ReadsInParallel, RemembersTime, ReportsStatistics,
    WatchesStorage,
]  # fmt: skip
POLICY = RetentionPolicy(interval_ms=86_400_000, keep_latest=True)


def test_the_minimal_backend_has_no_capability() -> None:
    backend = MinimalBackend()
    assert isinstance(backend, PersistenceBackend)
    assert not [kind for kind in CAPABILITIES if isinstance(backend, kind)]


async def test_a_backend_that_only_stores_and_answers_serves_a_daemon() -> None:
    async with running_core(MinimalBackend()) as core:
        peer = core.connect()
        for n in (1, 2, 3):
            await peer.call("record.set", name="a", value=n, ts=n)
        await peer.call("record.delete", name="a")
        await peer.call("record.set", name="a", value=5, ts=5)
        assert [r["value"] for r in (await peer.call("record.query", limit=None))["records"]] == [5]
        assert (await peer.call("record.at", rev=5))["value"] == 5
        assert (await peer.call("server.stats"))["storage"] == {}


async def test_trimming_and_the_clock_are_not_configured_without_cleaning_up() -> None:
    async with running_core(MinimalBackend()) as core:
        peer = core.connect()
        await peer.call("record.set", name="a", value=1, ts=10)
        for method, params in (
            ("record.trim", {"name": "a", "newer_than": 5}),
            ("retention.confirm", {}),
        ):
            refused = await peer.call(method, **params)
            assert refused["error"]["data"]["reason"] == "not_configured", method
        assert (await peer.call("record.get", name="a"))["value"] == 1
        stats = await peer.call("server.stats")
        assert (stats["retention"], stats["housekeeping_errors"]) == (None, 0)


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [("", "retention (of '#')"), ("max_rows = 5", "max_rows (of 'a.*')")],
)
def test_retention_with_a_backend_that_cannot_clean_up_is_refused_by_name(
    tmp_path: Path, rules: str, complaint: str
) -> None:
    file = tmp_path / "recordd.toml"
    age = "off" if rules else "7d"
    file.write_text(
        f'backend = "mini"\nretention = "{age}"\n[[record]]\nname = "a.*"\nretention = "off"\n{rules}\n'
    )
    configuration: Configuration = load({}, {}, file)
    extension = with_persistence(MinimalBackend(), POLICY)
    with pytest.raises(ConfigurationError) as caught:
        build_core(configuration, [extension])
    assert str(caught.value).startswith(complaint)
    assert "backend 'mini' cannot clean up" in str(caught.value)
    build_core(configuration, [with_persistence(MemoryBackend(), POLICY)])


def test_backups_of_a_backend_without_a_file_are_refused_by_name(tmp_path: Path) -> None:
    configuration = configure(backend="memory", backup_folder=str(tmp_path))
    backups = BackupPolicy(str(tmp_path), 1000, 1)
    with pytest.raises(ConfigurationError, match="backup_folder: backend 'memory' has no file"):
        build_core(configuration, [with_persistence(MemoryBackend(), None, backups)])


async def test_a_backend_says_how_many_queries_run_at_a_time() -> None:
    class Wide(MemoryBackend):
        parallel_reads = 7

    for backend, expected in ((Wide(), 7), (MemoryBackend(), 2)):
        async with running_core(backend, configure()) as core:
            assert core.core.parallel_queries == expected
