"""Runs of a daemon in this process during which one I/O call fails, or all from one on."""

from __future__ import annotations

import collections
import contextlib
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec
import trio

from recordd.core import Core
from recordd.daemon import configured_extensions, run_daemon
from recordd.extending.backend import PersistenceError
from tests.core_in_memory import Peer
from tests.faults.model import Delete, Model, Put, Request, Violation
from tests.faults.vfs import Call, Kind, installed, make_error
from tests.faults.workload import (
    DATABASE,
    MARK,
    WAL,
    Refused,
    Writer,
    checkpoint,
    configure_for,
    make_request_at_random,
    read_all,
    run_retention,
    running,
)
from tests.wire import request as make_request

__all__ = ["Client", "Fault", "FaultyDisk", "Outcome", "play_with_fault", "prepare"]

_BURSTS: Final = 8
_MAX_SIZE: Final = 5000
_TS: Final = time.time_ns() // 1_000_000 - 1_000_000
_TIMEOUT_S: Final = 100.0
"""A hang; a busy machine is not to be taken for one."""

_LOST: Final = "storage lost a write"
"""What an answer says whose request may have had its effect: the daemon stops behind it."""

_CODES: Final = {
    Kind.READ: apsw.SQLITE_IOERR_READ,
    Kind.WRITE: apsw.SQLITE_IOERR_WRITE,
    Kind.SYNC: apsw.SQLITE_IOERR_FSYNC,
    Kind.TRUNCATE: apsw.SQLITE_IOERR_TRUNCATE,
    Kind.DELETE: apsw.SQLITE_IOERR_DELETE,
    Kind.OPEN: apsw.SQLITE_CANTOPEN,
    Kind.SIZE: apsw.SQLITE_IOERR_FSTAT,
}


class Fault(msgspec.Struct, frozen=True):
    """The call that fails, counted from 1 among those of its kind, or all from it on.

    `is_full` has writes fail for want of room.
    """

    kind: Kind
    number: int
    lasts: bool = False
    is_full: bool = False

    @property
    def code(self) -> int:
        """What SQLite is told."""
        is_full = self.is_full and self.kind is Kind.WRITE
        return apsw.SQLITE_FULL if is_full else _CODES[self.kind]


class FaultyDisk:
    """A witness that fails calls; `calls` counts those that it was asked about.

    The size of a WAL, and its truncation, are asked for behind a COMMIT; SQLite takes no
    notice of errors there, and APSW would raise them: they are passed over.
    """

    def __init__(self, fault: Fault | None) -> None:
        self.calls: Final[collections.Counter[Kind]] = collections.Counter()
        self._fault: Final = fault
        self._lock: Final = threading.Lock()

    def before(self, call: Call) -> None:
        """Count a call; fail it if its turn has come."""
        if call.file.endswith("-shm"):
            return
        if call.file.endswith("-wal") and call.kind in (Kind.SIZE, Kind.TRUNCATE):
            return
        with self._lock:
            self.calls[call.kind] += 1
            number = self.calls[call.kind]
        fault = self._fault
        if fault is None or fault.kind is not call.kind:
            return
        if number == fault.number or (fault.lasts and number > fault.number):
            raise make_error(fault.code)


class Outcome(msgspec.Struct):
    """What came of a run: how often the client was refused, and how the daemon ended."""

    calls: dict[Kind, int] = {}
    refused: int = 0
    reads_refused: int = 0
    unknown: int = 0
    has_started: bool = False
    fault: Exception | None = None


class Client:
    """Sends bursts, takes the answers, and keeps the model of what was not refused."""

    def __init__(self, model: Model, outcome: Outcome) -> None:
        self._model: Final = model
        self._outcome: Final = outcome
        self.is_cut_off = False

    async def play(self, peer: Peer, requests: list[Request]) -> None:
        calls = [request.as_call() for request in requests]
        lines = [make_request(method, n, **params) for n, (method, params) in enumerate(calls)]
        try:
            await peer.send(*lines)
            for request in requests:
                self._take(request, await peer.receive())
        except trio.BrokenResourceError:
            self.is_cut_off = True

    def _take(self, request: Request, answer: Any) -> None:
        if answer is None:
            self.is_cut_off = True
            return
        error = answer.get("error")
        is_known = error is None or _LOST not in error["message"]
        if error is None or self._is_rightly_missing(request, error):
            if self._outcome.unknown:
                raise Violation(f"{answer} after {_LOST!r}")
            self._model.requests.append(request)
        elif is_known:
            self._outcome.refused += 1
        else:
            self._outcome.unknown += 1
            self._model.requests.append(request)

    def _is_rightly_missing(self, request: Request, error: Any) -> bool:
        if error["data"]["reason"] != "not_found":
            return False
        assert isinstance(request, Delete), "only a deletion needs a record"
        if request.name in self._model.state().rows:
            raise Violation(f"{request.name!r} is gone: {error}")
        return True


