"""A second machine that applies the same commits comes to the same answers."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from recordd.config.rules import read_rules
from recordd.config.settings import Configuration
from recordd.extending.commit import Commit, Deletions, NewRows, Renewal
from recordd.persistence import with_persistence
from recordd.writing.committer import Committer
from recordd_protocol.rows import Row
from tests.core_in_memory import CoreInMemory, configure, running_core
from tests.server.backends import make_full_backend, sqlite_options
from tests.wire import request

NAMES = ["a", "b.x", "b.y", "tmp.a", "tmp.b"]
"""Those of `tmp` are transient."""

STEPS = 30
BEFORE_FIRST = 1000
"""Positions are the journal's own: far from every rev."""


class LogInMemory:
    """A journal apart from the backend, whose entries others may read."""

    def __init__(self) -> None:
        self.entries: list[Commit] = []

    async def append(self, commit: Commit) -> int:
        await trio.lowlevel.checkpoint()
        self.entries.append(commit)
        return BEFORE_FIRST + len(self.entries)


class Machine:
    """A core with storage of its own, asked by one peer."""

    def __init__(self, running: CoreInMemory) -> None:
        self.hub = running.core.hub
        self.peer = running.connect()
        committer = running.core.extensions.get(Committer)
        assert committer is not None
        self.applier = committer.applier

    async def follow(self, entries: list[Commit]) -> None:
        """Apply what comes behind its own position."""
        done = max(0, self.applier.position - BEFORE_FIRST)
        for position, commit in enumerate(entries[done:], BEFORE_FIRST + done + 1):
            await self.applier.apply(commit, position)

    async def answers(self, names: list[str]) -> list[bytes]:
        """What it answers about records, byte for byte but for the epoch."""
        return [
            await self._ask("record.query", name=names),
            await self._ask("record.query", name=names, limit=None, start=0),
            await self._ask("record.replay", name=names, after=0),
            b"%d" % self.hub.rev,
        ]

    async def list_records(self) -> bytes:
        return await self._ask("record.list")

    def told(self) -> list[tuple[object, ...]]:
        """What followers were told, in order."""
        rows = self.hub.changes.backlog.rows_after(0) or ()
        return [(row.name, row.value, row.ts, row.rev, row.kind) for row in rows]

    async def _ask(self, method: str, **params: Any) -> bytes:
        await self.peer.send(request(method, 1, **params))
        return (await self.peer.receive_raw()).replace(self.hub.epoch.encode(), b"EPOCH")


@contextlib.asynccontextmanager
async def open_machine(
    kind: str, path: Path, journal: LogInMemory | None = None
) -> AsyncIterator[Machine]:
    rules = read_rules(
        [{"name": "tmp.#", "persist": False}], default_retention_ms=None, max_capacity=1
    )
    backend = make_full_backend(kind, sqlite_options(path, tail_rows=8))
    extension = with_persistence(backend, None, journal=journal)
    configuration = Configuration(configure().settings, rules, {})
    async with running_core(backend, configuration, [extension]) as running:
        yield Machine(running)


async def play(machine: Machine, seed: int, names: Sequence[str] = NAMES) -> None:
    """Write, trim and delete by chance; many refusals are part of it."""
    chance, peer = random.Random(seed), machine.peer

    def item() -> dict[str, Any]:
        ts = chance.choice([None, chance.randrange(1000)])
        stated = {} if ts is None else {"ts": ts}
        return {"name": chance.choice(names), "value": chance.randrange(100), **stated}

    await peer.call(
        "record.set_many", records=[{"name": "a", "value": n, "ts": n} for n in range(8)]
    )
    await peer.call("record.trim", name="a", newer_than=5)
    for _ in range(STEPS):
        draw = chance.random()
        if draw < 0.5:
            await peer.call("record.set", **item())
        elif draw < 0.7:
            await peer.call(
                "record.set_many", records=[item() for _ in range(chance.randrange(1, 9))]
            )
        elif draw < 0.85:
            newer_than = chance.randrange(1000)
            await peer.call("record.trim", name=chance.choice(names), newer_than=newer_than)
        else:
            await peer.call("record.delete", name=chance.choice(names))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("leading", "following"), [("memory", "sqlite"), ("sqlite", "memory")])
