"""Large pieces of work are cut: no pass of the loop does much of one. Work is counted, not timed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from recordd.hub import changes, rendered
from recordd_protocol.jsonrpc_events import JsonRpcEvents
from recordd_protocol.patterns import PatternSet
from tests.core_in_memory import CoreInMemory, Peer, configure, running_core
from tests.loop_lag import LoopLag
from tests.wire import request

ROWS = 2000


class Calls:
    """Counts the calls of a function, and makes each take 10 µs: a turn has 200 of them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.count = 0
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        ends = time.perf_counter() + 10e-6
        while time.perf_counter() < ends:
            pass
        return self._function(*args, **kwargs)


@pytest.fixture
def matched(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Counts the names that views match."""
    calls = Calls(PatternSet.matches)
    monkeypatch.setattr(PatternSet, "matches", lambda self, name: calls(self, name))
    return calls


async def write_many(peer: Peer, names: range, value: object = 1) -> None:
    rows = [{"name": f"r.{n}", "value": value} for n in names]
    assert "last_rev" in await peer.call("record.set_many", records=rows)


def watch(calls: Calls) -> LoopLag:
    lag = LoopLag(count=lambda: calls.count)
    trio.lowlevel.add_instrument(lag)
    return lag


async def test_a_large_write_is_checked_and_planned_in_turns(
    core: CoreInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = core.core.hub
    found = Calls(hub.catalogue.find)
    monkeypatch.setattr(hub.catalogue, "find", found)
    lag = watch(found)
    await write_many(core.connect(), range(ROWS))
    assert found.count >= 2 * ROWS
    assert lag.most_counted < found.count // 2


async def test_a_large_write_that_is_refused_at_its_end_leaves_nothing(core: CoreInMemory) -> None:
    peer = core.connect()
    rows = [{"name": f"r.{n}", "value": 1} for n in range(ROWS)]
    await peer.send(
        request("record.set_many", 1, records=[*rows, {"name": "a b", "value": 1}]),
        request("record.set_many", 2, records=rows[:2]),
    )
    refused, written = await peer.receive(), await peer.receive()
    assert f"records[{ROWS}].name" in refused["error"]["message"]
    assert written["result"] == {"first_rev": 1, "last_rev": 2}


async def test_nothing_is_put_for_a_peer_that_is_gone() -> None:
    """There would be room for everything: each subscription's values, in one piece."""
    async with running_core(configuration=configure(max_message_bytes=1 << 20)) as core:
        hub = core.core.hub
        await write_many(core.connect(), range(ROWS))
        gone = core.connect()
        calls = [request("record.subscribe", n, name="#") for n in range(50)]
        await gone.send(b"[" + b",".join(calls) + b"]")
        await gone.stream.aclose()
        while hub.topics.subscriptions or not core.core.request_counts.received > 50:
            await trio.sleep(0)
        consumed = sum(state.consumed for state in hub.catalogue.states_after(-1))
        assert consumed < 25 * ROWS


async def test_who_follows_without_a_snapshot_has_nothing_matched(
    core: CoreInMemory, matched: Calls
) -> None:
    peer = core.connect()
    await write_many(peer, range(ROWS))
    await peer.call("record.subscribe", name="r.*", snapshot=False)
    assert matched.count == 0
    await peer.call("record.subscribe", name="r.*")
    assert matched.count == ROWS


async def test_what_a_slow_follower_has_missed_is_matched_in_turns(
    matched: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Much has changed: it needs all records that match, and nothing has matched them yet."""
    monkeypatch.setattr(changes, "_MANY_CHANGES", ROWS // 2)
    configuration = configure(subscriber_updates=20, backlog_bytes=0)
    async with running_core(configuration=configuration) as core:
        slow, writer = core.connect(), core.connect()
        await slow.call("record.subscribe", name="r*.#", snapshot=False)
        for _ in range(40):  # more than its socket takes
            await writer.call("record.set", name="r.0", value="x" * 90_000)
        lag = watch(matched)
        await write_many(writer, range(ROWS))
        missing = {f"r.{n}" for n in range(ROWS)}
        while missing:
            missing.discard((await slow.receive())["params"]["name"])
        assert matched.count >= ROWS
        assert lag.most_counted < matched.count // 2


@pytest.mark.parametrize("method", ["record.subscribe", "record.query"])
async def test_of_many_who_ask_for_much_at_once_one_is_answered_in_each_pass(
    core: CoreInMemory, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    await write_many(core.connect(), range(ROWS))
    peers = [core.connect() for _ in range(20)]
    for peer in peers:
        await peer.call("hello", client="t")
    is_query = method == "record.query"
    answers = Calls(rendered._Answer if is_query else JsonRpcEvents.encode_snapshot)
    monkeypatch.setattr(JsonRpcEvents, "encode_snapshot", lambda *a, **k: answers(*a, **k))
    monkeypatch.setattr(rendered, "_Answer", answers)
    lag = watch(answers)
    for number, peer in enumerate(peers):  # without a pass between; no two ask for the same
        name = "r" + "*" * number + ".#" if is_query else "#"
        os.write(peer.stream.socket.fileno(), request(method, 1, name=name) + b"\n")  # type: ignore[attr-defined]
    for peer in peers:
        assert "result" in await peer.receive()
    assert answers.count >= 20
    assert lag.most_counted < 10
