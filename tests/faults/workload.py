"""A random workload on a daemon's core over a real file, and the reading of all of it after."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import apsw
import trio

from recordd.backend import PersistenceBackend
from recordd.daemon import configured_extensions
from recordd.extension_points import RetentionReporter
from recordd.persistence.retention import Retention
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.settings import load
from tests.core_in_memory import CoreInMemory, Peer, running_core
from tests.faults.model import Delete, Found, Model, Put, Request, StoredRow
from tests.wire import request as make_request

__all__ = ["DATABASE", "MARK", "Writer", "make_request_at_random", "read_all", "running", "settle"]

DATABASE: Final = "a.db"
MARK: Final = f"{DATABASE}-mark"
MAX_ROWS: Final = 20
_RULES: Final = f'[[record]]\nname = "r.#"\nmax_rows = {MAX_ROWS}\n'
_FIRST_TS: Final = 1_700_000_000_000
_SIZES: Final = (1, 10, 40, 300, 1000, 4000, 12_000)


@contextlib.asynccontextmanager
async def running(
    folder: Path, *, prunes: bool = False, **settings: Any
) -> AsyncIterator[CoreInMemory]:
    """Run a core as the daemon would, on the database in `folder`.

    With `prunes` there is a rule for `max_rows`, which the model knows.
    """
    flags = {"retention": "off", "tail_rows": 40, "readers": 1, **settings}
    flags["database"] = folder / DATABASE
    rules = None
    if prunes:
        rules = folder / "recordd.toml"
        rules.write_text(_RULES)
    configuration = load({key: str(value) for key, value in flags.items()}, {}, rules)
    extensions = configured_extensions(configuration.settings)
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


def make_request_at_random(chance: random.Random, number: int) -> Request:
    """Return a request: mostly writes, of many sizes and times, some of new records."""
    if chance.random() < 0.04:
        return Delete(_name_at_random(chance, number))
    rows = 1 if chance.random() < 0.7 else chance.randint(2, 12)
    return Put([_row_at_random(chance, number, index) for index in range(rows)])


def _row_at_random(chance: random.Random, number: int, index: int) -> tuple[str, Any, int]:
    size = chance.choice(_SIZES)
    value = f"{number}.{index}." + chance.choice("abcxyz") * size
    # Mostly forwards, a fifth late, a few at the same time as another.
    ts = _FIRST_TS + number * 10 - (chance.randint(0, 900) if chance.random() < 0.2 else 0)
    return _name_at_random(chance, number), value, ts


def _name_at_random(chance: random.Random, number: int) -> str:
    kind = chance.random()
    if kind < 0.1:
        return f"n.{number}"
    return f"r.{chance.randrange(2)}" if kind < 0.4 else f"w.{chance.randrange(6)}"


async def settle(core: CoreInMemory, *, retention: bool, checkpoint: bool) -> None:
    """Have retention run to its end, or the WAL folded into the file."""
    if retention:
        job = core.core.extensions.get(RetentionReporter)
        assert isinstance(job, Retention)
        runs = job.statistics().runs
        job.request_run()
        while job.statistics().runs == runs:
            await trio.sleep(0.001)
    if checkpoint:
        backend = core.core.extensions.get(PersistenceBackend)
        assert isinstance(backend, SqliteBackend)
        assert backend._writer is not None
        await backend._writer.run(_fold_wal)


def _fold_wal(db: apsw.Connection) -> None:
    with contextlib.suppress(apsw.BusyError):
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)


async def read_all(peer: Peer) -> Found:
    """Ask a daemon for everything, in every way there is."""
    count = await _call(peer, "record.count")
    log = await _read_pages(peer, "record.replay", after=0)
    history = await _read_pages(peer, "record.query", limit=None)
    latest = await _read_pages(peer, "record.query")
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


async def _read_pages(peer: Peer, method: str, **params: Any) -> list[StoredRow]:
    rows: list[StoredRow] = []
    while True:
        page = await _call(peer, method, **params)
        rows += [StoredRow(**row) for row in page["records"]]
        if "next" not in page:
            return rows
        params["after"] = page["next"]


class Refused(Exception):
    """The daemon answered with an error; the message is the daemon's."""


async def _call(peer: Peer, method: str, **params: Any) -> Any:
    answer = await peer.call(method, **params)
    if isinstance(answer, dict) and "error" in answer:
        raise Refused(json.dumps(answer["error"]))
    return answer
