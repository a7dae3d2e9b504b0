"""Subscriptions against a model: random writes, deletions, retention, stops and resumptions.

The model is the list of everything that was committed. A reader that is never slow must
get exactly what matches of it; a slow one a subsequence that ends in the newest of each
record, with the rest counted; one that asked for every update exactly that, or a resync.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, cast

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from recordd.config.rules import read_rules
from recordd.config.settings import Configuration
from recordd.connections.outbox import Outbox, OutboxLimits
from recordd.core import Core
from recordd.extending.backend import CleansUp, CleanupTarget, PersistenceBackend
from recordd.following.opening import Opening
from recordd.persistence.memory import MemoryBackend
from recordd.session.session import make_subscriptions
from recordd.writing.requests import DeleteRecord, NewRow, WriteRows
from recordd_protocol.dialect import Call
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc_events import JsonRpcEvents
from recordd_protocol.patterns import Pattern, compile_pattern
from tests.core_in_memory import CoreInMemory, configure, running_core
from tests.server.following.peers import TapSender

EXAMPLES = int(os.environ.get("RECORDD_EXAMPLES", "150"))
NAMES = ("a", "b", "x.a", "x.b", "t.a", "x.t")
RULES = [{"name": "t.*", "persist": False}, {"name": "x.t", "persist": False}]
PATTERNS = ("#", "a", "x.*", "t.a", "nobody")
MAX_UPDATES = 4


Told = tuple[str, int | None, str, int | None]
"""Name, rev, kind and value of an event."""


class Commit(NamedTuple):
    """One commit; `rev` is None where the record is transient."""

    rev: int | None
    name: str
    kind: str
    value: int | None

    @property
    def told_as(self) -> Told:
        return self.name, self.rev, self.kind, self.value


class Model:
    """Everything that was committed."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.written = 0

    def current(self, pattern: Pattern, moment: int, *, resumed: bool = False) -> list[Commit]:
        """Return what opens a stream after so many commits, oldest change first.

        One that is resumed begins with transient records, deletions too.
        """
        newest: dict[str, Commit] = {}
        for commit in self.commits[:moment]:
            if commit.kind != "late" and pattern.matches(commit.name):
                newest.pop(commit.name, None)
                newest[commit.name] = commit
        if resumed:
            return [commit for commit in newest.values() if commit.rev is None]
        return [commit for commit in newest.values() if commit.kind != "deleted"]

    def after(self, pattern: Pattern, rev: int, moment: int) -> list[Commit]:
        """Return what matches above a rev, or without one after so many commits."""
        return [
            commit
            for number, commit in enumerate(self.commits)
            if pattern.matches(commit.name)
            and (number >= moment if commit.rev is None else commit.rev > rev)
        ]


