"""The running block: the order in which a daemon's parts stop, and what a fault leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from recordd.core import Core, CoreBuilder, build_core
from recordd.extending.backend import BackendError, FatalBackendError, Loaded
from recordd.extending.commit import Commit, NewRows
from recordd.persistence import with_persistence
from recordd.persistence.memory import MemoryBackend
from recordd.running import running
from recordd.writing.requests import WriteRows
from recordd_protocol.errors import Reason, RequestError
from tests.core_in_memory import configure


class Storage(MemoryBackend):
    """Notes what becomes of it, and fails as told."""

    def __init__(self, *, opens: bool = True) -> None:
        super().__init__()
        self.noted: list[str] = []
        self.fault: BackendError | None = None
        self._opens = opens

    async def initialize(self) -> Loaded:
        if not self._opens:
            raise BackendError("the file is somebody else's")
        return await super().initialize()

    async def apply(self, commits: Sequence[Commit], position: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault
        await super().apply(commits, position)
        for commit in commits:
            assert isinstance(commit, NewRows)
            self.noted += [f"stored {row.name}" for row in commit.rows]

    async def close(self) -> None:
        self.noted.append("closed")
        await super().close()

    async def stand_by(self) -> None:
        """A start hook: notes when it is stopped."""
        try:
            await trio.sleep_forever()
        finally:
            self.noted.append("hook stopped")


@pytest.fixture
def storage() -> Storage:
    return Storage()


def build(storage: Storage) -> Core:
    def stand_by(builder: CoreBuilder) -> None:
        builder.extensions.on_start(storage.stand_by)

    return build_core(configure(), [with_persistence(storage, None), stand_by])


@asynccontextmanager
async def run(storage: Storage) -> AsyncIterator[Core]:
    """Run a core whose block a fault ends."""
    core, block = build(storage), trio.CancelScope()
    async with running(core, on_fault=block.cancel):
        with block:
            await trio.testing.wait_all_tasks_blocked()
            yield core


def put(core: Core, name: str) -> list[object]:
    """Put a write into the queue; return what will be its outcome."""
    outcome: list[object] = []
    write = WriteRows([(name, b"1", None, None)], lambda rows: [row.rev for row in rows])
    write.deliver = outcome.append
    core.queue.put_nowait(write)
    return outcome


async def test_what_was_accepted_is_committed_before_storage_closes(storage: Storage) -> None:
    async with run(storage) as core:
        outcome = put(core, "last")
    assert outcome == [[1]]
    assert storage.noted == ["stored last", "hook stopped", "closed"]


async def test_what_comes_after_the_block_is_refused(storage: Storage) -> None:
    async with run(storage) as core:
        pass
    with pytest.raises(RequestError) as refused:
        put(core, "late")
    assert refused.value.reason is Reason.UNAVAILABLE


async def test_a_block_that_fails_stops_at_once(storage: Storage) -> None:
    with pytest.raises(BaseExceptionGroup):  # noqa: PT012
        async with run(storage) as core:
            outcome = put(core, "a")
            raise ValueError
    assert outcome == []
    assert storage.noted == ["hook stopped", "closed"]


async def test_a_fault_of_storage_ends_the_block_and_is_raised_behind_it(storage: Storage) -> None:
    storage.fault = FatalBackendError("fsync failed")
    with pytest.raises(FatalBackendError, match="fsync failed"):  # noqa: PT012
        async with run(storage) as core:
            outcomes = [put(core, "a"), put(core, "b")]
            await trio.sleep_forever()
    assert outcomes == [[storage.fault], [storage.fault]]
    assert storage.noted == ["hook stopped", "closed"]


async def test_what_comes_after_a_fault_is_refused(storage: Storage) -> None:
    storage.fault = FatalBackendError("fsync failed")
    told = trio.Event()
    with pytest.raises(FatalBackendError):  # noqa: PT012
        async with running(core := build(storage), on_fault=told.set):
            put(core, "a")
            await told.wait()
            with pytest.raises(RequestError, match="shutting down"):
                put(core, "b")


async def test_storage_that_cannot_be_opened_is_closed() -> None:
    storage = Storage(opens=False)
    with pytest.raises(BackendError, match="somebody else's"):
        async with run(storage):
            raise AssertionError("the block does not begin")
    assert storage.noted == ["closed"]


async def test_the_core_is_told_what_its_writer_has_done(storage: Storage) -> None:
    async with run(storage) as core:
        assert core.writer_statistics().commits == 0
        put(core, "a")
    assert core.writer_statistics().rows_committed == 1
