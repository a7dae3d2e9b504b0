"""Plain writes that come one behind the other are queued as one, and answered as each by itself."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence

import pytest
import trio
import trio.testing

from recordd.extending.backend import BackendError, FatalBackendError, SerializationError
from recordd.extending.commit import Commit, NewRows
from recordd.methods.peer import Peer
from recordd.persistence import RetentionPolicy, with_persistence
from recordd.persistence.memory import MemoryBackend
from recordd.session.own_writes import OwnWrites
from recordd.session.session import open_session
from recordd.system.parking import SpareLot
from recordd.writing.queue import WriteQueue
from recordd.writing.requests import NewRow
from recordd_protocol.dialect import PlainCall
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc import JsonRpc
from tests.core_in_memory import CoreInMemory, configure, running_core
from tests.server.session.test_grants import Idle, Kept
from tests.server.session.test_plain import Stuck
from tests.server.session.test_replies import Box
from tests.wire import request

NOW_MS = 1_900_000_000_000
AIMX = b'{"t":"req","id":%d,"method":"record.set","params":{"name":"b","value":%d}}'


class Clock:
    """A clock that stands still."""

    def wall_ms(self) -> int:
        return NOW_MS


class OddBackend(MemoryBackend):
    """Cannot store some values, and none at some commits."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0

    async def apply(self, commits: Sequence[Commit], position: int) -> None:
        rows = [row for commit in commits if isinstance(commit, NewRows) for row in commit.rows]
        if any(b"poison" in row.value for row in rows):
            raise SerializationError("value: cannot be stored")
        if any(b"full" in row.value for row in rows):
            raise BackendError("the disk is full")
        if any(b"fatal" in row.value for row in rows):
            raise FatalBackendError("fsync failed")
        await super().apply(commits, position)


def make_messages(seed: int) -> Iterator[bytes]:
    """Write requests of which most are plain writes, in runs of some length."""
    chance = random.Random(seed)
    for n in range(120):
        name, ts = chance.choice("abcdef"), chance.randrange(1, 1000)
        value = chance.choice([n, None, "x" * chance.randrange(3000)])
        plain = request("record.set", n, name=name, value=value)
        odd = [
            request("record.set", n, name=name, value=n, ts=ts),
            request("record.set", n, name=name, value=n, if_rev=chance.choice([0, n])),
            request("record.set", n, name="no good", value=n),
            request("record.set", n, name=name, value=1, ts=-1),
            request("record.set", n, name=name, value="poison"),
            request("record.set", n, name=name, value=n).replace(b'"id"', b'"x"'),
            request("record.set", n, name=name, value=n).replace(b'"id":%d,' % n, b""),
            AIMX % (n, n),
            *[request("record.get", n, name=name)] * 3,
            request("record.delete", n, name=name),
            request("record.trim", n, name=name, newer_than=ts),
            request("record.set_many", n, records=[{"name": name, "value": n}] * 2),
            b"[%b,%b]" % (plain, plain),
            b"\xff",
        ]
        yield plain if chance.random() < 0.6 else chance.choice(odd)


async def converse(
    messages: list[bytes], is_together: bool, limits: dict[str, object], *, is_stored: bool = True
) -> list[bytes]:
    """Have messages answered by a core of their own, whose bursts are queued as one or not."""
    kept, policy = Kept(), RetentionPolicy(interval_ms=86_400_000, keep_latest=True)
    extensions = [with_persistence(OddBackend(), policy)] if is_stored else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recordd.writing.writer.SYSTEM_CLOCK", Clock())
        for time_s in (  # or the time decides who is next
            "session.session.TURN_S",
            "system.turns.TURN_S",
            "system.turns._BEGINNING_S",
            "writing.gathering._GATHER_S",
        ):
            patch.setattr(f"recordd.{time_s}", 1e9)
        if not is_together:
            patch.setattr(OwnWrites, "begin_burst", lambda self, calls, rows: False)
        async with running_core(None, configure(**limits), extensions) as inside:
            inside.core.hub.catalogue.epoch = "e"
            await talk(inside, messages, kept)
    return b"\n".join(kept.messages).split(b"\n")


async def talk(inside: CoreInMemory, messages: list[bytes], kept: Kept) -> None:
    async with open_session(inside.core, Peer("test"), kept, Framing.LINE, Idle()) as session:
        await session.receive(messages)
        await session.finish()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("limits", "is_stored"),
    [
        ({}, True),
        ({}, False),
        ({"max_records": 3}, True),
        ({"max_latest_bytes": 8000}, True),
    ],
)
async def test_answers_and_their_order_are_the_same_as_one_by_one(
    seed: int, limits: dict[str, object], is_stored: bool
) -> None:
    messages = list(make_messages(seed))
    together = await converse(messages, True, limits, is_stored=is_stored)
    assert together == await converse(messages, False, limits, is_stored=is_stored)


async def test_what_comes_between_plain_writes_takes_its_turn(core: CoreInMemory) -> None:
    kept, item = Kept(), {"name": "b", "value": 1}
    messages = [
        request("record.set", 0, name="a", value=0),
        request("record.get", 1, name="a"),
        request("record.set", 2, name="a", value=2),
        request("record.get", 3, name="a"),
        request("record.set", 4, name="a", value=4),
        request("record.set", 5, name="a", value=5, if_rev=3),
        request("record.set", 6, name="a", value=6),
        request("record.set_many", 7, records=[item]),
        request("record.set", 8, name="a", value=8),
        request("record.delete", 9, name="a"),
    ]
    await talk(core, messages, kept)
    results = [json.loads(line)["result"] for line in b"\n".join(kept.messages).split(b"\n")]
    assert [results[n]["value"] for n in (1, 3)] == [0, 2]
    assert [results[n]["rev"] for n in (0, 2, 4, 5, 6, 8)] == [1, 2, 3, 4, 5, 7]
    assert (results[7]["first_rev"], results[9]["deleted"]) == (6, 6)


