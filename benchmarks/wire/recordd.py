"""recordd: its requests as bytes, and daemons over data of every kind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.daemon import (
    daemon_command,
    daemon_environment,
    encode_request,
    find_port,
    run_until_left,
)
from benchmarks.wire.data import Row
from benchmarks.wire.plans import Request, Setup
from benchmarks.wire.sites import Site

__all__ = [
    "SUBSCRIBE",
    "encode_frame",
    "encode_load",
    "get",
    "query",
    "running_recordd",
    "set_value",
    "upgrade",
    "websocket_site",
]

_ROWS_PER_REQUEST: Final = 1000
_SETTINGS: Final = {"max_connections": "1200", "max_connections_per_address": "1200"}
SUBSCRIBE: Final = Request(encode_request("record.subscribe", name="#", snapshot=False))


def get(name: str) -> Request:
    """Ask for the latest value of one record."""
    return Request(encode_request("record.get", name=name))


def set_value(name: str, value: bytes, *, counted: bool = True) -> Request:
    """Write one value, at the daemon's time."""
    return Request(encode_request("record.set", name=name, value=msgspec.Raw(value)), 1, counted)


def query(name: str, **params: Any) -> Request:
    """Ask for latest values or history."""
    return Request(encode_request("record.query", name=name, **params))


def encode_load(rows: Iterable[Row]) -> list[Request]:
    """Return the requests that write the rows, 1,000 at a time."""
    left = iter(rows)
    requests = []
    while some := list(islice(left, _ROWS_PER_REQUEST)):
        requests.append(_encode_many(some))
    return requests


def _encode_many(rows: Sequence[Row]) -> Request:
    records = b",".join(
        b'{"name":"%b","ts":%d,"value":%b}' % (name.encode(), ts, value) for name, ts, value in rows
    )
    line = b'{"jsonrpc":"2.0","id":1,"method":"record.set_many","params":{"records":[%b]}}\n'
    return Request(line % records)


def encode_frame(request: Request) -> Request:
    """Return the request as a text frame, RFC 6455 §5.2, masked with zeros."""
    message = request.line.rstrip(b"\n")
    length = len(message)
    if length < 126:
        head = bytes((0x81, 0x80 | length))
    elif length < 1 << 16:
        head = b"\x81\xfe" + length.to_bytes(2, "big")
    else:
        head = b"\x81\xff" + length.to_bytes(8, "big")
    return Request(head + bytes(4) + message, request.answers, request.counted)


def upgrade(port: int) -> Setup:
    """Return the opening of a WebSocket."""
    head = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    )
    return Setup(head.encode(), 1)


def websocket_site(port: int, pid: int = 0) -> Site:
    """Return the site of a WebSocket server on 127.0.0.1."""
    address = f"tcp:127.0.0.1:{port}"
    return Site(address=address, protocol="ws", setup=upgrade(port), pid=pid)


@contextlib.contextmanager
def running_recordd(folder: Path, program: Sequence[str]) -> Iterator[tuple[Site, Site]]:
    """Run a daemon on `folder`; give its Unix socket and its WebSocket."""
    folder.mkdir(exist_ok=True)
    path = str(folder / "s")
    command = daemon_command(folder, program)
    environment = daemon_environment(listen="127.0.0.1:0", **_SETTINGS)
    with run_until_left(command, path, environment) as pid:
        unix = Site(address=f"unix:{path}", protocol="lines", pid=pid)
        yield unix, websocket_site(find_port(path), pid)
