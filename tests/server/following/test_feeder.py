"""Subscriptions over a connection: how they open, what they tell, how they end."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from recordd.config.rules import read_rules
from recordd.config.settings import Configuration
from recordd.core import Core
from recordd.extending.backend import BackendError, CleanupTarget
from recordd.following.feeder import Feeder
from recordd.following.opening import Opening
from recordd.following.subscription import Subscription
from recordd.persistence.memory import MemoryBackend
from recordd.system.turns import Turns
from recordd.writing.requests import WriteRows
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc_events import JsonRpcEvents
from recordd_protocol.patterns import compile_pattern
from tests.core_in_memory import CoreInMemory, Peer, configure, running_core
from tests.server.backends import make_full_backend, sqlite_options
from tests.server.following.test_phases import Followed
from tests.wire import request


async def subscribe(peer: Peer, name: str, **params: Any) -> Any:
    return await peer.call("record.subscribe", name=name, **params)


async def events(peer: Peer, count: int) -> list[dict[str, Any]]:
    """Receive so many events; each as its parameters, less the subscription."""
    found = []
    for _ in range(count):
        with trio.fail_after(5):
            message = await peer.receive()
        assert message["method"] == "record.event", message
        message["params"].pop("subscription")
        found.append(message["params"])
    return found


def brief(event: dict[str, Any]) -> tuple[Any, ...]:
    flags = sorted(key for key in event if key not in ("name", "value", "ts", "rev", "epoch"))
    return event.get("name"), event.get("value"), event.get("rev"), *flags


async def write(peer: Peer, *items: tuple[str, Any], **params: Any) -> None:
    for name, value in items:
        result = await peer.call("record.set", name=name, value=value, **params)
        assert "ts" in result, result


def with_rules(*rules: dict[str, Any], **settings: Any) -> Configuration:
    made = configure(**settings)
    table = read_rules(list(rules), default_retention_ms=None, max_capacity=100)
    return Configuration(made.settings, table, made.sources)


async def test_a_snapshot_comes_first_in_order_of_rev_and_then_every_commit(
    core: CoreInMemory,
) -> None:
    writer, reader = core.connect(), core.connect()
    await write(writer, ("t.a", 1), ("t.b", 2), ("u", 3), ("t.a", 4))
    answer = await subscribe(reader, "t.*")
    epoch = core.core.hub.epoch
    assert answer == {"subscription": "s1", "rev": 4, "epoch": epoch, "values": 2}
    await write(writer, ("t.c", 5), ("u", 6), ("t.a", 7))
    assert [brief(event) for event in await events(reader, 4)] == [
        ("t.b", 2, 2, "snapshot"),
        ("t.a", 4, 4, "last", "snapshot"),
        ("t.c", 5, 5),
        ("t.a", 7, 7),
    ]


async def test_without_a_snapshot_only_what_comes_is_told(core: CoreInMemory) -> None:
    peer = core.connect()
    await write(peer, ("a", 1))
    assert (await subscribe(peer, "#", snapshot=False))["values"] == 0
    await peer.send(request("record.set", 2, name="b", value=2))
    assert [brief(event) for event in await events(peer, 1)] == [("b", 2, 2)]


async def test_a_subscription_behind_a_write_has_it_in_its_snapshot(core: CoreInMemory) -> None:
    peer = core.connect()
    await peer.send(
        request("record.set", 1, name="a", value=1), request("record.subscribe", 2, name="a")
    )
    answers = [await peer.receive() for _ in range(2)]
    assert answers[1]["result"]["rev"] == 1
    assert [brief(event) for event in await events(peer, 1)] == [("a", 1, 1, "last", "snapshot")]


async def test_late_rows_and_deletions_are_told_as_such(core: CoreInMemory) -> None:
    writer, reader = core.connect(), core.connect()
    await subscribe(reader, "#")
    await write(writer, ("a", 1), ts=2000)
    await write(writer, ("a", 0), ts=1000)
    assert (await writer.call("record.delete", name="a")) == {"deleted": 2}
    await write(writer, ("a", 2))
    assert [brief(event) for event in await events(reader, 4)] == [
        ("a", 1, 1),
        ("a", 0, 2, "late"),
        ("a", None, 3, "deleted"),
        ("a", 2, 4),
    ]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("backlog_bytes", [0, 1 << 20])
async def test_resuming_gives_exactly_what_came_after(
    tmp_path: Any, kind: str, backlog_bytes: int
) -> None:
    backend = make_full_backend(kind, sqlite_options(tmp_path / "r.db"))
    async with running_core(backend, configure(backlog_bytes=backlog_bytes)) as core:
        writer, reader = core.connect(), core.connect()
        await write(writer, ("a", 1), ("b", 2), ("a", 3), ("c", 4), ("a", 5))
        await write(writer, ("a", 0), ts=1000)
        answer = await subscribe(reader, "a", after=1, epoch=core.core.hub.epoch)
        assert answer == {"subscription": "s1", "rev": 6, "epoch": answer["epoch"], "values": 0}
        expected = [("a", 3, 3), ("a", 5, 5), ("a", 0, 6, "late")]
        assert [brief(event) for event in await events(reader, 3)] == expected
        await write(writer, ("a", 7))
        assert [brief(event) for event in await events(reader, 1)] == [("a", 7, 7)]


async def test_resuming_after_a_deletion_of_what_matches_resyncs(core: CoreInMemory) -> None:
    writer = core.connect()
    await write(writer, ("a", 1), ("b", 2), ("a", 3))
    await writer.call("record.delete", name="a")
    await write(writer, ("c", 5))
    for pattern, after, resyncs in [("#", 3, True), ("#", 4, False), ("b", 1, False)]:
        reader = core.connect()
        answer = await subscribe(reader, pattern, after=after, snapshot=False)
        assert answer.get("resync", False) is resyncs, (pattern, after)
        assert answer.get("oldest_rev") == (5 if resyncs else None)
        if resyncs:
            found = [brief(event) for event in await events(reader, 2)]
            assert found == [("b", 2, 2, "snapshot"), ("c", 5, 5, "last", "snapshot")]


async def test_another_epoch_or_a_rev_to_come_resyncs(core: CoreInMemory) -> None:
    peer = core.connect()
    await write(peer, ("a", 1))
    for params in ({"after": 1, "epoch": "other"}, {"after": 2}):
        reader = core.connect()
        assert (await subscribe(reader, "a", **params))["resync"] is True
        assert [brief(event) for event in await events(reader, 1)] == [
            ("a", 1, 1, "last", "snapshot")
        ]


async def test_records_that_are_not_persisted_come_as_values_when_resuming() -> None:
    rules = with_rules({"name": "live.*", "persist": False}, backlog_bytes=0)
    async with running_core(configuration=rules) as core:
        writer, reader = core.connect(), core.connect()
        await write(writer, ("live.a", 1), ("a", 2), ("live.a", 3), ("a", 4))
        await subscribe(reader, "#", after=1)
        assert [brief(event) for event in await events(reader, 2)] == [
            ("live.a", 3, None, "last", "snapshot"),
            ("a", 4, 2),
        ]
        await write(writer, ("live.a", 5))
        assert [brief(event) for event in await events(reader, 1)] == [("live.a", 5, None)]


async def test_nothing_comes_behind_the_answer_to_unsubscribe(core: CoreInMemory) -> None:
    peer = core.connect()
    answer = await subscribe(peer, "#")
    await write(core.connect(), ("a", 1))
    assert [brief(event) for event in await events(peer, 1)] == [("a", 1, 1)]
    ended = await peer.call("record.unsubscribe", subscription=answer["subscription"])
    assert ended == {}
    await write(peer, ("a", 2))
    again = await peer.call("record.unsubscribe", subscription=answer["subscription"])
    assert again["error"]["data"]["reason"] == "not_found"


async def test_subscriptions_are_limited() -> None:
    async with running_core(configuration=configure(max_subscriptions=2)) as core:
        peer = core.connect()
        await subscribe(peer, "a")
        await subscribe(peer, "b")
        refused = await subscribe(peer, "c")
        assert refused["error"]["data"] == {"reason": "overloaded", "retryable": True}
        await peer.call("record.unsubscribe", subscription="s1")
        assert (await subscribe(peer, "c"))["subscription"] == "s3"


async def test_events_of_one_commit_leave_in_one_send(core: CoreInMemory) -> None:
    reader = core.connect()
    await subscribe(reader, "#")
    await subscribe(reader, "a.*")
    rows = [{"name": f"a.{n}", "value": n} for n in range(50)]
    await core.connect().call("record.set_many", records=rows)
    received = await reader.stream.receive_some(1 << 20)
    assert received.count(b"\n") == 100
    assert received.endswith(b"\n")


class Slow:
    """A reader that stops reading, over a core with little room for updates."""

    def __init__(self, core: CoreInMemory) -> None:
        self.core = core
        self.writer, self.reader = core.connect(), core.connect()
        self.written = 0

    async def fill(self, rows: int, *names: str) -> None:
        """WriteRows values of 1 KiB, in turn to the names."""
        for _ in range(rows):
            name = names[self.written % len(names)]
            self.written += 1
            value = [self.written, "x" * 1000]
            await self.writer.call("record.set", name=name, value=value)


@contextlib.asynccontextmanager
async def slow_reader(*rules: dict[str, Any], **settings: Any) -> AsyncIterator[Slow]:
    configuration = with_rules(*rules, subscriber_updates=20, **settings)
    async with running_core(configuration=configuration) as core:
        yield Slow(core)


async def test_a_slow_reader_gets_the_newest_and_is_told_how_many_it_did_not() -> None:
    async with slow_reader() as slow:
        await subscribe(slow.reader, "#")
        await slow.fill(700, "a", "b", "c")
        numbers: list[int] = []
        counted = 0
        while not numbers or numbers[-1] < 700:
            (event,) = await events(slow.reader, 1)
            counted += 1 + event.get("skipped", 0)
            numbers.append(event["value"][0])
        assert numbers == sorted(numbers)
        assert counted == 700
        assert len(numbers) < 600
        assert numbers[-3:] == [698, 699, 700]
        assert slow.core.core.hub.statistics().updates_skipped == 700 - len(numbers)


@pytest.mark.parametrize("backlog_bytes", [0, 8 << 20])
async def test_a_slow_reader_that_asks_for_every_update_gets_every_one(backlog_bytes: int) -> None:
    async with slow_reader(backlog_bytes=backlog_bytes) as slow:
        await subscribe(slow.reader, "#", delivery="every")
        await slow.fill(700, "a", "b", "c")
        found = await events(slow.reader, 700)
        assert [event["value"][0] for event in found] == list(range(1, 701))
        assert not any("skipped" in event for event in found)


async def test_a_deletion_under_a_slow_reader_of_every_update_resyncs_it() -> None:
    async with slow_reader(backlog_bytes=0) as slow:
        await subscribe(slow.reader, "#", delivery="every")
        await slow.fill(700, "a", "b", "c")
        await slow.writer.call("record.delete", name="b")
        found: list[Any] = []
        while "last" not in (found or [{}])[-1]:
            found += await events(slow.reader, 1)
        *_, resync, c, a = [brief(event) for event in found]
        assert resync == (None, None, 701, "oldest_rev", "resync", "values")
        assert (c[0], a[0]) == ("c", "a")
        await slow.fill(1, "d")
        assert (await events(slow.reader, 1))[0]["name"] == "d"


async def test_a_deletion_is_told_to_a_slow_reader_too() -> None:
    async with slow_reader() as slow:
        await subscribe(slow.reader, "#")
        await slow.fill(700, "a", "b", "c")
        await slow.writer.call("record.delete", name="b")
        found: list[Any] = []
        while not found or found[-1]["rev"] < 701:
            found += await events(slow.reader, 1)
        assert found[-1]["name"] == "b"
        assert found[-1]["deleted"] is True


async def test_a_reader_that_reads_nothing_does_not_keep_others_waiting() -> None:
    async with slow_reader() as slow:
        await subscribe(slow.reader, "#")
        other = slow.core.connect()
        await subscribe(other, "#")
        for n in range(700):
            await slow.fill(1, "a")
            assert (await events(other, 1))[0]["value"][0] == n + 1


async def test_values_that_change_while_a_slow_reader_opens_come_once_and_newest() -> None:
    async with slow_reader() as slow:
        await slow.fill(400, *[f"r.{n}" for n in range(400)])
        answer = await subscribe(slow.reader, "#")
        assert answer["values"] == 400
        await slow.fill(400, *[f"r.{n}" for n in range(400)])
        newest: dict[str, int] = {}
        seen_last = 0
        while newest.get("r.399") != 800:
            (event,) = await events(slow.reader, 1)
            seen_last += event.get("last", 0)
            assert newest.get(event["name"], 0) < event["value"][0]
            newest[event["name"]] = event["value"][0]
        assert newest == {f"r.{n}": 401 + n for n in range(400)}
        assert seen_last == 1


async def test_one_large_commit_makes_no_slow_reader_of_who_keeps_up() -> None:
    """Both subscriptions of a connection get all of it, though the first fills the room."""
    async with slow_reader() as slow:
        await subscribe(slow.reader, "a")
        await subscribe(slow.reader, "b")
        rows = [{"name": "ab"[n >= 15], "value": n} for n in range(100)]
        await slow.writer.call("record.set_many", records=rows)
        found = await events(slow.reader, 100)
        assert sorted(event["value"] for event in found) == list(range(100))


@pytest.mark.parametrize("delivery", ["latest", "every"])
async def test_a_resumed_reader_learns_what_became_of_records_not_persisted(delivery: str) -> None:
    """Also where the backlog is outrun while it is slow."""
    rule = {"name": "live.*", "persist": False}
    async with slow_reader(rule, backlog_bytes=0) as slow:
        await slow.fill(3, "live.a", "live.b", "a")
        await slow.fill(300, "a")
        await slow.writer.call("record.delete", name="live.b")
        await subscribe(slow.reader, "#", after=1, delivery=delivery)
        await slow.fill(300, "a")
        last: dict[str, Any] = {}
        while last.get("a", {}).get("value", [0])[0] != slow.written or len(last) < 3:
            (event,) = await events(slow.reader, 1)
            last[event["name"]] = event
        assert last["live.a"]["value"][0] == 1
        assert last["live.b"]["deleted"] is True


class PurgedWhileRead(MemoryBackend):
    """Retention runs while the first page is read, and a commit is right behind it."""

    core: Core | None = None

    async def replay(self, patterns: Any, params: Any) -> Any:
        page = await super().replay(patterns, params)
        if (core := self.core) is not None:
            self.core = None
            with core.hub.purge() as purge:
                target = CleanupTarget("a", None, 1, True)
                purged, _ = await self.cleanup([target], 100)
                purge.note(purged)
            core.queue.put_nowait(WriteRows([("a", b"100", None, None)], lambda rows: rows))
        return page


async def test_a_resync_brings_the_values_that_it_announces() -> None:
    """Also where each of them changes a moment later: a client waits for the last of them."""
    backend = PurgedWhileRead()
    async with running_core(backend, configure(backlog_bytes=0)) as core:
        writer, reader = core.connect(), core.connect()
        await write(writer, *[("a", n) for n in range(5)])
        backend.core = core.core
        await subscribe(reader, "a", after=1, delivery="every")
        assert [brief(event) for event in await events(reader, 3)] == [
            (None, None, 5, "oldest_rev", "resync", "values"),
            ("a", 4, 5, "last", "snapshot"),
            ("a", 100, 6),
        ]


async def test_an_opening_burst_goes_to_its_end_before_others_have_their_turn() -> None:
    followed = Followed()
    followed.commit("a")
    hub, outbox = followed.hub, followed.outbox
    pattern = compile_pattern("a")

    def follow(*, snapshot: bool) -> Subscription:
        encoder = JsonRpcEvents("s1", Framing.LINE, 1 << 20)
        opening = Opening(pattern, snapshot, None, None, every=False)
        return Subscription(hub, outbox, encoder, opening, on_behind=feeder.add)

    async with trio.open_nursery() as nursery:
        feeder = Feeder(nursery, outbox, hub, Turns(), history=None, page_rows=16)
        waiting, opening = follow(snapshot=False), follow(snapshot=True)
        feeder.add(waiting)
        feeder.add(opening)
        assert feeder._choose() is opening
        feeder.drop(opening)
        assert feeder._choose() is waiting
        nursery.cancel_scope.cancel()


class BrokenReads(MemoryBackend):
    """History cannot be read until it is mended."""

    is_broken = True

    async def replay(self, patterns: Any, params: Any) -> Any:
        if self.is_broken:
            raise BackendError("unreadable")
        return await super().replay(patterns, params)


async def test_a_reader_that_waits_for_storage_holds_up_no_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    backend = BrokenReads()
    async with running_core(backend, configure(backlog_bytes=0)) as core:
        writer, reader = core.connect(), core.connect()
        await write(writer, ("a", 1), ("a", 2), ("b", 3))
        for _ in range(3):
            await subscribe(reader, "a", after=0)
        await subscribe(reader, "b")
        assert [brief(event) for event in await events(reader, 1)] == [
            ("b", 3, 3, "last", "snapshot")
        ]
        await trio.sleep(3)
        backend.is_broken = False
        assert [event["value"] for event in await events(reader, 6)] == [1, 2] * 3


class CountedReads(MemoryBackend):
    """Counts the rows that were read."""

    rows_read = 0

    async def replay(self, patterns: Any, params: Any) -> Any:
        page = await super().replay(patterns, params)
        self.rows_read += len(page.rows)
        return page


async def test_a_reader_with_little_room_has_little_read_for_it() -> None:
    backend = CountedReads()
    small = configure(backlog_bytes=0, subscriber_bytes=2000)
    async with running_core(backend, small) as core:
        writer, reader = core.connect(), core.connect()
        await write(writer, *[("a", "x" * 1000)] * 300)
        await subscribe(reader, "a", after=0, delivery="every")
        assert [event["rev"] for event in await events(reader, 300)] == list(range(1, 301))
    assert 300 <= backend.rows_read < 20 * 300


async def test_nothing_is_left_in_the_hub_after_random_comings_and_goings(
    core: CoreInMemory,
) -> None:
    """10,000 steps, over a socket; about 3 s."""
    chance = random.Random(7)
    hub = core.core.hub
    patterns = ["a", "b", "#", "a.*", "*.b", "x.#"]
    open_: list[tuple[Peer, list[str]]] = []
    writer = core.connect()
    for _ in range(10_000):
        step = chance.random()
        if step < 0.15 or not open_:
            open_.append((core.connect(), []))
        elif step < 0.6:
            peer, ids = chance.choice(open_)
            ids.append(await _next_answer(peer, "record.subscribe", name=chance.choice(patterns)))
        elif step < 0.8:
            peer, ids = chance.choice(open_)
            if ids:
                await _next_answer(peer, "record.unsubscribe", subscription=ids.pop())
        elif step < 0.95:
            peer, _ = open_.pop(chance.randrange(len(open_)))
            await peer.stream.aclose()
        else:
            await write(writer, (chance.choice(["a", "b", "a.b", "x"]), 1))
    assert len(hub.topics) > 0
    for peer, _ in open_:
        await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert (len(hub.topics), hub.topics.subscriptions) == (0, 0)
    assert (hub.topics._exact, hub.topics._wild) == ({}, {})


async def _next_answer(peer: Peer, method: str, **params: Any) -> str:
    """Call among events; return the subscription's id."""
    await peer.send(request(method, 1, **params))
    while True:
        message = await peer.receive()
        if "id" in message:
            return str(message["result"].get("subscription"))