@pytest.mark.parametrize(
    "limits", [{"write_queue_requests": 20}, {"write_queue_requests": 1}, {"outbox_bytes": 2000}]
)
async def test_answers_are_the_same_where_there_is_little_room(limits: dict[str, object]) -> None:
    messages = list(make_messages(7))
    together = await converse(messages, True, limits)
    assert sorted(together) == sorted(await converse(messages, False, limits))


async def test_a_disk_that_is_full_refuses_each_of_a_burst() -> None:
    messages = [request("record.set", n, name="a", value="full" if n == 5 else n) for n in range(9)]
    together = await converse(messages, True, {})
    assert together == await converse(messages, False, {})
    assert sum(b"the disk is full" in answer for answer in together) == 9


async def test_a_fatal_fault_is_told_to_each_of_a_burst_once() -> None:
    values: list[object] = ["poison", *range(5), "fatal", 7]
    messages = [request("record.set", n, name="a", value=v) for n, v in enumerate(values)]
    kept, policy = Kept(), RetentionPolicy(interval_ms=86_400_000, keep_latest=True)
    with pytest.raises(FatalBackendError):
        async with running_core(None, None, [with_persistence(OddBackend(), policy)]) as inside:
            await talk(inside, messages, kept)
    answers = b"\n".join(kept.messages).split(b"\n")
    assert len(answers) == len(messages)


def test_a_burst_counts_in_the_queue_as_its_writes_do() -> None:
    queue, box = WriteQueue(max_requests=4, max_bytes=1 << 20), Box()
    writes = OwnWrites(queue, box.outbox, box.replies, SpareLot())
    assert not writes.begin_burst(*make_burst(5))
    assert (len(queue), writes.pending) == (0, 0)
    assert writes.begin_burst(*make_burst(3))
    assert not writes.begin_burst(*make_burst(2))
    assert (queue.statistics().requests, len(queue), writes.pending) == (3, 3, 3)
    assert len(queue.take_nowait(1)) == 1
    assert (queue.statistics().requests, queue.statistics().bytes) == (0, 0)


def test_a_burst_larger_than_the_queue_does_not_pass_even_alone() -> None:
    queue, box = WriteQueue(max_requests=40, max_bytes=1000), Box()
    writes = OwnWrites(queue, box.outbox, box.replies, SpareLot())
    assert not writes.begin_burst(*make_burst(5))


def test_a_burst_of_many_bytes_is_queued_one_by_one() -> None:
    queue, box = WriteQueue(max_requests=40, max_bytes=1 << 20), Box()
    writes = OwnWrites(queue, box.outbox, box.replies, SpareLot())
    calls, rows = make_burst(2)
    assert not writes.begin_burst(calls, [("a", b"1" * 40_000, None, None)] * 2)
    assert writes.begin_burst(calls, rows)


def make_burst(writes: int) -> tuple[list[PlainCall], list[NewRow]]:
    message = request("record.set", 1, name="a", value=1)
    (plain,) = JsonRpc(Framing.LINE, max_reply_bytes=10_000, max_batch_calls=1).decode_plain(
        [message]
    )
    return [plain] * writes, [("a", b"1" * 100, None, None)] * writes


async def test_a_queue_that_is_closed_refuses_in_order(core: CoreInMemory) -> None:
    names, kept = ["a", "b", "no good", "c", "d"], Kept()
    messages = [request("record.set", n, name=name, value=1) for n, name in enumerate(names)]
    core.core.queue.close()
    await talk(core, messages, kept)
    answers = b"\n".join(kept.messages).split(b"\n")
    assert [b'"id":%d,' % n in answer for n, answer in enumerate(answers)] == [True] * 5


async def test_a_write_is_queued_before_its_session_waits_for_room(core: CoreInMemory) -> None:
    peer, messages = Peer("x"), [request("record.set", n, name="a", value=n) for n in range(3)]
    async with (
        trio.open_nursery() as nursery,
        open_session(core.core, peer, Stuck(), Framing.LINE, Idle()) as session,
    ):
        session.outbox.put(b"x" * (core.core.settings.outbox_bytes + 1))
        nursery.start_soon(session.receive, messages)
        await trio.testing.wait_all_tasks_blocked()
        assert core.core.hub.catalogue.find("a") is not None
        session.outbox.discard()
        nursery.cancel_scope.cancel()


async def test_who_has_gone_holds_nobody_up(
    core: CoreInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recordd.session.session.TURN_S", 60.0)  # all wait for their answers
    messages = [request("record.set", n, name="a", value=n) for n in range(40)]
    async with open_session(core.core, Peer("x"), kept := Kept(), Framing.LINE, Idle()) as session:
        await session.receive(messages)
        session.outbox.discard()
    assert (await core.connect().call("record.get", name="a"))["value"] == 39
    assert kept.messages == []


async def test_what_was_queued_is_written_where_the_rest_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recordd.session.session.TURN_S", 60.0)  # however slow the machine
    messages = [request("record.set", n, name="a", value=n) for n in range(40)]
    async with running_core(configuration=configure(write_queue_requests=35)) as inside:
        with trio.CancelScope() as scope:
            scope.cancel()  # as soon as it waits: the second burst does not fit
            await talk(inside, messages, Kept())
        assert (await inside.connect().call("record.get", name="a"))["value"] == 34
