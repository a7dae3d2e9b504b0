"""What the daemon is measured against: bare servers, bare SQLite, AimDB's table, Redis."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import apsw
import trio

from benchmarks.daemon import run_until_left
from benchmarks.observations import make_rows

__all__ = [
    "BareRow",
    "build_aimdb_table",
    "insert_bare",
    "query_aimdb_table",
    "running_bare_fanout",
    "running_echo_server",
    "running_redis",
]

BareRow = tuple[int, int, int, str]
"""rev, record id, `ts`, value."""

_BARE: Final = """
    CREATE TABLE log (
        rev INTEGER PRIMARY KEY, record INTEGER NOT NULL, ts INTEGER NOT NULL, value TEXT NOT NULL
    )
"""

# AimDB's persistence keeps the name in every row, and ranks rows when it is asked.
_AIMDB_TABLE: Final = """
    CREATE TABLE history (
        id INTEGER PRIMARY KEY, record_name TEXT NOT NULL, value TEXT NOT NULL,
        stored_at INTEGER NOT NULL
    )
"""
_AIMDB_INDEX: Final = "CREATE INDEX by_record_and_time ON history (record_name, stored_at DESC)"
_AIMDB_QUERY: Final = """
    SELECT record_name, value, stored_at FROM (
        SELECT record_name, value, stored_at, ROW_NUMBER() OVER (
            PARTITION BY record_name ORDER BY stored_at DESC, id DESC
        ) AS rn
        FROM history WHERE record_name LIKE ?
    ) WHERE rn <= 1
"""


def insert_bare(database: Path, rows: Sequence[BareRow], rows_each: int) -> float:
    """Insert into a table without any index, committed as recordd does; return the seconds."""
    db = apsw.Connection(str(database))
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "full")
    db.execute(_BARE)
    started = time.perf_counter()
    for start in range(0, len(rows), rows_each):
        with db:
            db.executemany("INSERT INTO log VALUES (?,?,?,?)", rows[start : start + rows_each])
    seconds = time.perf_counter() - started
    db.close()
    database.unlink()
    return seconds


def build_aimdb_table(database: Path, records: int, rows_each: int) -> None:
    """Fill a table in AimDB's layout with the rows that `preload` writes."""
    db = apsw.Connection(str(database))
    db.pragma("journal_mode", "off")
    db.pragma("synchronous", "off")
    with db:
        db.execute(_AIMDB_TABLE)
        db.executemany(
            "INSERT INTO history (record_name, value, stored_at) VALUES (?,?,?)",
            ((name, value.decode(), ts) for name, value, ts in make_rows(records, rows_each)),
        )
        db.execute(_AIMDB_INDEX)
    db.pragma("journal_mode", "wal")
    db.close()


def query_aimdb_table(database: Path, repetitions: int) -> list[float]:
    """Ask for the latest row of every record in AimDB's way; return the seconds of each time."""
    db = apsw.Connection(str(database))
    seconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        db.execute(_AIMDB_QUERY, ("%",)).fetchall()
        seconds.append(time.perf_counter() - started)
    db.close()
    return seconds


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[str | None]:
    """Run Redis on a Unix socket, nothing saved; give its path, or None if not installed."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    path = str(folder / "redis")
    command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", str(folder)]
    with run_until_left(command, path):
        yield path


@contextlib.contextmanager
def running_echo_server(folder: Path) -> Iterator[str]:
    """Run the least that a Trio server can do; give its socket's path."""
    path = str(folder / "echo")
    with run_until_left([sys.executable, "-m", "benchmarks.peers", "echo", path], path):
        yield path


@contextlib.contextmanager
def running_bare_fanout(folder: Path) -> Iterator[str]:
    """Run the least that a Trio server can do for many subscribers; give its socket's path.

    It answers each request with a line, and then gives a burst of requests, as it came,
    to every other connection.
    """
    path = str(folder / "fanout")
    with run_until_left([sys.executable, "-m", "benchmarks.peers", "fanout", path], path):
        yield path


async def _serve(path: str, handler: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
    sock = trio.socket.socket(socket.AF_UNIX)
    await sock.bind(path)
    sock.listen(128)
    await trio.serve_listeners(handler, [trio.SocketListener(sock)])


class _Fanout:
    def __init__(self) -> None:
        self._socks: dict[int, trio.SocketStream] = {}

    async def serve(self, stream: trio.SocketStream) -> None:
        fd = stream.socket.fileno()
        self._socks[fd] = stream
        while data := await stream.receive_some(1 << 20):
            if b'"record.set"' in data:
                message = data.replace(b'"id":', b'"ts":')
                for other in self._socks:
                    if other != fd:
                        os.write(other, message)
            await stream.send_all(b"{}\n" * data.count(b"\n"))
        del self._socks[fd]


async def _echo(stream: trio.SocketStream) -> None:
    while data := await stream.receive_some(65_536):
        await stream.send_all(data)


if __name__ == "__main__":
    kind, path = sys.argv[1:]
    trio.run(_serve, path, _echo if kind == "echo" else _Fanout().serve)
