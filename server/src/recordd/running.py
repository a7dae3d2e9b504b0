"""The core at work: storage loaded, start hooks and the writer running; then the way back.

The daemon and the tests run one and the same. The nurseries nest in the order of stopping:
what is named first is started first and stopped last.

    storage      loaded before anything runs; closed when nothing can ask it any more
      hooks      extensions' tasks, and the watch over peers that take nothing
        writer   ends by itself when the queue is closed and drained
          block  the caller's: the sockets, and the connections
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio

from recordd.core import Core
from recordd.extending.backend import FatalBackendError, PersistenceBackend
from recordd.extending.journal import BackendJournal
from recordd.writing.applier import Applier
from recordd.writing.committer import Committer
from recordd.writing.queue import WriteQueue
from recordd.writing.writer import Writer

__all__ = ["running"]

logger: Final = logging.getLogger(__name__)

_ALL_BYTES: Final = 1 << 62


@contextlib.asynccontextmanager
async def running(core: Core, *, on_fault: Callable[[], None]) -> AsyncIterator[Writer]:
    """Run the core around the block; at its end stop in order.

    Writes that were accepted by then are committed and answered, later ones refused as
    `unavailable`. Where the block raises or is cancelled, all stops at once: what is
    committed stays, what is not is not answered.

    `on_fault` is called when storage fails for good, once the writes that wait are refused:
    the block is to end then, in its own way, and the fault is raised behind it.

    Raises:
        BackendError: storage cannot be opened.
        FatalBackendError: storage cannot be trusted any more.
    """
    backend = core.extensions.get(PersistenceBackend)
    committer = _committer_of(core)
    writer = _make_writer(core, backend, committer)
    faults: list[FatalBackendError] = []

    async def write() -> None:
        try:
            await writer.run()
        except FatalBackendError as fault:
            logger.critical("stopping: %s", fault)
            _refuse_all(core.queue, fault)
            faults.append(fault)
            on_fault()

    async with _opened(backend, committer.applier), trio.open_nursery() as hooks:
        for hook in core.start_hooks:
            hooks.start_soon(hook)
        hooks.start_soon(core.connections.cut_stuck)
        hooks.start_soon(core.reminders.run)
        await hooks.start(core.readiness.run)
        async with trio.open_nursery() as actors:
            actors.start_soon(write)
            yield writer
            core.queue.close()
        hooks.cancel_scope.cancel()
    for fault in faults:
        raise fault


def _committer_of(core: Core) -> Committer:
    """Return the one that persistence brings; without it, one that changes the hub alone."""
    found = core.extensions.get(Committer)
    return found or Committer(BackendJournal(), Applier(core.hub, None, core.turns))


def _make_writer(core: Core, backend: PersistenceBackend | None, committer: Committer) -> Writer:
    """Make the writer, and tell the core where its figures are."""
    writer = Writer(core.hub, backend, core.queue, core.turns, committer)
    for housekeeper in core.housekeepers:
        writer.add_housekeeper(housekeeper)
    core.writer_statistics = writer.statistics
    return writer


@contextlib.asynccontextmanager
async def _opened(backend: PersistenceBackend | None, applier: Applier) -> AsyncIterator[None]:
    """Load storage into the hub, and close it at the end, also where it cannot be loaded."""
    if backend is None:
        yield
        return
    try:
        applier.restore(await backend.initialize())
        yield
    finally:
        with trio.CancelScope(shield=True):
            await backend.close()


def _refuse_all(queue: WriteQueue, fault: FatalBackendError) -> None:
    """Accept no more writes, and settle those that wait."""
    queue.close()
    while waiting := queue.take_nowait(_ALL_BYTES):
        for request in waiting:
            request.settle(fault)
