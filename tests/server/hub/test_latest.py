"""Latest values over several pages: one moment, of all records, for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from recordd.config.rules import read_rules
from recordd.config.settings import Configuration
from tests.core_in_memory import CoreInMemory, Peer, configure, running_core
from tests.server.session.test_session import reason_of

TRANSIENT = {"name": "tmp.#", "persist": False}


@pytest.fixture
async def core() -> AsyncIterator[CoreInMemory]:
    """A core whose pages hold three rows; `tmp.#` is transient."""
    table = read_rules([TRANSIENT], default_retention_ms=None, max_capacity=1)
    settings = configure(page_rows=3, page_snapshots=2, page_snapshot_bytes=100_000).settings
    async with running_core(configuration=Configuration(settings, table, {})) as core:
        yield core


async def fill(peer: Peer, names: str = "abcdefg", ts: int | None = None) -> None:
    for n, name in enumerate(names):
        await peer.call("record.set", name=name, value=n, ts=n + 100 if ts is None else ts)


async def rest(peer: Peer, page: Any, **query: Any) -> list[tuple[str, Any]]:
    """Return names and values of a page and of all behind it."""
    rows = [(row["name"], row["value"]) for row in page["records"]]
    while "next" in page:
        page = await peer.call("record.query", after=page["next"], **query)
        rows += [(row["name"], row["value"]) for row in page["records"]]
    return rows


ABC = [(name, n) for n, name in enumerate("abcdefg")]


async def test_what_is_written_between_two_pages_changes_neither(core: CoreInMemory) -> None:
    peer = core.connect()
    await fill(peer)
    page = await peer.call("record.query")
    await peer.call("record.set", name="e", value="new", ts=1000)
    await peer.call("record.set", name="new", value=1, ts=104)
    await peer.call("record.set", name="a", value="new", ts=2000)
    following = await peer.call("record.query", after=page["next"])
    assert following["rev"] == page["rev"] == 7
    assert await rest(peer, page) == ABC


async def test_a_record_deleted_and_set_again_with_an_older_time_is_not_left_out(
    core: CoreInMemory,
) -> None:
    peer = core.connect()
    await fill(peer)
    page = await peer.call("record.query")
    await peer.call("record.delete", name="f")
    await peer.call("record.set", name="f", value="again", ts=1)
    await peer.call("record.delete", name="g")
    assert await rest(peer, page) == ABC


async def test_records_that_are_not_persisted_are_shown_each_once_though_no_order_tells_them_apart(
    core: CoreInMemory,
) -> None:
    peer = core.connect()
    names = [f"tmp.{n}" for n in range(8)]
    for name in names:
        await peer.call("record.set", name=name, value=1, ts=5)
    await peer.call("record.set", name="kept", value=1, ts=5)
    shown = [name for name, _ in await rest(peer, await peer.call("record.query"))]
    assert sorted(shown) == sorted([*names, "kept"])
    assert shown[-1] == "kept"
    assert await peer.call("record.count") == {"records": 9, "rows": 1}


async def test_without_persistence_latest_values_are_paged_and_history_is_not_configured() -> None:
    async with running_core(extensions=[], configuration=configure(page_rows=3)) as core:
        peer = core.connect()
        await fill(peer)
        assert await rest(peer, await peer.call("record.query")) == ABC
        assert await rest(peer, await peer.call("record.query", limit=1)) == ABC
        unpaged = await peer.call("record.query", paged=False)
        assert (unpaged["total"], len(unpaged["records"])) == (7, 7)
        for params in ({"limit": 2}, {"limit": None}, {"limit": 1, "start": 0}):
            refused = await peer.call("record.query", **params)
            assert reason_of(refused) == "not_configured"
        assert (await peer.call("record.query", limit=0))["records"] == []


async def test_values_of_a_moment_are_kept_for_a_while(
    core: CoreInMemory, autojump_clock: object
) -> None:
    peer = core.connect()
    await fill(peer)
    page = await peer.call("record.query")
    await trio.sleep(50)
    following = await peer.call("record.query", after=page["next"])
    await trio.sleep(50)
    assert await rest(peer, following) == ABC[3:]  # what is asked for again stays
    await trio.sleep(76)  # a minute, and the time between two looks
    assert core.core.snapshots.statistics().snapshots == 0
    refused = await peer.call("record.query", after=page["next"])
    assert reason_of(refused) == "expired"
    assert "page_snapshot_timeout (60 s)" in refused["error"]["message"]
    assert refused["error"]["data"]["retryable"] is True


async def test_a_greedy_connection_takes_from_itself_alone(core: CoreInMemory) -> None:
    greedy, modest = core.connect(), core.connect()
    await fill(modest)
    page = await modest.call("record.query")
    pages = []
    for n in range(5):
        await greedy.call("record.set", name="a", value=n, ts=100)
        pages.append(await greedy.call("record.query"))
    assert core.core.snapshots.statistics().snapshots == 3
    refused = await greedy.call("record.query", after=pages[2]["next"])
    assert reason_of(refused) == "expired"
    assert len(await rest(greedy, pages[3])) == 7
    assert await rest(modest, page) == ABC


async def test_values_replaced_since_are_bounded_by_their_bytes(core: CoreInMemory) -> None:
    peer = core.connect()
    for n in range(7):
        await peer.call("record.set", name=f"r.{n}", value="x" * 10_000, ts=n)
    first = await peer.call("record.query")
    await peer.call("record.set", name="r.0", value=0, ts=10)
    second = await peer.call("record.query")
    assert len(await rest(peer, first)) == 7  # together they hold one large value back
    for n in range(7):
        await peer.call("record.set", name=f"r.{n}", value=1, ts=20 + n)
    assert reason_of(await peer.call("record.query", after=second["next"])) == "expired"
    stats = await peer.call("server.stats")
    assert stats["page_snapshot_bytes"] <= 100_000


async def test_who_keeps_most_values_loses_his_pages_first(core: CoreInMemory) -> None:
    greedy, modest = core.connect(), core.connect()
    for n in range(7):
        await greedy.call("record.set", name=f"r.{n}", value="x" * 10_000, ts=n)
    await fill(modest)
    page = await modest.call("record.query", name=list("abcdefg"))
    large = await greedy.call("record.query", name="r.*")
    for n in range(7):
        await greedy.call("record.set", name=f"r.{n}", value=1, ts=20 + n)
    assert await rest(modest, page, name=list("abcdefg")) == ABC
    following = await greedy.call("record.query", name="r.*", after=large["next"])
    assert reason_of(following) == "expired"


async def test_asking_again_at_the_same_moment_keeps_no_more(core: CoreInMemory) -> None:
    peer = core.connect()
    await fill(peer)
    answers = [await peer.call("record.query") for _ in range(5)]
    assert len({answer["next"] for answer in answers}) == 1
    stats = await peer.call("server.stats")
    assert (stats["page_snapshots"], stats["page_snapshot_bytes"]) == (1, 7 * 8)


async def test_nothing_is_kept_for_who_has_left(core: CoreInMemory) -> None:
    peer = core.connect()
    await fill(peer)
    await peer.call("record.query")
    assert core.core.snapshots.statistics().snapshots == 1
    await peer.stream.send_eof()
    assert await peer.receive() is None
    assert core.core.snapshots.statistics().snapshots == 0


async def test_a_cursor_of_another_database_or_of_none_is_refused(core: CoreInMemory) -> None:
    peer = core.connect()
    await fill(peer)
    following = (await peer.call("record.query"))["next"]
    form, snapshot, start, query, epoch = following.split(".")
    for foreign in (
        f"{form}.{snapshot}.{start}.{query}.x",
        f"{form}.{'0' * 16}.{start}.{query}.{epoch}",
    ):
        assert reason_of(await peer.call("record.query", after=foreign)) == "expired"
    places = ("-1", "0", "7", "9" * 30)
    forged = [f"{form}.{snapshot}.{place}.{query}.{epoch}" for place in places]
    for text in ("", "x", "1.2.3", f"{form}.{snapshot}.{start}.{epoch}", *forged):
        assert reason_of(await peer.call("record.query", after=text)) == "invalid_params", text


async def test_the_values_of_a_thousand_records_are_joined_and_not_copied() -> None:
    """Two answers at one moment share the list: asking costs nothing a record but its bytes."""
    async with running_core() as core:
        peer = core.connect()
        rows = [{"name": f"r.{n}", "value": n} for n in range(1000)]
        await peer.call("record.set_many", records=rows)
        from recordd.system.turns import Work
        from recordd_protocol.patterns import compile_patterns

        latest = core.core.latest
        pages = [Work(latest.first_page(compile_patterns("#"), peer)) for _ in range(2)]
        assert all(page.advance() for page in pages)
        assert pages[0].result.rows is pages[1].result.rows


async def test_a_page_of_another_query_is_refused(core: CoreInMemory) -> None:
    peer = core.connect()
    await fill(peer)
    page = await peer.call("record.query", name="#")
    answer = await peer.call("record.query", name="a*", after=page["next"])
    assert reason_of(answer) == "invalid_params"
    assert await rest(peer, page) == ABC