class NotingEncoder(JsonRpcEvents):
    """Notes at which commit a resync happened: a transient row has no rev to tell by."""

    def __init__(self, model: Model) -> None:
        super().__init__("s1", Framing.LINE, 1 << 20)
        self.resyncs: list[int] = []
        self._model = model

    def encode_resync(self, **about: Any) -> list[bytes]:
        self.resyncs.append(len(self._model.commits))
        return super().encode_resync(**about)


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
        self.is_exact = False  # nothing is ever out of the backlog's reach
        self.may_resync = False  # nothing was lost that no other update tells of
        self.room = MAX_UPDATES
        self.rev: int | None = None  # after which it resumes
        self.moment = 0  # after which it follows transient records
        self.values: list[Commit] | None = None  # of an opening burst, those still to come
        self.told: list[dict[str, Any]] = []
        self.is_connected = False

    def connect(self) -> None:
        """Subscribe, from where the last connection ended."""
        self.sender = TapSender()
        self.outbox = Outbox(OutboxLimits(1 << 20, self.room, 1 << 20), self.sender)
        self.encoder = NotingEncoder(self.model)
        self.scope = trio.CancelScope()
        self.nursery.start_soon(_run_outbox, self.outbox, self.scope)
        self.subscriptions = make_subscriptions(self.core, self.nursery, self.outbox)
        opening = Opening(self.pattern, True, self.rev, None, self.every)
        answer, subscription = self.subscriptions.open(
            opening, cast("Call", _SubscribeCall(self.encoder))
        )
        is_resumed = self.rev is not None and not answer.resync
        self._begin(
            self.rev or 0 if is_resumed else answer.rev, len(self.model.commits), is_resumed
        )
        assert answer.values == len(self.values or ())
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
        revs = [event["rev"] for event in self.told if event["rev"] is not None]
        if self.rev is not None and revs:
            self.rev = revs[-1]

    def take(self) -> None:
        """Look at the messages that the peer took."""
        for line in b"\n".join(self.sender.taken).splitlines():
            event = json.loads(line)["params"]
            if event.get("resync"):
                assert self.may_resync
                self.check(is_complete=False)
                self._begin(event["rev"], self.encoder.resyncs.pop(0), is_resumed=False)
                assert event["values"] == len(self.values or ())
            elif self.values is not None:
                self._take_value(event, self.values)
            else:
                assert "snapshot" not in event
                self.told.append(event)
        self.sender.taken.clear()

    def check(self, *, is_complete: bool) -> None:
        """Hold what was told since `rev` against what was committed."""
        told = [told_as(event) for event in self.told]
        skipped = sum(event.get("skipped", 0) for event in self.told)
        committed = self.model.after(self.pattern, self.rev or 0, self.moment)
        expected = [commit.told_as for commit in committed]
        assert all(event.get("skipped", 1) > 0 for event in self.told)
        revs = [event["rev"] for event in self.told if event["rev"] is not None]
        assert revs == sorted(set(revs))
        assert Counter(told) <= Counter(expected)
        if self.every:
            assert _stored(told) == _stored(expected)[: None if is_complete else len(_stored(told))]
        if self.every and self.is_exact:
            assert not skipped
            assert told == (expected if is_complete else expected[: len(told)])
        if is_complete:
            assert len(told) + skipped == len(expected)
            assert _newest(told) == _newest(expected)

    def _begin(self, rev: int, moment: int, is_resumed: bool) -> None:
        self.told = []
        self.rev, self.moment = rev, moment
        self.values = self.model.current(self.pattern, moment, resumed=is_resumed) or None

    def _take_value(self, event: dict[str, Any], values: list[Commit]) -> None:
        """Pass over values that have changed since: that change is yet to come."""
        assert event["snapshot"] is True
        while values and values[0].told_as != told_as(event):
            assert self._has_changed(values.pop(0).name)
        assert values, "a value that is none"
        del values[0]
        if event.get("last"):
            assert all(self._has_changed(commit.name) for commit in values)
            self.values = None

    def _has_changed(self, name: str) -> bool:
        later = self.model.commits[self.moment :]
        return any(commit.name == name and commit.kind != "late" for commit in later)


class _SubscribeCall:
    """A call that brings an encoder of its own."""

    subscription_id = None

    def __init__(self, encoder: NotingEncoder) -> None:
        self._encoder = encoder

    def encode_events(self, subscription_id: str, pattern: Pattern) -> NotingEncoder:
        return self._encoder


def told_as(event: dict[str, Any]) -> Told:
    return event["name"], event["rev"], kind_of(event), event["value"]


def _stored(told: list[Told]) -> list[Told]:
    return [entry for entry in told if entry[1] is not None]


