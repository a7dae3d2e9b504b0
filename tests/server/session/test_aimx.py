"""AimX transcripts against the core in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from recordd.config.rules import read_rules
from recordd.config.settings import Configuration
from tests.core_in_memory import Peer, configure, running_core
from tests.golden import LINES, generalize, pieces_of, read_transcript
from tests.wire import request


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("name", LINES)
async def test_golden_transcripts(name: str, split: bool) -> None:
    async with running_core() as core:
        peer = core.connect()
        for exchange in read_transcript(name):
            for piece in pieces_of(exchange.as_lines(), split=split):
                await peer.stream.send_all(piece)
            with trio.fail_after(5):
                found = [generalize(await peer.receive_raw()) for _ in exchange.expected]
            assert found == exchange.expected


BUFFERS: list[dict[str, Any]] = [
    {"name": "ring.*", "buffer": "spmc_ring", "capacity": 5},
    {"name": "mail.*", "buffer": "mailbox"},
]


def with_buffers(**settings: Any) -> Configuration:
    made = configure(**settings)
    rules = read_rules(BUFFERS, default_retention_ms=None, max_capacity=100)
    return Configuration(made.settings, rules, made.sources)


async def set_values(peer: Peer, name: str, *ts: int) -> None:
    for value in ts:
        assert "result" in await call(peer, "record.set", name=name, value=value, ts=value)


async def call(peer: Peer, method: str, **params: Any) -> Any:
    await peer.send(request(method, 1, **params))
    return await peer.receive()


@pytest.mark.parametrize("topic", ["{}", "#"])
@pytest.mark.parametrize(
    ("name", "shown"),
    [("one.a", [50, 60]), ("mail.a", [50, 60]), ("ring.a", [50, 7, 60])],
)
async def test_a_late_row_shows_on_rings_alone(topic: str, name: str, shown: list[int]) -> None:
    """A mirror keeps what came last: it must be what `record.get` tells."""
    async with running_core(configuration=with_buffers()) as core:
        writer, mirror, jsonrpc = core.connect(), core.connect(), core.connect()
        await set_values(writer, name, 50)
        await mirror.send(
            b'{"t":"sub","id":1,"topic":"%b"}' % topic.format(name).encode(), b'{"t":"ping"}'
        )
        await jsonrpc.call("record.subscribe", name=name)
        await set_values(writer, name, 7, 60)
        frames = [await mirror.receive() for _ in range(len(shown) + 1)]
        events = [frame for frame in frames if frame["t"] != "pong"]
        assert [event["data"] for event in events] == shown
        assert [event["seq"] for event in events] == list(range(1, len(shown) + 1))
        told = [(await jsonrpc.receive())["params"]["value"] for _ in range(3)]
        assert told == [50, 7, 60]


async def test_a_slow_mirror_counts_no_late_row_as_lost() -> None:
    """Past its room, one row at a time, it is brought back from the backlog."""
    async with running_core(configuration=with_buffers(subscriber_updates=1)) as core:
        writer, mirror = core.connect(), core.connect()
        await set_values(writer, "one.a", 50)
        await mirror.send(b'{"t":"sub","id":1,"topic":"one.*"}')
        assert (await mirror.receive())["data"] == 50
        rows = [{"name": "one.a", "value": ts, "ts": ts} for ts in (51, 7, 52, 8, 53, 9)]
        assert (await call(writer, "record.set_many", records=rows))["result"]["last_rev"] == 7
        events = [await mirror.receive() for _ in range(3)]
        assert [(event["seq"], event["data"]) for event in events] == [(2, 51), (3, 52), (4, 53)]


async def test_an_exact_name_must_exist_on_lines_when_its_turn_has_come() -> None:
    async with running_core() as core:
        peer = core.connect()
        await peer.send(
            b'{"t":"sub","id":1,"topic":"a"}',
            b'{"t":"req","id":2,"method":"record.set","params":{"name":"a","value":1}}',
            b'{"t":"sub","id":3,"topic":"a"}',
        )
        found = [await peer.receive() for _ in range(3)]
        assert found[0] == {
            "t": "reply", "id": 1, "err": "not_found", "msg": "record 'a' does not exist"
        }  # fmt: skip
        assert [(frame["t"], frame.get("sub")) for frame in found[1:]] == [
            ("reply", None),
            ("event", "3"),
        ]


async def test_long_answers_are_rendered_one_at_a_time() -> None:
    """Each holds the interpreter's lock while it is copied, thread or not."""
    small = configure(max_reply_bytes=65_536, max_value_bytes=10_000)
    async with running_core(configuration=small) as core:
        peer = core.connect()
        rows = [{"name": f"r{n}", "value": "x" * 200} for n in range(400)]
        await peer.call("record.set_many", records=rows)
        limiter = core.core.one_renders
        for asked in (
            b'{"t":"req","id":1,"method":"record.query","params":{"name":"#"}}',
            b'{"t":"req","id":1,"method":"record.list"}',
        ):
            async with limiter:
                await peer.send(asked)
                while not limiter.statistics().tasks_waiting:
                    await trio.lowlevel.checkpoint()
            assert len(json.dumps(await peer.receive())) > 65_536
