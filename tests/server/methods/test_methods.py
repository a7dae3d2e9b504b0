"""What single methods take and answer, over a connection to a core in memory."""

from __future__ import annotations

from typing import Any

import pytest

from recordd.config.rules import read_rules
from recordd.config.settings import Configuration
from tests.core_in_memory import CoreInMemory, configure, running_core


async def test_set_many_tells_of_each_row_where_asked(core: CoreInMemory) -> None:
    peer = core.connect()
    assert await peer.call("record.set", name="a", value=0, ts=50) == {"rev": 1, "ts": 50}
    rows = [{"name": "a", "value": 1, "ts": 60}, {"name": "a", "value": 2, "ts": 40}]
    assert await peer.call("record.set_many", records=rows, rows=True) == {
        "first_rev": 2,
        "last_rev": 3,
        "rows": [{"rev": 2, "ts": 60}, {"rev": 3, "ts": 40, "late": True}],
    }
    assert await peer.call("record.set_many", records=rows) == {"first_rev": 4, "last_rev": 5}


async def test_set_many_takes_a_condition_for_each_row(core: CoreInMemory) -> None:
    peer = core.connect()
    rows: list[dict[str, Any]] = [
        {"name": "a", "value": 1, "if_rev": 0},
        {"name": "b", "value": 1, "if_rev": 0},
        {"name": "c", "value": 1},
    ]
    assert (await peer.call("record.set_many", records=rows))["last_rev"] == 3
    rows = [{"name": "d", "value": 1}, {"name": "b", "value": 2, "if_rev": 1}]
    refused = (await peer.call("record.set_many", records=rows))["error"]
    assert refused["data"]["reason"] == "conflict"
    assert refused["message"] == "records[1].if_rev: record 'b' is at rev 2, not 1"
    assert await peer.call("record.count") == {"records": 3, "rows": 3}


@pytest.mark.parametrize("if_rev", [-1, 2**63])
async def test_an_if_rev_that_no_row_can_have_is_invalid(core: CoreInMemory, if_rev: int) -> None:
    peer = core.connect()
    one = await peer.call("record.set", name="a", value=1, if_rev=if_rev)
    many = await peer.call("record.set_many", records=[{"name": "a", "value": 1, "if_rev": if_rev}])
    for refused, where in ((one, "if_rev: "), (many, "records[0].if_rev: ")):
        assert refused["error"]["data"]["reason"] == "invalid_params"
        assert refused["error"]["message"].startswith(where)


async def test_a_thousand_names_and_eight_patterns_go_together(core: CoreInMemory) -> None:
    peer = core.connect()
    await peer.call("record.set", name="n1", value=1)
    names = [f"n{n}" for n in range(1000)]
    patterns = [f"p{n}.*" for n in range(8)]
    found = await peer.call("record.query", name=[*names, *patterns])
    assert [row["name"] for row in found["records"]] == ["n1"]
    for too_many in ([*names, "one.more"], [*patterns, "p8.*"], []):
        refused = await peer.call("record.query", name=too_many)
        assert refused["error"]["data"]["reason"] == "invalid_params"


async def test_a_rules_schema_type_stands_in_the_list() -> None:
    configuration = configure()
    rules = read_rules(
        [{"name": "temp.*", "schema_type": "temperature"}],
        default_retention_ms=None,
        max_capacity=1,
    )
    configuration = Configuration(configuration.settings, rules, configuration.sources)
    async with running_core(configuration=configuration) as core:
        peer = core.connect()
        for name in ("temp.vienna", "other"):
            await peer.call("record.set", name=name, value=1)
        typed, untyped = await peer.call("record.list")
        assert typed["schema_type"] == "temperature"
        assert "schema_type" not in untyped


async def test_a_replay_behind_deleted_rows_says_so_as_a_subscription_does(
    core: CoreInMemory,
) -> None:
    peer = core.connect()
    for name in ("a.x", "b.x", "a.y", "b.x"):
        await peer.call("record.set", name=name, value=1)
    whole = await peer.call("record.replay", after=0)
    assert "gap" not in whole
    await peer.call("record.delete", name="a.x")  # commit 5
    await peer.call("record.set", name="a.z", value=1)
    for after, name, has_gap in [(0, "#", 1), (4, "a.*", 1), (5, "#", 0), (0, "b.*", 0)]:
        page = await peer.call("record.replay", after=after, name=name)
        assert (page.get("gap", False), page.get("oldest_rev")) == (
            (True, 6) if has_gap else (False, None)
        )
        followed = await core.connect().call("record.subscribe", name=name, after=after)
        assert followed.get("oldest_rev") == page.get("oldest_rev")
    paged = await peer.call("record.replay", after=0, limit=1)
    assert paged["gap"]
    rest = await peer.call("record.replay", after=paged["next"])
    assert [row["rev"] for row in [*paged["records"], *rest["records"]]] == [2, 3, 4, 6]


async def test_the_list_counts_what_came_what_was_got_and_what_was_missed() -> None:
    configuration = configure()
    rules = read_rules(
        [{"name": "ring", "buffer": "spmc_ring", "capacity": 3}],
        default_retention_ms=None,
        max_capacity=10,
    )
    configuration = Configuration(configuration.settings, rules, configuration.sources)
    async with running_core(configuration=configuration) as core:
        peer, first, second = core.connect(), core.connect(), core.connect()

        async def write_five() -> None:
            rows = [{"name": "ring", "value": n} for n in range(5)]
            assert "error" not in await peer.call("record.set_many", records=rows)

        async def counts() -> tuple[int, int, int, list[int]]:
            (row,) = await peer.call("record.list")
            return (
                row["produced_count"],
                row["consumed_count"],
                row["dropped_count"],
                row["occupancy"],
            )

        await write_five()
        assert await counts() == (5, 0, 0, [3, 3])
        assert (await peer.call("record.drain", name="ring"))["count"] == 3
        assert await counts() == (5, 3, 0, [3, 3])
        await write_five()
        assert (await peer.call("record.drain", name="ring"))["count"] == 3
        assert await counts() == (10, 6, 2, [3, 3])
        for follower in (first, second):
            await follower.call("record.subscribe", name="#")
            assert (await follower.receive())["params"]["last"]
        assert await counts() == (10, 8, 2, [3, 3])
        await write_five()
        assert await counts() == (15, 18, 2, [3, 3])
        assert await peer.call("buffer_metrics.reset") == {"reset": True}
        assert await counts() == (0, 0, 0, [3, 3])


async def test_what_a_slow_subscriber_is_told_it_missed_counts_as_dropped() -> None:
    async with running_core(configuration=configure(subscriber_updates=1)) as core:
        writer, slow = core.connect(), core.connect()
        assert (await slow.call("record.subscribe", name="a"))["values"] == 0
        big = "x" * 300_000  # more than a socket pair holds
        for n in range(9):
            await writer.call("record.set", name="a", value=[n, big])
        skipped = got = 0
        while True:
            params = (await slow.receive())["params"]
            got += 1
            skipped += params.get("skipped", 0)
            if params["value"][0] == 8:
                break
        assert skipped > 0
        (row,) = await writer.call("record.list")
        assert (row["consumed_count"], row["dropped_count"]) == (got, skipped)
        assert got + skipped == row["produced_count"] == 9
