"""A random workload on a daemon's core over a real file, and the reading of all of it after."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import apsw
import trio

from recordd.config.settings import Configuration, load
from recordd.core import Core
from recordd.daemon import configured_extensions
from recordd.extending.backend import PersistenceBackend
from recordd.extending.points import RetentionReporter
from recordd.persistence.retention import Retention
from recordd.persistence.sqlite.backend import SqliteBackend
from tests.core_in_memory import CoreInMemory, Peer, running_core
from tests.faults.model import Delete, Found, Model, Put, Request, StoredRow
from tests.wire import request as make_request

__all__ = [
    "DATABASE",
    "MARK",
    "WAL",
    "Refused",
    "Writer",
    "checkpoint",
    "configure_for",
    "make_request_at_random",
    "read_all",
    "read_pages",
    "run_retention",
    "running",
]

DATABASE: Final = "a.db"
MARK: Final = f"{DATABASE}-mark"
WAL: Final = f"{DATABASE}-wal"
MAX_ROWS: Final = 20
_RULES: Final = f'[[record]]\nname = "r.#"\nmax_rows = {MAX_ROWS}\n'
_FIRST_TS: Final = time.time_ns() // 1_000_000 - 3_600_000
"""An hour ago: rows much older than the clock keep retention from its work."""

_SIZES: Final = (1, 10, 40, 300, 1000, 4000, 12_000)


def configure_for(folder: Path, *, prunes: bool, **settings: Any) -> Configuration:
    """Return the configuration of a daemon on the database in `folder`.

    With `prunes` there is a rule for `max_rows`, which the model knows.
    """
    flags = {"retention": "off", "tail_rows": 40, "readers": 1, **settings}
    flags["database"] = folder / DATABASE
    rules = None
    if prunes:
        rules = folder / "recordd.toml"
        rules.write_text(_RULES)
    return load({key: str(value) for key, value in flags.items()}, {}, rules)


@contextlib.asynccontextmanager
async def running(
    folder: Path, *, prunes: bool = False, **settings: Any
) -> AsyncIterator[CoreInMemory]:
    """Run a core as the daemon would, on the database in `folder`."""
    configuration = configure_for(folder, prunes=prunes, **settings)
    extensions = configured_extensions(configuration)
    async with running_core(configuration=configuration, extensions=extensions) as core:
        yield core


class Writer:
    """The one client that writes: requests go out at once, answers come in order.

    `answers` counts those that are out, also before this end has read them.
    """

    def __init__(self, model: Model) -> None:
        self._model: Final = model
        self._peer: Peer | None = None
        self._tap: socket.socket | None = None
        self._read = 0
        self._sent = 0

    def connect(self, core: CoreInMemory) -> None:
        """Open a connection; nothing may wait on the last one."""
        self.close()
        self._peer = core.connect()
        assert isinstance(self._peer.stream, trio.SocketStream)
        fd = self._peer.stream.socket.fileno()
        self._tap = socket.fromfd(fd, socket.AF_UNIX, socket.SOCK_STREAM)

    def close(self) -> None:
        """Look at the connection no more."""
        if self._tap is not None:
            self._tap.close()
            self._tap = None

    def count_answers(self) -> int:
        """Return how many requests were answered up to now; from any thread."""
        read = self._read  # first: what is taken meanwhile must not be counted twice
        waiting = b""
        if self._tap is not None:
            with contextlib.suppress(BlockingIOError):
                waiting = self._tap.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return read + waiting.count(b"\n")

    async def send(self, requests: list[Request]) -> None:
        """Send requests, without waiting for answers."""
        assert self._peer is not None
        lines = []
        for request in requests:
            self._model.requests.append(request)
            method, params = request.as_call()
            self._sent += 1
            lines.append(make_request(method, self._sent, **params))
        await self._peer.send(*lines)

    async def receive_all(self) -> list[Any]:
        """Wait for the answers to all that was sent."""
        assert self._peer is not None
        answers = []
        while self._read < self._sent:
            answer = await self._peer.receive()
            assert answer is not None, "the connection was closed"
            self._read += 1
            assert answer["id"] == self._read, "answers are in order"
            answers.append(answer)
        return answers


def make_request_at_random(
    chance: random.Random, number: int, *, max_size: int = 1 << 20
) -> Request:
    """Return a request: mostly writes, of many sizes and times, some of new records."""
    if chance.random() < 0.04:
        return Delete(_name_at_random(chance, number))
    rows = 1 if chance.random() < 0.7 else chance.randint(2, 12)
    return Put([_row_at_random(chance, number, index, max_size) for index in range(rows)])


def _row_at_random(
    chance: random.Random, number: int, index: int, max_size: int
) -> tuple[str, Any, int]:
    size = min(max_size, chance.choice(_SIZES))
    value = f"{number}.{index}." + chance.choice("abcxyz") * size
    # Mostly forwards, a fifth late, a few at the same time as another.
    ts = _FIRST_TS + number * 10 - (chance.randint(0, 900) if chance.random() < 0.2 else 0)
    return _name_at_random(chance, number), value, ts


def _name_at_random(chance: random.Random, number: int) -> str:
    kind = chance.random()
    if kind < 0.1:
        return f"n.{number}"
    return f"r.{chance.randrange(2)}" if kind < 0.4 else f"w.{chance.randrange(6)}"


async def run_retention(core: Core) -> bool:
    """Have retention run over all that is there; return whether it ended without an error."""
    job = core.extensions.get(RetentionReporter)
    assert isinstance(job, Retention)
    for _ in range(2):  # the first may be one that was under way, over what was there then
        runs = job.statistics().runs
        job.request_run()
        while job.statistics().runs == runs:
            await trio.sleep(0.001)
    return job.statistics().last_error is None


async def checkpoint(core: Core) -> None:
    """Have the WAL folded into the file, and begun anew by the next commit."""
    backend = core.extensions.get(PersistenceBackend)
    assert isinstance(backend, SqliteBackend)
    assert backend._writer is not None
    await backend._writer.run(_fold_wal)


def _fold_wal(db: apsw.Connection) -> None:
    with contextlib.suppress(apsw.BusyError):
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)


async def read_all(peer: Peer) -> Found:
    """Ask a daemon for everything, in every way there is."""
    count = await _call(peer, "record.count")
    log = await read_pages(peer, "record.replay", after=0)
    history = await read_pages(peer, "record.query", limit=None)
    latest = await read_pages(peer, "record.query")
    hello = await _call(peer, "hello", client="faults")
    return Found(
        rev=hello["rev"],
        epoch=hello["epoch"],
        log=log,
        history=history,
        latest=latest,
        records=count["records"],
        rows=count["rows"],
    )


async def read_pages(peer: Peer, method: str, **params: Any) -> list[StoredRow]:
    """Return the rows of all pages of an answer.

    Raises:
        Refused: the daemon refuses one of them.
    """
    rows: list[StoredRow] = []
    while True:
        page = await _call(peer, method, **params)
        rows += [StoredRow(**row) for row in page["records"]]
        if "next" not in page:
            return rows
        params["after"] = page["next"]


class Refused(Exception):
    """The daemon answered with an error, with its reason."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.reason: Final[str] = error["data"]["reason"]


async def _call(peer: Peer, method: str, **params: Any) -> Any:
    await peer.send(make_request(method, 1, **params))
    answer = await peer.receive()
    if answer is None:
        raise ConnectionError("the connection was closed")
    if "error" in answer:
        raise Refused(answer["error"])
    return answer["result"]
