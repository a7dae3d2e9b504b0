"""Calls of one method that come one behind the other are answered as each would be by itself."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator

import pytest

from recordd.extending.backend import DamagedStorage
from recordd.methods.gate import FULL_GRANTS
from recordd.methods.peer import Peer
from recordd.session.runs import Runs, split_runs
from recordd.session.session import open_session
from recordd_protocol.framing import Framing
from tests.core_in_memory import CoreInMemory, configure, running_core
from tests.server.session.test_grants import Idle, Kept
from tests.wire import request

AIMX_GET = b'{"t":"req","id":%d,"method":"record.get","params":{"name":"%b"}}'
LIMITS = {"outbox_bytes": 3000, "max_value_bytes": 4000, "min_ts": 1, "max_value_depth": 10}


def make_messages(seed: int) -> Iterator[bytes]:
    """Write gets and sets in runs of some length; a few of them are odd."""
    chance, numbers = random.Random(seed), itertools.count()
    for _ in range(40):
        kind = chance.choice(["get", "set", "aimx", "drain"])
        for number in itertools.islice(numbers, chance.randrange(1, 40)):
            name = chance.choice(["a", "b.c", "ü", "d"])
            if chance.random() < 0.02:
                name = chance.choice(["no such", "new.%d" % number])
            if kind == "get":
                yield request("record.get", number, name=name)
            elif kind == "aimx":
                yield AIMX_GET % (number, name.encode())
            elif kind == "drain":
                yield request("record.drain", number, name=name, limit=1)
            else:
                value = chance.choice([1, None, {"v": [number]}, [[[1]]], "x" * 100])
                if chance.random() < 0.02:
                    value = chance.choice(["x" * 1500, "x" * 5000, json.loads("[" * 20 + "]" * 20)])
                odd = (
                    {"ts": chance.choice([number + 1, 0, 1 << 61])}
                    if chance.random() < 0.05
                    else {}
                )
                yield request("record.set", number, name=name, value=value, **odd)


async def converse(messages: list[bytes], is_together: bool) -> list[object]:
    kept = Kept()
    with pytest.MonkeyPatch.context() as patch:
        if not is_together:
            patch.setattr(Runs, "take", lambda self, calls: False)
        patch.setattr("recordd.writing.writer.SYSTEM_CLOCK", Clock())
        async with running_core(configuration=configure(**LIMITS)) as inside:
            core = inside.core
            core.hub.catalogue.epoch = "e"
            for name in ("a", "b.c", "ü", "d"):
                await inside.connect().call("record.set", name=name, value=0)
            async with open_session(
                core, Peer("test"), kept, Framing.LINE, Idle(), grants=FULL_GRANTS
            ) as session:
                await session.receive(messages)
                await session.finish()
            counts = core.request_counts
            sent = sorted(b"\n".join(kept.messages).split(b"\n"))
            return [sent, counts.received, counts.refused, core.hub.rev]


class Clock:
    """A clock that stands still."""

    def wall_ms(self) -> int:
        return 1_900_000_000_000


@pytest.mark.parametrize("seed", range(4))
async def test_a_conversation_is_the_same_whether_runs_are_handled_together(seed: int) -> None:
    messages = list(make_messages(seed))
    together = await converse(messages, True)
    assert together == await converse(messages, False)


async def test_runs_are_in_the_order_of_their_calls(core: CoreInMemory) -> None:
    dialect = core.core.dialects[Framing.LINE][-1]
    get, put = request("record.get", 1, name="a"), request("record.set", 1, name="a", value=1)
    calls = dialect.decode_plain([get, get, put, get])
    runs = list(split_runs(calls))
    assert [len(run) for run in runs] == [2, 1, 1]
    assert [call for run in runs for call in run] == list(calls)


async def test_gets_of_a_record_that_cannot_be_read_are_refused_each(core: CoreInMemory) -> None:
    peer, kept = core.connect(), Kept()
    for name in "ab":
        await peer.call("record.set", name=name, value=1)
    core.core.hub.catalogue.damaged["a"] = DamagedStorage("torn")
    messages = [request("record.get", n, name="ab"[n]) for n in range(2)]
    async with open_session(core.core, Peer("x"), kept, Framing.LINE, Idle()) as session:
        await session.receive(messages)
        await session.finish()
    answers = [json.loads(line) for line in b"\n".join(kept.messages).split(b"\n")]
    assert ["error" in answer for answer in answers] == [True, False]


async def test_gets_behind_writes_of_the_same_connection_see_them(core: CoreInMemory) -> None:
    await core.connect().call("record.set", name="a", value=0)
    kept = Kept()
    messages = [request("record.set", n, name="a", value=n) for n in range(1, 4)]
    messages += [request("record.get", n, name="a") for n in range(4, 7)]
    async with open_session(core.core, Peer("x"), kept, Framing.LINE, Idle()) as session:
        await session.receive(messages)
        await session.finish()
    answers = [json.loads(line) for line in b"\n".join(kept.messages).split(b"\n")]
    values = {answer["id"]: answer["result"].get("value") for answer in answers}
    assert [values[n] for n in (4, 5, 6)] == [3, 3, 3]
