"""Stored rows of records whose rule persists them no longer: history, and not current."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

from recordd.config.rules import read_rules
from recordd.config.settings import Configuration
from recordd.extending.points import RetentionReporter
from recordd.persistence import RetentionPolicy, with_persistence
from recordd.persistence.retention import Retention
from tests.core_in_memory import CoreInMemory, Peer, configure, running_core
from tests.server.backends import make_full_backend, sqlite_options
from tests.server.session.test_session import reason_of


@contextlib.asynccontextmanager
async def restarted(
    path: Path, *rules: dict[str, Any], keep_latest: bool = True
) -> AsyncIterator[tuple[Peer, CoreInMemory]]:
    """A core over the file, with rules of its own."""
    table = read_rules(list(rules), default_retention_ms=None, max_capacity=1)
    backend = make_full_backend("sqlite", sqlite_options(path))
    policy = RetentionPolicy(interval_ms=86_400_000, keep_latest=keep_latest)
    async with running_core(
        configuration=Configuration(configure().settings, table, {}),
        extensions=[with_persistence(backend, policy)],
    ) as core:
        yield core.connect(), core


OFF = {"name": "was.#", "persist": False}


async def fill(path: Path) -> None:
    async with restarted(path) as (peer, _):
        for n in range(5):
            await peer.call("record.set", name="was.a", value=n)
        await peer.call("record.set", name="is.b", value=0)


async def values(peer: Peer, **params: Any) -> list[Any]:
    return [row["value"] for row in (await peer.call("record.query", **params))["records"]]


async def counts(peer: Peer, name: str = "was.*") -> tuple[int, int]:
    count = await peer.call("record.count", name=name)
    return count["records"], count["rows"]


async def test_every_method_agrees_on_what_is_history_and_no_longer_current(
    tmp_path: Path,
) -> None:
    await fill(tmp_path / "a.db")
    async with restarted(tmp_path / "a.db", OFF) as (peer, _):
        assert await counts(peer) == (0, 5)
        assert await counts(peer, "#") == (1, 6)
        assert await values(peer, name="was.a", limit=None) == [0, 1, 2, 3, 4]
        assert await values(peer, name="was.a", limit=2) == [3, 4]
        unpaged = await peer.call("record.query", name="was.a", limit=2, paged=False)
        assert unpaged["total"] == 2
        assert await values(peer, name="was.a") == []
        assert await peer.call("record.list", name="was.*") == []
        assert reason_of(await peer.call("record.get", name="was.a")) == "not_found"
        replayed = await peer.call("record.replay", after=0, name="was.a")
        assert len(replayed["records"]) == 5
        assert (await peer.call("record.at", rev=1))["value"] == 0
        assert (await peer.call("server.stats"))["rows"] == 6


async def test_a_value_set_anew_is_current_and_not_stored(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    async with restarted(tmp_path / "a.db", OFF) as (peer, _):
        assert (await peer.call("record.set", name="was.a", value="new"))["rev"] is None
        assert await counts(peer) == (1, 5)
        assert await values(peer, name="was.a") == ["new"]
        assert await values(peer, name="was.a", limit=None) == [0, 1, 2, 3, 4]
    async with restarted(tmp_path / "a.db") as (peer, _):
        assert await values(peer, name="was.a") == [4]


async def test_a_deletion_deletes_the_history_for_good(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    async with restarted(tmp_path / "a.db", OFF) as (peer, _):
        epoch = (await peer.call("hello", client="t"))["epoch"]
        assert await peer.call("record.delete", name="was.a") == {"deleted": 5}
        assert (await peer.call("hello", client="t"))["rev"] == 7
        assert await counts(peer) == (0, 0)
        assert await values(peer, name="was.a", limit=None) == []
        assert reason_of(await peer.call("record.delete", name="was.a")) == "not_found"
        assert (await peer.call("record.set", name="is.b", value=1))["rev"] == 8
        resumed = await peer.call("record.subscribe", name="was.#", after=3, epoch=epoch)
        assert resumed["resync"] is True
    async with restarted(tmp_path / "a.db") as (peer, _):
        assert await counts(peer, "#") == (1, 2)


async def test_a_deletion_takes_the_current_value_with_the_history(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    async with restarted(tmp_path / "a.db", OFF) as (peer, _):
        await peer.call("record.set", name="was.a", value="new")
        assert await peer.call("record.delete", name="was.a") == {"deleted": 5}
        assert reason_of(await peer.call("record.get", name="was.a")) == "not_found"
        assert await counts(peer, "#") == (1, 1)
    async with restarted(tmp_path / "a.db") as (peer, _):
        assert await counts(peer) == (0, 0)


async def retain(core: CoreInMemory) -> None:
    """Have retention run to its end."""
    job = core.core.extensions.get(RetentionReporter)
    assert isinstance(job, Retention)
    runs = job.statistics().runs
    job.request_run()
    with trio.fail_after(10):
        while job.statistics().runs == runs:
            await trio.lowlevel.checkpoint()


async def test_retention_retires_these_rows_to_the_last_and_leaves_the_current_value(
    tmp_path: Path,
) -> None:
    await fill(tmp_path / "a.db")
    bounded = {**OFF, "max_rows": 3}
    async with restarted(tmp_path / "a.db", bounded) as (peer, core):
        await retain(core)
        assert await values(peer, name="was.a", limit=None) == [2, 3, 4]
        assert await counts(peer) == (0, 3)
        epoch = (await peer.call("hello", client="t"))["epoch"]
        for after, is_gap in ((1, True), (2, False)):
            follower = core.connect()
            found = await follower.call("record.subscribe", name="was.*", after=after, epoch=epoch)
            assert found.get("resync", False) is is_gap
    outlived = {**OFF, "retention": "1ms"}
    async with restarted(tmp_path / "a.db", outlived) as (peer, core):
        await peer.call("record.set", name="was.a", value="new")
        await retain(core)
        assert await counts(peer, "#") == (2, 1)
        assert await values(peer, name="was.a") == ["new"]
        rev = (await peer.call("hello", client="t"))["rev"]
        assert (await peer.call("record.set", name="is.b", value=1))["rev"] == rev + 1
    async with restarted(tmp_path / "a.db") as (peer, _):
        assert await counts(peer) == (0, 0)


async def test_a_trim_takes_what_is_ahead_of_history_and_of_what_is_current(
    tmp_path: Path,
) -> None:
    async with restarted(tmp_path / "a.db") as (peer, _):
        for name in ("was.a", "was.b"):
            for n in range(1, 5):
                await peer.call("record.set", name=name, value=n, ts=n)
    async with restarted(tmp_path / "a.db", OFF) as (peer, core):
        await peer.call("record.set", name="was.a", value="live", ts=2)
        assert await peer.call("record.trim", name="was.a", newer_than=2) == {
            "deleted": 2,
            "more": False,
        }
        assert await values(peer, name="was.a", limit=None) == [1, 2]
        assert (await peer.call("record.get", name="was.a"))["value"] == "live"
        assert (await peer.call("record.trim", name="was.a", newer_than=1))["deleted"] == 1
        assert reason_of(await peer.call("record.get", name="was.a")) == "not_found"
        assert (await peer.call("record.trim", name="was.a", newer_than=0))["deleted"] == 1
        assert reason_of(await peer.call("record.trim", name="was.a", newer_than=0)) == "not_found"
        await peer.call("record.set", name="was.b", value="live", ts=0)
        assert (await peer.call("record.trim", name="was.b", newer_than=0))["deleted"] == 4
        assert (await peer.call("record.get", name="was.b"))["value"] == "live"
        assert await counts(peer) == (1, 0)
        assert core.core.hub.rev == 10, "two deletions of history, and no row made the latest"
