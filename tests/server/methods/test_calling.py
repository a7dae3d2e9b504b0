"""Every method of the table, called without a connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

from recordd.methods.caller import Caller
from recordd.methods.calling import call_method
from recordd.methods.gate import FULL_GRANTS, Grants
from recordd.methods.peer import Peer
from recordd.methods.table import TABLE
from recordd.persistence.memory import MemoryBackend
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import METHODS, Get, Method, Set
from recordd_protocol.rows import Page, Row
from tests.core_in_memory import CoreInMemory, configure, running_core

HERE = Peer("test")

EXAMPLES: dict[str, tuple[dict[str, Any], Callable[[Any], object]]] = {
    "hello": ({"client": "test"}, lambda found: found.permissions == ["read", "write"]),
    "record.list": ({}, lambda found: [row["name"] for row in json.loads(found)] == ["a", "b"]),
    "record.get": ({"name": "a"}, lambda found: found.value == b"1"),
    "record.set": ({"name": "a", "value": 2}, lambda found: found.rev == 3),
    "record.set_many": (
        {"records": [{"name": "c", "value": 3}]},
        lambda found: (found.first_rev, found.last_rev) == (3, 3),
    ),
    "record.query": ({"limit": None}, lambda found: [row.rev for row in found.rows] == [1, 2]),
    "record.replay": ({"after": 1}, lambda found: [row.rev for row in found.rows] == [2]),
    "record.at": ({"rev": 2}, lambda found: found.name == "b"),
    "record.count": ({}, lambda found: (found.records, found.rows) == (2, 2)),
    "record.drain": ({"name": "a"}, lambda found: found.count == 1),
    "record.subscribe": ({"name": "a"}, Reason.INVALID_REQUEST.__eq__),
    "record.unsubscribe": ({"subscription": "s1"}, Reason.INVALID_REQUEST.__eq__),
    "record.delete": ({"name": "a"}, lambda found: found.deleted == 1),
    "record.trim": ({"name": "a", "newer_than": 0}, lambda found: found.deleted == 1),
    "graph.nodes": ({}, lambda found: len(json.loads(found)) == 2),
    "graph.edges": ({}, lambda found: found == []),
    "graph.topo_order": ({}, lambda found: json.loads(found) == ["a", "b"]),
    "profiling.reset": ({}, lambda found: found.reset),
    "buffer_metrics.reset": ({}, lambda found: found.reset),
    "retention.confirm": ({}, lambda found: found.leap_ms >= 0),
    "server.stats": ({}, lambda found: found.records == 2),
    "rpc.discover": ({}, lambda found: len(found["methods"]) == len(METHODS)),
}
"""Parameters, and what is so of the result, or of the reason why there is none."""


def caller_of(core: CoreInMemory, grants: Grants = FULL_GRANTS) -> Caller:
    return Caller(core.core, HERE, grants)


async def write_two(core: CoreInMemory) -> None:
    for name in ("a", "b"):
        await call_method(caller_of(core), "record.set", Set(name, msgspec.Raw(b"1"), ts=5))


def test_there_is_an_example_of_every_method() -> None:
    assert EXAMPLES.keys() == TABLE.keys()


@pytest.mark.parametrize("method", EXAMPLES)
async def test_a_method_needs_no_connection(core: CoreInMemory, method: str) -> None:
    await write_two(core)
    params, holds = EXAMPLES[method]
    try:
        found = await call_method(caller_of(core), method, json.dumps(params).encode())
    except RequestError as error:
        found = error.reason  # type: ignore[assignment]
    assert holds(found)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
async def test_who_lacks_the_grant_is_denied_and_nothing_happens(
    core: CoreInMemory, method: Method
) -> None:
    await write_two(core)
    others = Grants(FULL_GRANTS.accesses - {method.access})
    params = json.dumps(EXAMPLES[method.name][0]).encode()
    with pytest.raises(RequestError) as refused:
        await call_method(caller_of(core, others), method.name, params)
    assert refused.value.reason is Reason.DENIED
    assert core.core.hub.rev == 2


async def test_what_a_caller_may_not_do_hello_does_not_list(core: CoreInMemory) -> None:
    reader = caller_of(core, Grants(frozenset({"read"})))
    welcome: Any = await call_method(reader, "hello", b'{"client":"test"}')
    assert welcome.permissions == ["read"]


async def test_a_write_that_the_writer_refuses_raises(core: CoreInMemory) -> None:
    with pytest.raises(RequestError) as refused:
        await call_method(caller_of(core), "record.set", Set("a", msgspec.Raw(b"1"), if_rev=5))
    assert refused.value.reason is Reason.CONFLICT


@pytest.mark.parametrize(
    ("method", "params", "reason"),
    [
        ("no.method", b"{}", Reason.METHOD_NOT_FOUND),
        ("record.get", b"{", Reason.INVALID_PARAMS),
        ("record.get", b'{"name":"nobody"}', Reason.NOT_FOUND),
    ],
)
async def test_a_refusal_is_raised_and_counted(
    core: CoreInMemory, method: str, params: bytes, reason: Reason
) -> None:
    with pytest.raises(RequestError) as refused:
        await call_method(caller_of(core), method, params)
    assert refused.value.reason is reason
    counted = core.core.request_counts.statistics()
    assert (counted.requests, counted.request_errors) == (1, 1)


async def test_an_answer_keeps_to_the_length_that_the_caller_takes(core: CoreInMemory) -> None:
    await write_two(core)
    with pytest.raises(RequestError) as refused:
        await call_method(caller_of(core), "record.list", max_reply_bytes=300)
    assert refused.value.reason is Reason.TOO_LARGE


async def test_the_drains_of_one_caller_go_on_where_they_ended(core: CoreInMemory) -> None:
    await write_two(core)
    caller = caller_of(core)
    counts = [
        (await call_method(caller, "record.drain", b'{"name":"a"}')).count  # type: ignore[union-attr]
        for _ in range(2)
    ]
    assert counts == [1, 0]


class SlowBackend(MemoryBackend):
    """Queries wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = trio.Event()
        self.gate = trio.Event()

    async def query(self, patterns: Any, params: Any) -> Page:
        self.asked.set()
        await self.gate.wait()
        return await super().query(patterns, params)


async def test_a_query_counts_as_pending_until_it_ends_or_is_given_up() -> None:
    backend = SlowBackend()
    async with running_core(backend, configure(max_pending_queries=1)) as core:
        caller = caller_of(core)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_method, caller, "record.query", b'{"limit":null}')
            await backend.asked.wait()
            assert core.core.request_counts.pending_queries == 1
            with pytest.raises(RequestError) as refused:
                await call_method(caller, "record.at", b'{"rev":1}')
            assert refused.value.reason is Reason.OVERLOADED
            nursery.cancel_scope.cancel()
        assert core.core.request_counts.pending_queries == 0


async def test_steps_to_an_answer_are_gone_through_to_their_end(core: CoreInMemory) -> None:
    rows = [{"name": f"r{n}", "value": n} for n in range(2_000)]
    written = await call_method(
        caller_of(core), "record.set_many", json.dumps({"records": rows}).encode()
    )
    assert written is not None
    row = await call_method(caller_of(core), "record.get", Get("r1999"))
    assert isinstance(row, Row)
    assert row.value == b"1999"
