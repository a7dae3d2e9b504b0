"""Following transient records: what cannot be read again is told as left out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from recordd.core import Core
from recordd.following import stream
from recordd.following.accounting import Account, Standing
from recordd.persistence.memory import MemoryBackend
from recordd.writing.requests import WriteRows
from tests.core_in_memory import running_core
from tests.server.following.test_feeder import with_rules
from tests.server.following.test_subscription_model import Model, Reader, play

ROOM = 4


@contextlib.asynccontextmanager
async def reading(pattern: str, *, stores: bool) -> AsyncIterator[tuple[Core, Reader]]:
    """A reader of every update, which takes nothing yet; `live.*` is transient."""
    rules = with_rules(
        {"name": "live.*", "persist": False}, backlog_bytes=0, subscriber_updates=ROOM
    )
    backend = running_core(MemoryBackend(), rules) if stores else running_core(None, rules, [])
    async with backend as running, trio.open_nursery() as nursery:
        reader = Reader(running.core, nursery, Model(), pattern, every=True)
        reader.room = ROOM
        reader.connect()
        yield running.core, reader
        reader.subscriptions.close_all()
        nursery.cancel_scope.cancel()


async def write(core: Core, *items: tuple[str, int], ts: int | None = None) -> None:
    """Commit each row by itself."""
    for name, value in items:
        core.queue.put_nowait(WriteRows([(name, b"%d" % value, ts, None)], lambda rows: rows))
        await trio.testing.wait_all_tasks_blocked()


async def read_all(reader: Reader) -> list[tuple[Any, ...]]:
    reader.may_resync = True
    events: list[tuple[Any, ...]] = []
    while True:
        reader.sender.open(100)
        await trio.testing.wait_all_tasks_blocked()
        if not reader.sender.taken:
            return events
        events += map(brief, b"\n".join(reader.sender.taken).splitlines())
        reader.sender.taken.clear()


def brief(line: bytes) -> tuple[Any, ...]:
    event = json.loads(line)["params"]
    flags = [key for key in ("snapshot", "late", "resync") if key in event]
    return event.get("name"), event.get("value"), event.get("skipped", 0), *flags


@pytest.mark.parametrize("stores", [True, False])
async def test_the_newest_comes_at_once_with_how_many_did_not(stores: bool) -> None:
    async with reading("live.*", stores=stores) as (core, reader):
        await write(core, *[("live.a", n) for n in range(20)], ("live.b", 20))
        assert await read_all(reader) == [
            *[("live.a", n, 0) for n in range(ROOM)],
            ("live.a", 19, 19 - ROOM),
            ("live.b", 20, 0),
        ]
        await write(core, ("live.a", 21))
        assert await read_all(reader) == [("live.a", 21, 0)]


async def test_persisted_records_beside_them_come_whole() -> None:
    async with reading("#", stores=True) as (core, reader):
        await write(core, *[(name, n) for n in range(20) for name in ("a", "live.a")])
        events = await read_all(reader)
        assert [value for name, value, _ in events if name == "a"] == list(range(20))
        assert [value for name, value, _ in events if name == "live.a"][-1] == 19
        assert len(events) + sum(skipped for _, _, skipped in events) == 40


async def test_late_rows_that_nothing_is_left_to_tell_of_resync() -> None:
    async with reading("live.*", stores=True) as (core, reader):
        await write(core, ("live.a", 1), ("live.b", 2), ts=10**12)
        await write(core, *[("live.a", n) for n in range(10, 20)], ts=10**12 - 1)
        events = await read_all(reader)
        assert events[-3:] == [
            (None, None, 0, "resync"),
            ("live.a", 1, 0, "snapshot"),
            ("live.b", 2, 0, "snapshot"),
        ]


async def test_the_backlog_is_followed_exactly_as_far_as_it_goes() -> None:
    rules = with_rules({"name": "live.*", "persist": False}, subscriber_updates=ROOM)
    async with running_core(MemoryBackend(), rules) as running, trio.open_nursery() as nursery:
        reader = Reader(running.core, nursery, Model(), "#", every=True)
        reader.connect()
        await write(running.core, *[(name, n) for n in range(20) for name in ("a", "live.a")])
        events = await read_all(reader)
        assert events == [(name, n, 0) for n in range(20) for name in ("a", "live.a")]
        reader.subscriptions.close_all()
        nursery.cancel_scope.cancel()


class Miscounting(Account):
    """The negative control: what the backlog has outrun is passed over without a word."""

    def settle_transients(self, now: Standing, put: int) -> None:
        super().settle_transients(now, put)
        self.missed = 0


def test_the_model_finds_a_subscription_that_miscounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "Account", Miscounting)
    steps = [("write", "t.a"), ("flood", "t.a"), ("flood", "x.t")]
    with pytest.raises(ExceptionGroup) as caught:
        trio.run(play, steps, "#", True, 0, True)
    assert caught.group_contains(AssertionError)
