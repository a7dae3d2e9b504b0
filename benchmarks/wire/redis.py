"""Redis: a stream for the history of each record, and a hash of the latest values."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.daemon import run_until_left
from benchmarks.wire.data import Row
from benchmarks.wire.plans import Request
from benchmarks.wire.sites import Site

__all__ = [
    "SUBSCRIBE",
    "commit_always",
    "encode_history",
    "encode_latest",
    "get",
    "hgetall",
    "last",
    "publish",
    "running_redis",
    "time_range",
    "write",
]

_CHANNEL: Final = "records"


def _encode(*words: str | bytes) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        text = word.encode() if isinstance(word, str) else word
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)


SUBSCRIBE: Final = Request(_encode("SUBSCRIBE", _CHANNEL))


def get(key: str, name: str) -> Request:
    """Ask for the latest value of one record."""
    return Request(_encode("HGET", f"latest:{key}", name))


def hgetall(key: str) -> Request:
    """Ask for the latest values of all records."""
    return Request(_encode("HGETALL", f"latest:{key}"))


def last(key: str, name: str, count: int) -> Request:
    """Ask for the newest values of one record."""
    return Request(_encode("XREVRANGE", f"{key}:{name}", "+", "-", "COUNT", str(count)))


def time_range(key: str, name: str, start: int, end: int) -> Request:
    """Ask for the values of one record between two times."""
    return Request(_encode("XRANGE", f"{key}:{name}", str(start), str(end)))


def write(key: str, row: Row, *, counted: bool = True) -> Request:
    """Write a value to the history and as the latest: two answers."""
    name, ts, value = row
    line = _encode("XADD", f"{key}:{name}", "*", "v", value)
    return Request(line + _encode("HSET", f"latest:{key}", name, _latest(ts, value)), 2, counted)


def publish(payload: bytes) -> Request:
    """Give a message to all subscribers."""
    return Request(_encode("PUBLISH", _CHANNEL, payload))


def encode_history(key: str, rows: Iterable[Row]) -> list[Request]:
    """Return the writes of the rows to their streams, at their own times."""
    return [
        Request(_encode("XADD", f"{key}:{name}", f"{ts}-0", "v", value)) for name, ts, value in rows
    ]


def encode_latest(key: str, rows: Iterable[Row]) -> list[Request]:
    """Return the writes of the rows to the hash of latest values."""
    return [
        Request(_encode("HSET", f"latest:{key}", name, _latest(ts, value)))
        for name, ts, value in rows
    ]


def commit_always() -> Request:
    """Make every later write reach the disk before its answer."""
    return Request(_encode("CONFIG", "SET", "appendfsync", "always"))


def _latest(ts: int, value: bytes) -> bytes:
    return b'{"value":%b,"ts":%d,"rev":1000000}' % (value, ts)


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[Site]:
    """Run Redis on a Unix socket, with its append-only file and nothing else saved.

    Raises:
        FileNotFoundError: it is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError("redis-server")
    folder.mkdir()
    path = str(folder / "s")
    command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", str(folder)]
    command += ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]
    with run_until_left(command, path) as pid:
        yield Site(address=f"unix:{path}", protocol="resp", pid=pid)
