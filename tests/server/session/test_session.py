"""A connection's conversation: order, sharing of commits, what is refused and how."""

from __future__ import annotations

import json
from typing import Any

import trio
import trio.testing

from recordd.config.rules import read_rules
from recordd.config.settings import Configuration
from recordd.persistence.memory import MemoryBackend
from recordd_protocol.rows import Row
from tests.core_in_memory import CoreInMemory, configure, running_core
from tests.server.commits import publish
from tests.wire import request


def reason_of(answer: Any) -> str:
    return str(answer["error"]["data"]["reason"])


async def test_a_get_behind_a_set_sees_it(core: CoreInMemory) -> None:
    peer = core.connect()
    lines = []
    for n in range(20):
        lines += [
            request("record.set", n, name="a", value=n),
            request("record.get", 100 + n, name="a"),
        ]
    await peer.send(*lines)
    answers = [await peer.receive() for _ in lines]
    values = [a["result"]["value"] for a in answers if a["id"] >= 100]
    assert values == list(range(20))


async def test_pipelined_sets_share_commits(core: CoreInMemory) -> None:
    peer = core.connect()
    await peer.send(*(request("record.set", n, name="a", value=n) for n in range(200)))
    revs = [(await peer.receive())["result"]["rev"] for _ in range(200)]
    assert revs == list(range(1, 201))
    assert core.writer.statistics().commits < 10


