"""Subscriptions against a model: random writes, deletions, retention, stops and resumptions.

The model is the list of everything that was committed. A reader that is never slow must
get exactly what matches of it; a slow one a subsequence that ends in the newest of each
record, with the rest counted; one that asked for every update exactly that, or a resync.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from recordd.backend import CleanupTarget, PersistenceBackend
from recordd.core import Core
from recordd.outbox import Outbox, OutboxLimits
from recordd.persistence.memory import MemoryBackend
from recordd.subscription import Opening
from recordd.subscriptions import Subscriptions
from recordd.writes import Deletion, Write
from recordd_protocol.dialect import Malformed
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc import JsonRpc
from recordd_protocol.patterns import Pattern, compile_pattern
from tests.core_in_memory import configure, running_core
from tests.wire import request

NAMES = ("a", "b", "x.a", "x.b")
PATTERNS = ("#", "a", "x.*", "nobody")
MAX_UPDATES = 6


class TapSender:
    """A peer that takes as many messages as it is told to."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self._credit = 0
        self._more = trio.lowlevel.ParkingLot()

    def open(self, messages: int) -> None:
        self._credit += messages
        self._more.unpark_all()

    def send_nowait(self, messages: list[bytes]) -> list[bytes]:
        now, later = messages[: self._credit], messages[self._credit :]
        self._credit -= len(now)
        self.taken += now
        return later

    async def send(self, messages: list[bytes], note_progress: Callable[[], None]) -> bool:
        while messages := self.send_nowait(messages):
            await self._more.park()
        return True


class Model:
    """Everything that was committed: rev, name, kind."""

    def __init__(self) -> None:
        self.commits: list[tuple[int, str, str]] = []

    def latest(self, pattern: Pattern, rev: int) -> list[tuple[int, str]]:
        newest: dict[str, int] = {}
        for at, name, kind in self.commits:
            if at <= rev and kind == "deleted":
                newest.pop(name, None)
            elif at <= rev and kind == "latest" and pattern.matches(name):
                newest[name] = at
        return sorted((at, name) for name, at in newest.items())

    def after(self, pattern: Pattern, rev: int) -> list[tuple[int, str, str]]:
        return [commit for commit in self.commits if commit[0] > rev and pattern.matches(commit[1])]


class Reader:
    """One subscription and what it was told, resumed on connection after connection."""

    def __init__(
        self, core: Core, nursery: trio.Nursery, model: Model, pattern: str, every: bool
    ) -> None:
        self.core = core
        self.nursery = nursery
        self.model = model
        self.pattern = compile_pattern(pattern)
        self.every = every
        self.room = MAX_UPDATES
        self.rev: int | None = None  # after which it resumes
        self.values: list[tuple[int, str]] | None = None  # of an opening burst that is not over
        self.told: list[dict[str, Any]] = []
        self.is_connected = False

    def connect(self) -> None:
        """Subscribe, from where the last connection ended."""
        self.sender = TapSender()
        self.outbox = Outbox(OutboxLimits(1 << 20, self.room, 1 << 20), self.sender)
        self.subscriptions = Subscriptions(self.core, self.nursery, self.outbox)
        self.scope = trio.CancelScope()
        self.nursery.start_soon(_run_outbox, self.outbox, self.scope)
        dialect = JsonRpc(Framing.LINE, max_reply_bytes=1 << 20, max_batch_calls=1)
        (call,) = dialect.decode(request("record.subscribe", 1))
        assert not isinstance(call, Malformed)
        opening = Opening(self.pattern, True, self.rev, None, self.every)
        answer, subscription = self.subscriptions.open(opening, call)
        if self.rev is None or answer.resync:
            self._begin(answer.rev)
            assert answer.values == len(self.expected_values)
        self.told = []
        self.subscriptions.start(subscription)
        self.outbox.flush_nowait()
        self.is_connected = True

    def disconnect(self) -> None:
        """Keep what has come, lose what has not."""
        self.take()
        self.subscriptions.close_all()
        self.scope.cancel()
        self.is_connected = False
        self.check(is_complete=False)
        if self.values is not None:
            self.rev = None
        elif self.told:
            self.rev = self.told[-1]["rev"]

    def take(self) -> None:
        """Look at the messages that the peer took."""
        for line in b"\n".join(self.sender.taken).splitlines():
            event = json.loads(line)["params"]
            if event.get("resync"):
                self.check(is_complete=False)
                self._begin(event["rev"])
            elif self.values is not None:
                self._take_value(event, self.values)
            else:
                assert "snapshot" not in event
                self.told.append(event)
        self.sender.taken.clear()

    def check(self, *, is_complete: bool) -> None:
        """Hold what was told since `rev` against what was committed."""
        told = [(event["rev"], event["name"], kind_of(event)) for event in self.told]
        skipped = sum(event.get("skipped", 0) for event in self.told)
        expected = self.model.after(self.pattern, self.rev or 0)
        assert all(event.get("skipped", 1) > 0 for event in self.told)
        assert [rev for rev, _, _ in told] == sorted({rev for rev, _, _ in told})
        assert set(told) <= set(expected)
        if self.every or not skipped:
            assert not skipped
            assert told == (expected if is_complete else expected[: len(told)])
        elif is_complete:
            assert len(told) + skipped == len(expected)
            newest = {name: (rev, kind) for rev, name, kind in expected if kind != "late"}
            assert {name: (rev, kind) for rev, name, kind in told if kind != "late"} == newest

    def _begin(self, rev: int) -> None:
        self.told = []
        self.rev = rev
        self.expected_values = self.model.latest(self.pattern, rev)
        self.values = [] if self.expected_values else None

    def _take_value(self, event: dict[str, Any], values: list[tuple[int, str]]) -> None:
        assert event["snapshot"] is True
        values.append((event["rev"], event["name"]))
        assert values == self.expected_values[: len(values)]
        assert event.get("last", False) is (len(values) == len(self.expected_values))
        if event.get("last"):
            self.values = None