async def test_a_machine_that_applies_the_commits_of_another_answers_as_that_does(
    tmp_path: Path, leading: str, following: str, seed: int
) -> None:
    log = LogInMemory()
    async with (
        open_machine(leading, tmp_path / "leader.db", log) as leader,
        open_machine(following, tmp_path / "follower.db") as follower,
    ):
        await play(leader, seed)
        assert {NewRows, Deletions, Renewal} == {type(commit) for commit in log.entries}
        await follower.follow(log.entries)
        assert await follower.answers(["#"]) == await leader.answers(["#"])
        assert await follower.list_records() == await leader.list_records()
        assert follower.told() == leader.told()
        positions = {leader.applier.position, follower.applier.position}
        assert positions == {BEFORE_FIRST + len(log.entries)}


async def test_a_machine_that_was_stopped_goes_on_from_its_position(tmp_path: Path) -> None:
    """With all that is stored; transient values it would have to be given."""
    log = LogInMemory()
    async with open_machine("memory", tmp_path, log) as leader:
        await play(leader, 7, NAMES[:3])
        half = log.entries[: len(log.entries) // 2]
        async with open_machine("sqlite", tmp_path / "follower.db") as follower:
            await follower.follow(half)
        async with open_machine("sqlite", tmp_path / "follower.db") as follower:
            assert follower.applier.position == BEFORE_FIRST + len(half)
            await follower.follow(log.entries)
            assert await follower.answers(["#"]) == await leader.answers(["#"])
            assert _ids_of(follower) == _ids_of(leader)
            assert follower.hub.catalogue.next_record_id == leader.hub.catalogue.next_record_id


def _ids_of(machine: Machine) -> dict[str, int]:
    return {state.name: state.record_id for state in machine.hub.catalogue.states_after(-1)}


def _later(commit: Commit) -> Commit:
    assert isinstance(commit, Deletions)
    (deletion,) = commit.deletions
    return Deletions([msgspec.structs.replace(deletion, ts=deletion.ts + 1)])


def _with_other_ids(commit: Commit) -> Commit:
    assert isinstance(commit, NewRows)
    created = [new._replace(record_id=new.record_id + 1) for new in commit.created]
    return NewRows(commit.rows, [id_ + 1 for id_ in commit.record_ids], created)


def _without_last_row(commit: Commit) -> Commit:
    assert isinstance(commit, NewRows)
    return NewRows(commit.rows[:-1], commit.record_ids[:-1], commit.created)


def _of_older_row(commit: Commit) -> Commit:
    assert isinstance(commit, Renewal)
    row = commit.row
    return msgspec.structs.replace(commit, row=Row(row.name, row.value, row.ts - 1, row.rev))


FAULTS: dict[str, tuple[Callable[[Commit], Commit], Callable[[Commit], bool]]] = {
    "a deletion at another time": (_later, lambda c: isinstance(c, Deletions)),
    "a record with another id": (
        _with_other_ids,
        lambda c: isinstance(c, NewRows) and len(c.created) > 0,
    ),
    "a row too few": (_without_last_row, lambda c: isinstance(c, NewRows) and len(c.rows) == 8),
    "a renewal of another row": (_of_older_row, lambda c: isinstance(c, Renewal)),
}


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_a_commit_that_is_not_the_same_is_noticed(tmp_path: Path, fault: str) -> None:
    """Else the comparison would say nothing."""
    change, is_meant = FAULTS[fault]
    log = LogInMemory()
    async with (
        open_machine("memory", tmp_path, log) as leader,
        open_machine("memory", tmp_path) as right,
        open_machine("memory", tmp_path) as wrong,
    ):
        await play(leader, seed=1)
        number = next(n for n, commit in enumerate(log.entries) if is_meant(commit))
        before, commit = log.entries[:number], log.entries[number]
        await right.follow([*before, commit])
        await wrong.follow([*before, change(commit)])
        is_same_list = await wrong.list_records() == await right.list_records()
        assert not (is_same_list and wrong.told() == right.told())
