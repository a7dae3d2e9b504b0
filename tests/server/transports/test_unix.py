"""Lines of many connections that are read by one task, and by each connection's own."""

from __future__ import annotations

import random
import re
import select

import pytest
import trio
import trio.testing

from recordd.config.settings import Configuration
from tests.core_in_memory import Peer, configure, running_core
from tests.wire import request

MESSAGE_BYTES = 1024
PEERS = 3


def make_line(chance: random.Random, number: int) -> bytes:
    """A request of any kind; some wait for others, some are refused, some are no requests."""
    name = chance.choice(["a", "b", "c::d"])
    ts = 1_700_000_000_000 + number
    return chance.choice(
        [
            request("record.set", number, name=name, value=number, ts=ts),
            request("record.get", number, name=name),
            request("record.query", number, name="*"),
            request("record.delete", number, name=name),
            request("record.set_many", number, records=[{"name": name, "value": "x", "ts": ts}]),
            request("record.get", number, nam=name),
            b'{"id":1,"command":"record.get","name":"a"}',
            b"[" * 20,
            b"\r",
        ]
    )


def make_streams(seed: int) -> list[bytes]:
    """What each peer sends; one of them ends with a line that is too long, one in half a line."""
    chance = random.Random(seed)
    streams = [
        b"".join(make_line(chance, 100 * peer + number) + b"\n" for number in range(30))
        for peer in range(PEERS)
    ]
    streams[0] += b"x" * (MESSAGE_BYTES + 1) + b"\n" + request("record.get", 1, name="a") + b"\n"
    streams[1] += b'{"half'
    return streams


async def play(seed: int, configuration: Configuration) -> list[list[bytes]]:
    """Send the streams in pieces of any size, in any order; return the answers of each.

    Sorted: a refusal may leave before the answer of a write, whose commit may come any time.
    """
    chance, streams = random.Random(seed), make_streams(seed)
    async with running_core(configuration=configuration) as core:
        peers = [core.connect() for _ in streams]
        left = dict(enumerate(streams))
        while left:
            number = chance.choice(list(left))
            size = chance.choice([1, 30, 100, 300, 3000])
            await peers[number].stream.send_all(left[number][:size])
            left[number] = left[number][size:]
            if not left[number]:
                await peers[number].stream.send_eof()
                del left[number]
            await trio.testing.wait_all_tasks_blocked()
        return [sorted(await read_all(peer)) for peer in peers]


async def read_all(peer: Peer) -> list[bytes]:
    received = b""
    with trio.fail_after(10):
        while data := await peer.stream.receive_some(65_536):
            received += data
    return re.sub(rb'"epoch":"[0-9a-f]+"', b"", received).split(b"\n")  # each core has its own


@pytest.mark.parametrize("seed", range(6))
async def test_answers_are_the_same_whichever_task_reads(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = configure(max_message_bytes=MESSAGE_BYTES)
    together = await play(seed, configuration)
    monkeypatch.delattr(select, "epoll")
    alone = await play(seed, configuration)
    assert together == alone
    assert all(len(answers) > 20 for answers in together)