def _newest(told: list[Told]) -> dict[str, Told]:
    """Return what each record came to."""
    return {entry[0]: entry for entry in told if entry[2] != "late"}


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
        st.tuples(st.just("flood"), st.sampled_from(NAMES)),
        st.tuples(st.just("flood of late"), st.sampled_from(NAMES)),
        st.tuples(st.just("delete"), st.sampled_from(NAMES)),
        st.tuples(st.just("retain"), st.sampled_from(NAMES)),
        st.tuples(st.just("read"), st.integers(1, 10)),
        st.tuples(st.just("settle"), st.just(0)),
        st.tuples(st.just("disconnect"), st.just(0)),
        st.tuples(st.just("connect"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=EXAMPLES)
@given(
    steps=STEPS,
    pattern=st.sampled_from(PATTERNS),
    every=st.booleans(),
    backlog_rows=st.sampled_from([0, 3, 1000]),
)
def test_a_reader_is_told_what_the_model_says(
    steps: list[tuple[str, Any]], pattern: str, every: bool, backlog_rows: int
) -> None:
    trio.run(play, steps, pattern, every, backlog_rows, True)


@settings(max_examples=EXAMPLES // 3)
@given(
    steps=STEPS,
    pattern=st.sampled_from(PATTERNS),
    every=st.booleans(),
    backlog_rows=st.sampled_from([0, 3, 1000]),
)
def test_a_reader_is_told_what_the_model_says_without_persistence(
    steps: list[tuple[str, Any]], pattern: str, every: bool, backlog_rows: int
) -> None:
    trio.run(play, steps, pattern, every, backlog_rows, False)


async def play(
    steps: list[tuple[str, Any]], pattern: str, every: bool, backlog_rows: int, stores: bool
) -> None:
    async with (
        _running(stores, backlog_bytes=backlog_rows * 530) as running,
        trio.open_nursery() as nursery,
    ):
        model = Model()
        reader = Reader(running.core, nursery, model, pattern, every)
        reader.is_exact = backlog_rows == 1000
        reader.connect()
        for step, argument in steps:
            reader.may_resync |= step in ("delete", "retain", "late", "flood of late")
            await _do(step, argument, running.core, model, reader)
        if not reader.is_connected:
            reader.connect()
        await _read_all(reader)
        # Who asked for every update is told at once what cannot come; of the others, who
        # was left out last is told with what comes next.
        reader.check(is_complete=every)
        for name in ("a", "x.a", "t.a"):
            _write(running.core, model, name)
            await _read_all(reader)
        assert reader.values is None
        reader.check(is_complete=True)
        reader.subscriptions.close_all()
        assert len(running.core.hub.topics) == 0
        nursery.cancel_scope.cancel()


def _running(stores: bool, **settings: Any) -> AbstractAsyncContextManager[CoreInMemory]:
    made = configure(subscriber_updates=MAX_UPDATES, max_value_bytes=100, **settings)
    rules = read_rules(RULES, default_retention_ms=None, max_capacity=1)
    configuration = Configuration(made.settings, rules, made.sources)
    if stores:
        return running_core(MemoryBackend(), configuration)
    return running_core(configuration=configuration, extensions=[])


async def _do(step: str, argument: Any, core: Core, model: Model, reader: Reader) -> None:
    if step == "write":
        _write(core, model, argument)
    elif step == "late":
        _write(core, model, argument, ts=1)
    elif step == "burst":
        _write(core, model, *[NAMES[n % len(NAMES)] for n in range(argument)])
    elif step.startswith("flood"):
        for _ in range(2 * MAX_UPDATES):
            _write(core, model, argument, ts=1 if step.endswith("late") else None)
            await trio.testing.wait_all_tasks_blocked()
    elif step == "delete":
        await trio.testing.wait_all_tasks_blocked()
        if core.hub.catalogue.find(argument):
            _delete(core, model, argument)
            await trio.testing.wait_all_tasks_blocked()
    elif step == "retain":
        await trio.testing.wait_all_tasks_blocked()
        backend = core.extensions.get(PersistenceBackend)
        if backend is None:
            return
        assert isinstance(backend, CleansUp)
        with core.hub.purge() as purge:
            purged, _ = await backend.cleanup([CleanupTarget(argument, None, 1, True)], 100)
            purge.note(purged)
    elif step == "read":
        reader.sender.open(argument)
    elif step == "settle":
        await trio.testing.wait_all_tasks_blocked()
    elif step == "disconnect" and reader.is_connected:
        reader.disconnect()
    elif step == "connect" and not reader.is_connected:
        reader.connect()


def _write(core: Core, model: Model, *names: str, ts: int | None = None) -> None:
    first = model.written + 1
    model.written += len(names)
    items: list[NewRow] = [
        (name, b"%d" % value, ts, None) for value, name in enumerate(names, first)
    ]
    write = WriteRows(items, lambda rows: rows)

    def note(rows: Any) -> None:
        for row in rows:
            model.commits.append(Commit(row.rev, row.name, row.kind.name.lower(), int(row.value)))

    write.deliver = note
    core.queue.put_nowait(write)


def _delete(core: Core, model: Model, name: str) -> None:
    state = core.hub.catalogue.find(name)
    assert state is not None
    is_stored = state.latest.rev is not None
    deletion = DeleteRecord(name, lambda _: core.hub.rev if is_stored else None)
    deletion.deliver = lambda rev: model.commits.append(Commit(rev, name, "deleted", None))  # type: ignore[arg-type]
    core.queue.put_nowait(deletion)


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