async def prepare(folder: Path, seed: int) -> Model:
    """Make a database as `kill -9` leaves it, with a WAL; return what is in it."""
    model = Model()
    writer = Writer(model)
    (folder / "living").mkdir()
    async with running(folder / "living") as core:
        writer.connect(core)
        chance = random.Random(seed)
        await writer.send(
            [make_request_at_random(chance, number, max_size=_MAX_SIZE) for number in range(30)]
        )
        await writer.receive_all()
        for name in (DATABASE, WAL, MARK):
            shutil.copy(folder / "living" / name, folder / name)
    writer.close()
    return model


async def play_with_fault(
    origin: Path, before: Model, folder: Path, fault: Fault | None
) -> Outcome:
    """Run a daemon on a copy of what was prepared, with a workload and a fault; then look.

    Raises:
        Violation: a request was not answered, a refused one is there, an answered one is
            not, an answer was wrong, or the daemon hangs or does not start again.
    """
    for name in (DATABASE, WAL, MARK):
        shutil.copy(origin / name, folder / name)
    run = _Run(folder, before, fault)
    try:
        with trio.fail_after(_TIMEOUT_S), installed(run.disk):
            await run.play()
    except trio.TooSlowError:
        raise Violation("hangs") from None
    await run.check_what_is_left()
    return run.outcome


class _Run:
    def __init__(self, folder: Path, before: Model, fault: Fault | None) -> None:
        self.outcome: Final = Outcome()
        self.disk: Final = FaultyDisk(fault)
        self._folder: Final = folder
        self._is_lasting: Final = fault is not None and fault.lasts
        self._model: Final = Model()
        self._model.requests.extend(before.requests)
        self._client: Final = Client(self._model, self.outcome)

    async def play(self) -> None:
        socket_path = self._folder / "s"
        configuration = configure_for(self._folder, prunes=True, socket=socket_path, listen="")
        extensions = configured_extensions(configuration)
        with _signals_kept():
            try:
                async with trio.open_nursery() as nursery:
                    core = await nursery.start(run_daemon, configuration, extensions)
                    self.outcome.has_started = True
                    stream = await trio.open_unix_socket(str(socket_path))
                    async with stream:
                        await self._play(core, Peer(stream))
                    nursery.cancel_scope.cancel()
            except* PersistenceError as errors:
                self.outcome.fault = errors.exceptions[0]
            except* Violation as violations:
                raise Violation(str(violations.exceptions[0])) from None
        self.outcome.calls = dict(self.disk.calls)

    async def _play(self, core: Core, peer: Peer) -> None:
        chance = random.Random(7)
        for burst in range(_BURSTS):
            first = 100 + 20 * burst
            numbers = range(first, first + chance.choice((1, 2, 12)))
            await self._client.play(
                peer, [make_request_at_random(chance, n, max_size=_MAX_SIZE) for n in numbers]
            )
            if self._client.is_cut_off:
                return
            await self._look(peer)
            if burst % 3 == 2:
                await _disturb(core)
        if not self._is_lasting:
            await self._check_recovered(peer)

    async def _look(self, peer: Peer) -> None:
        """Read everything; each answer is right, or a refusal."""
        try:
            found = await read_all(peer)
        except Refused as refusal:
            self.outcome.reads_refused += 1
            if refusal.reason != "unavailable":
                raise Violation(f"a read is refused: {refusal}") from None
        except (ConnectionError, trio.BrokenResourceError):
            self._client.is_cut_off = True
        else:
            self._model.check(found, answered=len(self._model.requests), moment=0)

    async def _check_recovered(self, peer: Peer) -> None:
        """A passing fault has passed: writing and reading work, or the daemon has stopped."""
        for _ in range(3):  # the failing call may be one of the first round's
            refused = self.outcome.refused, self.outcome.reads_refused
            await self._client.play(peer, [Put([("w.0", "last", _TS)])])
            if not self._client.is_cut_off:
                await self._look(peer)
            if (self.outcome.refused, self.outcome.reads_refused) == refused:
                return
        raise Violation("the daemon does not recover from one failing call")

    async def check_what_is_left(self) -> None:
        answered = len(self._model.requests) - self.outcome.unknown
        try:
            async with running(self._folder) as core:
                found = await read_all(core.connect())
        except Exception as error:
            raise Violation(f"does not start again: {error!r}") from error
        self._model.check(found, answered=answered, moment=0)


async def _disturb(core: Core) -> None:
    """Have retention run, and the WAL folded and begun anew; either may fail."""
    with trio.move_on_after(0.3):  # a daemon that stops runs nothing any more
        await run_retention(core)
        with contextlib.suppress(PersistenceError):
            await checkpoint(core)


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Undo what a daemon does to the signals of its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
