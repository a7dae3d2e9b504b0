"""Plain calls, which share what a burst can share, have the answers that they have one by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing

from recordd.methods.gate import FULL_GRANTS, Grants
from recordd.methods.peer import Peer
from recordd.session.session import open_session
from recordd_protocol.framing import Framing
from tests.core_in_memory import CoreInMemory, configure, running_core
from tests.server.session.test_grants import Idle, Kept
from tests.wire import request

READ_ONLY = Grants(frozenset({"read"}))
LIMITS = {"write_queue_requests": 3, "outbox_bytes": 2000, "max_value_bytes": 4000, "min_ts": 1}


def make_messages(seed: int) -> Iterator[bytes]:
    """Write requests of both dialects that answer the same whenever they are asked."""
    chance = random.Random(seed)
    for number in range(150):
        name, ts = chance.choice(["a", "b.c", "ü", "no such"]), chance.randrange(1, 1000)
        value = chance.choice([1, None, "x" * 300, {"v": [1]}, "x" * 5000])
        yield chance.choice(
            [
                request("record.get", number, name=name),
                request("record.get", number, name=name),
                request("record.set", number, name=name, value=value, ts=ts),
                request("record.set", number, name=name, value=value, ts=ts, if_rev=number),
                request("record.set", number, name=name, value=value, ts=-1),
                request("record.delete", number, name=name),
                request("record.trim", number, name=name, newer_than=ts),
                request("record.drain", number, name=name, limit=2),
                request("record.query", number, name=["a", "ü"]),
                request("record.count", number),
                request("record.nothing", number),
                request("record.get", number, nam=name),
                request("record.get", number, name=name).replace(b'"id"', b'"x":1,"id"'),
                request("record.set", number, name=name, value=1, ts=ts).replace(b'"id"', b'"x"'),
                b'{"t":"req","id":%d,"method":"record.get","params":{"name":"a"}}' % number,
                b'{"t":"req","id":%d,"method":"record.set","params":{"name":"a","value":1,"ts":%d}}'
                % (number, ts),
                b'{"t":"ping"}',
                b"[%b]" % request("record.get", number, name=name),
                b"\xff",
                b"{}",
            ]
        )


async def converse(messages: list[bytes], grants: Grants, *, is_plain: bool) -> list[object]:
    """Have messages answered by a core of their own; return the answers, and what is counted."""
    kept = Kept()
    async with running_core(configuration=configure(**LIMITS)) as inside:
        core = inside.core
        core.hub.catalogue.epoch = "e"
        with pytest.MonkeyPatch.context() as patch:
            for dialect in () if is_plain else core.dialects[Framing.LINE]:
                patch.setattr(dialect, "decode_plain", lambda messages: [])
            async with open_session(
                core, Peer("test"), kept, Framing.LINE, Idle(), grants=grants
            ) as session:
                await session.receive(messages)
                await session.finish()
        counts = core.request_counts
        sent = b"\n".join(kept.messages).split(b"\n")
        if grants is FULL_GRANTS:  # when the writer answers is up to Trio
            sent.sort()
        return [sent, counts.received, counts.refused, counts.unanswered_writes_refused]


@pytest.mark.parametrize("grants", [FULL_GRANTS, READ_ONLY])
@pytest.mark.parametrize("seed", range(3))
async def test_a_conversation_is_the_same_whether_its_calls_are_plain(
    seed: int, grants: Grants
) -> None:
    messages = list(make_messages(seed))
    plain = await converse(messages, grants, is_plain=True)
    assert plain == await converse(messages, grants, is_plain=False)


async def test_each_message_is_answered_in_its_own_dialect(core: CoreInMemory) -> None:
    kept = Kept()
    aimx = b'{"t":"req","id":1,"method":"record.get","params":{"name":"a"}}'
    burst = [
        request("record.set", 0, name="a", value=7),
        *[aimx, request("record.get", 2, name="a")] * 40,
    ]
    async with open_session(core.core, Peer("test"), kept, Framing.LINE, Idle()) as session:
        await session.receive(burst)
        await session.finish()
    answers = b"\n".join(kept.messages).split(b"\n")[1:]
    assert answers[::2] == [b'{"t":"reply","id":1,"ok":7}'] * 40
    assert all(answer.startswith(b'{"jsonrpc":"2.0","id":2,') for answer in answers[1::2])


class Stuck(Kept):
    """A `Sender` whose peer takes nothing."""

    def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
        return messages

    async def send(self, messages: list[bytes], note_progress: Callable[[], None]) -> bool:
        await trio.sleep_forever()
        raise AssertionError("slept for ever")


async def test_a_peer_that_takes_nothing_is_answered_up_to_the_limit_and_one_more() -> None:
    limit, value = 50_000, "x" * 10_000
    async with running_core(configuration=configure(outbox_bytes=limit)) as inside:
        core = inside.core
        await inside.connect().call("record.set", name="a", value=value)
        async with (
            trio.open_nursery() as nursery,
            open_session(core, Peer("test"), Stuck(), Framing.LINE, Idle()) as session,
        ):
            nursery.start_soon(session.receive, [request("record.get", 1, name="a")] * 25)
            await trio.testing.wait_all_tasks_blocked()
            assert limit < core.waiting.size < limit + 10_200
            session.outbox.discard()
            nursery.cancel_scope.cancel()


async def test_others_run_between_the_calls_of_a_long_burst(
    core: CoreInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recordd.session.session.TURN_S", -1.0)
    monkeypatch.setattr("recordd.system.turns.TURN_S", -1.0)  # every turn is over at once
    passes = 0

    async def count_passes() -> None:
        nonlocal passes
        while True:
            passes += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_passes)
        async with open_session(core.core, Peer("test"), Kept(), Framing.LINE, Idle()) as session:
            await session.receive([request("record.get", 1, name="a")] * 640)
            during = passes
        nursery.cancel_scope.cancel()
    assert during >= 18  # of 20 bursts, between the first and the last