class SlowBackend(MemoryBackend):
    """Queries wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()

    async def query(self, patterns: Any, params: Any) -> Any:
        await self.gate.wait()
        return await super().query(patterns, params)


async def test_a_query_holds_nothing_up_and_shows_the_moment_of_its_turn() -> None:
    backend = SlowBackend()
    async with running_core(backend) as core:
        peer = core.connect()
        await peer.call("record.set", name="a", value=1)
        await peer.send(
            request("record.query", "q", name="#", limit=None),
            request("record.set", "s", name="a", value=2),
            request("record.get", "g", name="a"),
        )
        assert (await peer.receive())["id"] == "s"
        assert (await peer.receive())["result"]["value"] == 2
        backend.gate.set()
        answer = await peer.receive()
        assert (answer["id"], [r["value"] for r in answer["result"]["records"]]) == ("q", [1])


async def test_too_many_pending_queries_are_overload() -> None:
    backend = SlowBackend()
    async with running_core(backend, configure(socket="x")) as core:
        peer = core.connect()
        limit = core.core.settings.max_pending_queries
        await peer.send(*(request("record.query", n, limit=None) for n in range(limit + 1)))
        answer = await peer.receive()
        assert (answer["id"], reason_of(answer)) == (limit, "overloaded")
        backend.gate.set()
        assert {(await peer.receive())["id"] for _ in range(limit)} == set(range(limit))


async def test_a_peer_that_stops_sending_still_gets_its_answers(core: CoreInMemory) -> None:
    peer = core.connect()
    await peer.send(
        request("record.set", 1, name="a", value=1), request("record.query", 2, limit=None)
    )
    await peer.stream.send_eof()
    answers = [await peer.receive(), await peer.receive()]
    assert {answer["id"] for answer in answers} == {1, 2}
    assert await peer.receive() is None


async def test_half_a_line_at_the_end_is_no_message(core: CoreInMemory) -> None:
    peer = core.connect()
    await peer.stream.send_all(request("record.set", 1, name="a", value=1)[:-1])
    await peer.stream.send_eof()
    assert await peer.receive() is None
    assert core.core.hub.catalogue.find("a") is None


async def test_a_line_too_long_is_answered_and_then_the_connection_closes(
    core: CoreInMemory,
) -> None:
    peer = core.connect()
    await peer.send(request("record.set", 1, name="a", value=1))
    await peer.stream.send_all(b"x" * ((1 << 20) + 1))
    assert (await peer.receive())["id"] == 1
    answer = await peer.receive()
    assert (answer["id"], reason_of(answer)) == (None, "too_large")
    assert await peer.receive() is None


async def test_notifications_get_no_answer_and_refused_writes_among_them_are_counted(
    core: CoreInMemory,
) -> None:
    peer = core.connect()
    await peer.send(
        request("record.set", name="a", value=1),
        request("record.set", name="not a name", value=1),
        request("record.get", name="nope"),
    )
    stats = await peer.call("server.stats")
    assert (stats["records"], stats["unanswered_write_errors"], stats["request_errors"]) == (
        1,
        1,
        2,
    )


async def test_a_batch_is_answered_once_when_its_last_call_is_done(core: CoreInMemory) -> None:
    peer = core.connect()
    batch = [
        request("record.set", 1, name="a", value=1),
        request("record.get", 2, name="a"),
        request("record.set", name="b", value=1),
        request("record.query", 3, limit=None),
        b"17",
    ]
    await peer.send(b"[" + b",".join(batch) + b"]")
    answers = {answer["id"]: answer for answer in await peer.receive()}
    assert set(answers) == {1, 2, 3, None}
    assert answers[2]["result"]["value"] == 1


async def test_set_many_is_all_or_nothing_and_names_the_row(core: CoreInMemory) -> None:
    peer = core.connect()
    rows = [{"name": "a", "value": 1}, {"name": "b c", "value": 1}]
    answer = await peer.call("record.set_many", records=rows)
    assert answer["error"]["message"].startswith("records[1].name: ")
    assert (await peer.call("record.count")) == {"records": 0, "rows": 0}
    rows[1]["name"] = "b"
    assert await peer.call("record.set_many", records=rows) == {"first_rev": 1, "last_rev": 2}


async def test_bad_parameters_are_named(core: CoreInMemory) -> None:
    peer = core.connect()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"value": 1}, "name"),
        ({"name": 5, "value": 1}, "name"),
        ({"name": "a"}, "value"),
        ({"name": "a", "value": 1, "tz": 1}, "tz"),
        ({"name": "a", "value": 1, "ts": "now"}, "ts"),
        ({"name": "a", "value": 1, "ts": -1}, "ts"),
        ({"name": "a", "value": 1, "ts": 2**63}, "ts"),
        ({"name": "a", "value": 1, "ts": 2**64 + 5}, "ts"),
        ({"name": "a", "value": 1, "ts": 10**15}, "ts"),
        ({"name": "a", "value": 1, "ts": 1.5}, "ts"),
        ({"name": "a\x01", "value": 1}, "name"),
    ]
    for params, culprit in cases:
        answer = await peer.call("record.set", **params)
        assert reason_of(answer) == "invalid_params", params
        assert culprit in answer["error"]["message"], params
    assert reason_of(await peer.call("record.query", start=5)) == "invalid_params"
    assert reason_of(await peer.call("record.query", limit=-1)) == "invalid_params"
    assert reason_of(await peer.call("record.query", name=[])) == "invalid_params"
    assert reason_of(await peer.call("record.nope")) == "method_not_found"


async def test_drain_gives_each_connection_what_came_since_its_last(core: CoreInMemory) -> None:
    first, second = core.connect(), core.connect()
    await first.call("record.set", name="a", value=1)
    await first.call("record.set", name="a", value=2)
    assert (await first.call("record.drain", name="a"))["values"] == [2]
    assert (await first.call("record.drain", name="a"))["values"] == []
    await second.call("record.set", name="a", value=3)
    assert (await first.call("record.drain", name="a"))["values"] == [3]
    assert (await second.call("record.drain", name="a"))["values"] == [3]
    assert reason_of(await second.call("record.drain", name="b")) == "not_found"


async def test_a_drain_that_does_not_fit_gives_what_fits_and_keeps_the_rest() -> None:
    table = read_rules(
        [{"name": "ring", "buffer": "spmc_ring", "capacity": 10}],
        default_retention_ms=None,
        max_capacity=100,
    )
    settings = configure().settings
    async with running_core(configuration=Configuration(settings, table, {})) as core:
        peer = core.connect()
        for n in range(5):
            await peer.call("record.set", name="ring", value=str(n) + "x" * 300_000, ts=10 + n)
        await peer.call("record.set", name="ring", value="late", ts=1)
        seen: list[str] = []
        while values := (await peer.call("record.drain", name="ring"))["values"]:
            seen += values
        assert [value[:4] for value in seen] == ["0xxx", "1xxx", "2xxx", "3xxx", "4xxx", "late"]


async def test_a_late_value_is_not_drained_from_a_single_latest_buffer(core: CoreInMemory) -> None:
    peer = core.connect()
    await peer.call("record.set", name="a", value=1, ts=1000)
    assert (await peer.call("record.drain", name="a"))["values"] == [1]
    await peer.call("record.set", name="a", value=2, ts=500)
    assert (await peer.call("record.drain", name="a"))["values"] == []


async def test_a_list_is_paged_by_record_id(core: CoreInMemory) -> None:
    peer = core.connect()
    for n in range(5):
        await peer.call("record.set", name=f"r.{n}", value=n)
    first = await peer.call("record.list", limit=3)
    rest = await peer.call("record.list", limit=3, after=first[-1]["record_id"])
    assert [row["name"] for row in first + rest] == [f"r.{n}" for n in range(5)]


async def test_hello_agrees_on_the_major_version(core: CoreInMemory) -> None:
    peer = core.connect()
    for version in (None, "3", "3.0", "3.7"):
        assert (await peer.call("hello", client="t", version=version))["version"] == "3.0"
    for version in ("2", "4.0", "", "x"):
        assert (
            reason_of(await peer.call("hello", client="t", version=version)) == "version_mismatch"
        )


async def test_an_answer_over_the_reply_limit_is_refused(core: CoreInMemory) -> None:
    peer = core.connect()
    for n in range(4000):
        publish(core.core.hub, [Row(f"r.{n:04}", b"1", 1, n + 1)])
    assert reason_of(await peer.call("record.list")) == "too_large"
    assert len(await peer.call("record.list", limit=2000)) == 2000


async def test_latest_values_are_paged_within_the_reply_limit(core: CoreInMemory) -> None:
    for n in range(50):
        publish(core.core.hub, [Row(f"r.{n}", b'"' + b"x" * 60_000 + b'"', n, n + 1)])
    peer = core.connect()
    names: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = await peer.call("record.query", **after)
        assert len(json.dumps(page, separators=(",", ":"))) < 1 << 20
        names += [row["name"] for row in page["records"]]
        if "next" not in page:
            break
        after = {"after": page["next"]}
    assert names == [f"r.{n}" for n in range(50)]


async def test_a_daemon_without_persistence_works_in_memory() -> None:
    async with running_core(extensions=[]) as core:
        peer = core.connect()
        assert (await peer.call("record.set", name="a", value=1))["rev"] is None
        assert (await peer.call("record.get", name="a"))["value"] == 1
        (latest,) = (await peer.call("record.query"))["records"]
        assert (latest["name"], latest["value"], latest["rev"]) == ("a", 1, None)
        history: dict[str, Any] = {"limit": 2}
        for method, params in [("query", history), ("replay", {"after": 0}), ("at", {"rev": 1})]:
            assert reason_of(await peer.call(f"record.{method}", **params)) == "not_configured"


async def test_a_handlers_crash_is_internal_and_the_connection_goes_on(
    core: CoreInMemory, monkeypatch: Any, caplog: Any
) -> None:
    peer = core.connect()
    core.core.hub.catalogue.names = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    answer = await peer.call("graph.topo_order")
    assert reason_of(answer) == "internal"
    assert "ZeroDivisionError" not in json.dumps(answer)
    assert "ZeroDivisionError" in caplog.text
    assert (await peer.call("hello", client="t"))["server"] == "recordd"


async def test_rules_decide_who_may_write_and_what_is_kept() -> None:
    configuration = configure()
    table = read_rules(
        [
            {"name": "ro.*", "writable": False},
            {"name": "tmp.*", "persist": False},
            {"name": "ring.*", "buffer": "spmc_ring", "capacity": 3},
        ],
        default_retention_ms=None,
        max_capacity=100,
    )
    configuration = Configuration(configuration.settings, table, configuration.sources)
    async with running_core(configuration=configuration) as core:
        peer = core.connect()
        assert reason_of(await peer.call("record.set", name="ro.x", value=1)) == "denied"
        assert (await peer.call("record.set", name="tmp.x", value=1))["rev"] is None
        assert (await peer.call("record.get", name="tmp.x"))["value"] == 1
        assert [row["name"] for row in (await peer.call("record.query"))["records"]] == ["tmp.x"]
        assert (await peer.call("record.query", limit=2))["records"] == []
        for n in range(5):
            await peer.call("record.set", name="ring.x", value=n, ts=n)
        drained = await peer.call("record.drain", name="ring.x", limit=2)
        assert (drained["values"], drained["count"]) == ([2, 3], 2)
        assert (await peer.call("record.drain", name="ring.x"))["values"] == [4]
        (info,) = await peer.call("record.list", name="ring.x")
        assert (info["buffer_type"], info["buffer_capacity"], info["produced_count"]) == (
            "spmc_ring",
            3,
            5,
        )


async def test_a_place_in_the_log_of_another_database_is_a_conflict(core: CoreInMemory) -> None:
    peer = core.connect()
    for n in range(3):
        await peer.call("record.set", name="a", value=n)
    page = await peer.call("record.replay", after=0, limit=2)
    _, _, epoch = page["next"].split(".")
    rest = await peer.call("record.replay", after=page["next"])
    assert [row["rev"] for row in rest["records"]] == [3]
    refused = await peer.call("record.replay", after=page["next"].replace(epoch, "another"))
    assert reason_of(refused) == "conflict"
    assert len((await peer.call("record.replay", after="2"))["records"]) == 1
    assert reason_of(await peer.call("record.replay", after="x")) == "invalid_params"


async def test_a_batch_with_a_subscription_that_wants_no_answer_is_answered(
    core: CoreInMemory,
) -> None:
    peer = core.connect()
    calls = [request("record.count", 1), request("record.subscribe", name="#")]
    await peer.send(b"[" + b",".join(calls) + b"]")
    with trio.fail_after(5):
        answer = await peer.receive()
    assert [item["id"] for item in answer] == [1]
    assert core.core.hub.topics.subscriptions == 0


async def test_an_event_of_an_own_write_comes_between_the_answers_around_it() -> None:
    """Also where the write is committed in the middle of the burst that it came in."""
    async with running_core(extensions=[]) as core:
        peer = core.connect()
        await peer.call("record.set", name="a", value=0)
        await peer.call("record.subscribe", name="a", snapshot=False)
        for value in range(1, 6):
            await peer.send(
                request("record.get", "get", name="a"),
                request("record.set", "set", name="a", value=value),
            )
            got, event, written = [await peer.receive() for _ in range(3)]
            assert (got["id"], got["result"]["value"]) == ("get", value - 1)
            assert event["params"]["value"] == value
            assert written["id"] == "set"
