"""Rows ahead of a time go, and what is left is the latest again, for everybody."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from recordd.extending.commit import Commit
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.mark import read_mark
from recordd.writing import purging
from recordd_protocol.patterns import compile_pattern
from tests.core_in_memory import CoreInMemory, Peer, configure, running_core
from tests.server.backends import FullBackend, make_full_backend, sqlite_options
from tests.wire import request

NOW = 1_700_000_000_000
AHEAD = configure(max_future="36500d")


@pytest.fixture(params=["memory", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> FullBackend:
    return make_full_backend(request.param, sqlite_options(tmp_path / "r.db"))


async def poison(peer: Peer) -> None:
    """Revs 1 to 3 are true, 4 to 6 ten days ahead, 7 is true again and late."""
    for n in (1, 2, 3):
        await peer.call("record.set", name="a", value=n, ts=NOW + n)
    for n in (4, 5, 6):
        await peer.call("record.set", name="a", value=n, ts=NOW + n + 864_000_000)
    assert (await peer.call("record.set", name="a", value=7, ts=NOW + 7))["late"]


async def rows_of(peer: Peer) -> list[tuple[Any, int]]:
    page = await peer.call("record.query", name="a", limit=None, start=0)
    return [(row["value"], row["rev"]) for row in page["records"]]


async def test_the_newest_row_that_is_left_is_the_latest_again(backend: FullBackend) -> None:
    async with running_core(backend, AHEAD) as core:
        peer = core.connect()
        await poison(peer)
        assert await peer.call("record.trim", name="a", newer_than=NOW + 100) == {
            "deleted": 3,
            "more": False,
        }
        latest = await peer.call("record.get", name="a")
        assert (latest["value"], latest["ts"], latest["rev"]) == (7, NOW + 7, 8)
        (listed,) = (await peer.call("record.query"))["records"]
        assert listed == latest
        assert await rows_of(peer) == [(1, 1), (2, 2), (3, 3), (7, 7), (7, 8)]
        assert (await peer.call("record.count"))["rows"] == 5
        written = await peer.call("record.set", name="a", value=8, ts=NOW + 8)
        assert "late" not in written
        again = await peer.call("record.trim", name="a", newer_than=NOW + 100)
        assert again == {"deleted": 0, "more": False}


async def test_a_record_that_is_all_ahead_is_deleted(backend: FullBackend) -> None:
    async with running_core(backend, AHEAD) as core:
        peer = core.connect()
        await poison(peer)
        assert (await peer.call("record.trim", name="a", newer_than=NOW))["deleted"] == 7
        assert (await peer.call("record.count")) == {"records": 0, "rows": 0}
        refusal = await peer.call("record.trim", name="a", newer_than=NOW)
        assert refusal["error"]["data"]["reason"] == "not_found"


async def test_followers_are_told_and_those_who_were_away_find_it(
    backend: FullBackend,
) -> None:
    async with running_core(backend, AHEAD) as core:
        peer, follower = core.connect(), core.connect()
        await poison(peer)
        opened = await follower.call("record.subscribe", name="#", snapshot=False)
        await peer.call("record.trim", name="a", newer_than=NOW + 100)
        event = (await follower.receive())["params"]
        assert (event["value"], event["ts"], event["rev"]) == (7, NOW + 7, 8)
        assert not event.get("late")
        away = core.connect()
        resumed = await away.call("record.subscribe", name="#", after=7, epoch=opened["epoch"])
        assert "resync" not in resumed
        assert (await away.receive())["params"]["rev"] == 8


async def test_the_latest_row_stays_until_the_last_slice(
    backend: FullBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "_SLICE_ROWS", 2)
    async with running_core(backend, AHEAD) as core:
        peer = core.connect()
        await poison(peer)
        first = await peer.call("record.trim", name="a", newer_than=NOW + 100)
        assert first == {"deleted": 2, "more": True}
        assert (await peer.call("record.get", name="a"))["rev"] == 6
        last = await peer.call("record.trim", name="a", newer_than=NOW + 100)
        assert last == {"deleted": 1, "more": False}
        assert (await peer.call("record.get", name="a"))["rev"] == 8


@pytest.mark.parametrize("slice_rows", [1, 3])
async def test_a_slice_that_ends_with_the_last_row_ahead_is_the_last(
    backend: FullBackend, monkeypatch: pytest.MonkeyPatch, slice_rows: int
) -> None:
    monkeypatch.setattr(purging, "_SLICE_ROWS", slice_rows)
    async with running_core(backend, AHEAD) as core:
        peer = core.connect()
        await poison(peer)
        while (await peer.call("record.trim", name="a", newer_than=NOW + 100))["more"]:
            assert (await peer.call("record.get", name="a"))["rev"] == 6
        assert (await peer.call("record.get", name="a"))["rev"] == 8


async def test_rows_go_and_the_newest_left_comes_in_one_commit(tmp_path: Path) -> None:
    """A crash between two would leave followers who are away without the one that came."""
    commits: list[str] = []

    class Counting(SqliteBackend):
        async def apply(self, commits_: Sequence[Commit], position: int) -> None:
            commits.extend(type(commit).__name__ for commit in commits_)
            await super().apply(commits_, position)

    options = sqlite_options(tmp_path / "r.db")
    async with running_core(Counting(options), AHEAD) as core:
        peer = core.connect()
        await poison(peer)
        commits.clear()
        await peer.call("record.trim", name="a", newer_than=NOW + 100)
        assert commits == ["Renewal"]
        mark = read_mark(options.table["database"])
        assert mark is not None
        assert mark.rev == 8, "the mark knows of the commit before the answer"
        for suffix in ("", "-wal", "-mark"):
            shutil.copy(options.table["database"] + suffix, f"{tmp_path}/killed.db{suffix}")
    killed = sqlite_options(tmp_path / "killed.db")
    async with running_core(make_full_backend("sqlite", killed), AHEAD) as core:
        peer = core.connect()
        assert (await peer.call("record.get", name="a"))["rev"] == 8
        assert await rows_of(peer) == [(1, 1), (2, 2), (3, 3), (7, 7), (7, 8)]


async def test_a_restart_finds_what_a_trim_left(tmp_path: Path) -> None:
    options = sqlite_options(tmp_path / "r.db")
    async with running_core(make_full_backend("sqlite", options), AHEAD) as core:
        peer = core.connect()
        await poison(peer)
        await peer.call("record.trim", name="a", newer_than=NOW + 100)
    async with running_core(make_full_backend("sqlite", options), AHEAD) as core:
        peer = core.connect()
        assert (await peer.call("record.get", name="a"))["rev"] == 8
        assert core.core.hub.gaps.newest_gap(compile_pattern("a"), 5) > 5


async def test_without_a_history_a_record_ahead_is_forgotten() -> None:
    async with running_core(configuration=AHEAD, extensions=[]) as core:
        peer = core.connect()
        await poison(peer)
        await peer.call("record.trim", name="a", newer_than=NOW + 864_000_100)
        assert (await peer.call("record.get", name="a"))["value"] == 6
        await peer.call("record.trim", name="a", newer_than=NOW + 100)
        assert (await peer.call("record.count"))["records"] == 0


async def test_writes_and_trims_of_one_connection_take_effect_in_order(
    core: CoreInMemory,
) -> None:
    peer = core.connect()
    calls = [
        request("record.set", 1, name="a", value=1, ts=NOW),
        request("record.set", 2, name="a", value=2, ts=NOW + 5),
        request("record.trim", 3, name="a", newer_than=NOW),
        request("record.set", 4, name="a", value=3, ts=NOW + 1),
    ]
    await peer.send(*calls)
    answers = {answer["id"]: answer["result"] for answer in [await peer.receive() for _ in calls]}
    assert answers[3]["deleted"] == 1
    assert answers[4] == {"rev": 4, "ts": NOW + 1}


@pytest.mark.parametrize("newer_than", [-1, 2**63])
async def test_a_time_that_is_none_is_refused(core: CoreInMemory, newer_than: int) -> None:
    answer = await core.connect().call("record.trim", name="a", newer_than=newer_than)
    assert answer["error"]["data"]["reason"] == "invalid_params"