async def _run_outbox(outbox: Outbox, scope: trio.CancelScope) -> None:
    with scope:
        await outbox.run()


def kind_of(event: dict[str, Any]) -> str:
    return "late" if event.get("late") else "deleted" if event.get("deleted") else "latest"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(NAMES)),
        st.tuples(st.just("late"), st.sampled_from(NAMES)),
        st.tuples(st.just("burst"), st.integers(2, 12)),
        st.tuples(st.just("burst"), st.integers(2, 12)),
        st.tuples(st.just("delete"), st.sampled_from(NAMES)),
        st.tuples(st.just("retain"), st.sampled_from(NAMES)),
        st.tuples(st.just("read"), st.integers(1, 10)),
        st.tuples(st.just("settle"), st.just(0)),
        st.tuples(st.just("disconnect"), st.just(0)),
        st.tuples(st.just("connect"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=600, deadline=None)
@given(
    steps=STEPS,
    pattern=st.sampled_from(PATTERNS),
    every=st.booleans(),
    backlog_rows=st.sampled_from([0, 3, 1000]),
)
def test_a_reader_is_told_what_the_model_says(
    steps: list[tuple[str, Any]], pattern: str, every: bool, backlog_rows: int
) -> None:
    trio.run(_play, steps, pattern, every, backlog_rows)


async def _play(steps: list[tuple[str, Any]], pattern: str, every: bool, backlog_rows: int) -> None:
    configuration = configure(
        backlog_bytes=backlog_rows * 520, subscriber_updates=MAX_UPDATES, max_value_bytes=100
    )
    async with (
        running_core(MemoryBackend(), configuration) as running,
        trio.open_nursery() as nursery,
    ):
        model = Model()
        reader = Reader(running.core, nursery, model, pattern, every)
        reader.connect()
        for step, argument in steps:
            await _do(step, argument, running.core, model, reader)
        if not reader.is_connected:
            reader.connect()
        await _read_all(reader)
        # What is left out last is told with what comes next.
        for name in ("a", "x.a"):
            _write(running.core, model, name)
            await _read_all(reader)
        assert reader.values is None
        reader.check(is_complete=True)
        reader.subscriptions.close_all()
        assert len(running.core.hub.topics) == 0
        nursery.cancel_scope.cancel()


async def _do(step: str, argument: Any, core: Core, model: Model, reader: Reader) -> None:
    if step == "write":
        _write(core, model, argument)
    elif step == "late":
        _write(core, model, argument, ts=1)
    elif step == "burst":
        _write(core, model, *[NAMES[n % 4] for n in range(argument)])
    elif step == "delete":
        await trio.testing.wait_all_tasks_blocked()
        if core.hub.find(argument):
            deletion = Deletion(argument, lambda _: core.hub.rev)
            deletion.deliver = lambda rev: model.commits.append((rev, argument, "deleted"))  # type: ignore[arg-type]
            core.queue.put_nowait(deletion)
            await trio.testing.wait_all_tasks_blocked()
    elif step == "retain":
        await trio.testing.wait_all_tasks_blocked()
        backend = core.extensions.get(PersistenceBackend)
        assert backend is not None
        with core.hub.purging():
            purged, _ = await backend.cleanup(
                [CleanupTarget(argument, None, 1, True)], 100, next_rev=1000
            )
            for name, what in purged.items():
                core.hub.forget_rows(name, what)
    elif step == "read":
        reader.sender.open(argument)
    elif step == "settle":
        await trio.testing.wait_all_tasks_blocked()
    elif step == "disconnect" and reader.is_connected:
        reader.disconnect()
    elif step == "connect" and not reader.is_connected:
        reader.connect()


def _write(core: Core, model: Model, *names: str, ts: int | None = None) -> None:
    write = Write([(name, b"1", ts) for name in names], lambda rows: rows)

    def note(rows: Any) -> None:
        model.commits += [(row.rev, row.name, row.kind.name.lower()) for row in rows]

    write.deliver = note
    core.queue.put_nowait(write)


async def _read_all(reader: Reader) -> None:
    while True:
        reader.sender.open(100)
        await trio.testing.wait_all_tasks_blocked()
        if not reader.sender.taken:
            return
        reader.take()


async def test_what_was_left_out_is_told_with_the_very_next_update() -> None:
    """A late row is left out while the reader is slow; then comes a commit larger than its room."""
    configuration = configure(subscriber_updates=2)
    async with (
        running_core(MemoryBackend(), configuration) as running,
        trio.open_nursery() as nursery,
    ):
        core, model = running.core, Model()
        reader = Reader(core, nursery, model, "#", every=False)
        reader.room = 2
        reader.connect()
        for name in ("a", "b", "x.a", "x.b", "a", "b"):
            _write(core, model, name)
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            reader.sender.open(1)
            await trio.testing.wait_all_tasks_blocked()
        _write(core, model, "x.a", ts=1)
        await _read_all(reader)
        _write(core, model, "a", "b", "x.a")
        await _read_all(reader)
        assert [event.get("skipped", 0) for event in reader.told[-3:]] == [1, 0, 0]
        reader.check(is_complete=True)
        reader.subscriptions.close_all()
        nursery.cancel_scope.cancel()
