"""Many subscribers in one process: raw sockets, events counted by a marker and not read.

Run by a `Generator`, as the functions of `benchmarks.load` are.
"""

from __future__ import annotations

import base64
import contextlib
import os
import resource
import select
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.load import Load

__all__ = ["Address", "deliver_bursts", "time_writes_beside_stuck"]

Address = str | tuple[str, int]
"""A Unix socket's path, or host and port of a WebSocket at `/ws`."""

_MARKER: Final = b'"ts":'
_TIMEOUT_S: Final = 60.0
_BUFFER_BYTES: Final = 1 << 18


class _Subscribers:
    """Connections that have each sent one request, and how many markers they received."""

    def __init__(self, address: Address, request: bytes, count: int) -> None:
        """Connect and send `request`, in which `%d`, if there, becomes each one's number."""
        _allow_files(count + 100)
        self._socks: Final = {}
        self._epoll: Final = select.epoll()
        self._buffer: Final = bytearray(_BUFFER_BYTES)
        self._tails: Final[dict[int, bytes]] = {}
        for number in range(count):
            sock = _connect(address)
            own = request.replace(b"%d", b"%d" % number)
            sock.sendall(own if isinstance(address, str) else _frame(own))
            self._socks[sock.fileno()] = sock
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def close(self) -> None:
        for sock in self._socks.values():
            sock.close()

    def wait_first_bytes(self) -> None:
        """Wait for the first bytes on every connection, and drop them."""
        waiting = set(self._socks)
        while waiting:
            for fd in self._poll():
                self._socks[fd].recv_into(self._buffer)
                waiting.discard(fd)

    def wait_events(self, events: int) -> None:
        """Wait until so many events have come, on all connections together."""
        while events > 0:
            for fd in self._poll():
                received = self._socks[fd].recv_into(self._buffer)
                if not received:
                    raise ConnectionError("the daemon closed a subscriber's connection")
                events -= self._count(fd, received)

    def _count(self, fd: int, received: int) -> int:
        """Count markers, one that is cut in two included."""
        buffer = self._buffer
        cut = self._tails.get(fd, b"")
        count = buffer.count(_MARKER, 0, received)
        if cut:
            count += (cut + bytes(buffer[: len(_MARKER) - 1])).count(_MARKER)
        end = bytes(buffer[max(0, received - len(_MARKER) + 1) : received])
        self._tails[fd] = end if any(end.endswith(_MARKER[:n]) for n in range(1, 5)) else b""
        return count

    def _poll(self) -> list[int]:
        ready = self._epoll.poll(_TIMEOUT_S)
        if not ready:
            raise TimeoutError(f"no event for {_TIMEOUT_S:g} s")
        return [fd for fd, _ in ready]


def deliver_bursts(
    address: Address,
    path: str,
    subscribe: bytes,
    burst: bytes,
    updates: int,
    subscribers: int,
    seconds: float,
) -> Load:
    """Write bursts of so many updates, each when all subscribers have had the last one.

    Returns how many updates were delivered, in how many seconds.
    """
    delivered = 0
    with (
        _subscribed(address, subscribe, subscribers) as group,
        socket.socket(socket.AF_UNIX) as writer,
    ):
        writer.connect(path)
        group.wait_first_bytes()
        started = now = time.perf_counter()
        while now - started < seconds:
            writer.sendall(burst)
            group.wait_events(updates * subscribers)
            _wait_lines(writer, updates)
            delivered += updates * subscribers
            now = time.perf_counter()
    return delivered, now - started


def time_writes_beside_stuck(
    path: str, subscribe: bytes, writes: Sequence[bytes], subscribers: int, pid: int
) -> tuple[list[float], int]:
    """Time each write while so many subscribers read nothing at all.

    Returns the seconds of each, and by how many bytes the process `pid` has grown.
    """
    with (
        _subscribed(path, subscribe, subscribers) as group,
        socket.socket(socket.AF_UNIX) as writer,
    ):
        writer.connect(path)
        group.wait_first_bytes()
        before = _resident_bytes(pid)
        seconds = []
        for write in writes:
            started = time.perf_counter()
            writer.sendall(write)
            _wait_lines(writer, 1)
            seconds.append(time.perf_counter() - started)
        return seconds, _resident_bytes(pid) - before


@contextlib.contextmanager
def _subscribed(address: Address, subscribe: bytes, count: int) -> Iterator[_Subscribers]:
    group = _Subscribers(address, subscribe, count)
    try:
        yield group
    finally:
        group.close()


def _connect(address: Address) -> socket.socket:
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
        return sock
    host, port = address
    sock = socket.create_connection(address)
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        (
            f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(4096)
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise ConnectionError(head.decode(errors="replace"))
    return sock


def _frame(message: bytes) -> bytes:
    """Return a short text frame, RFC 6455 §5.2, masked with zeros."""
    if len(message) > 125:
        return b"\x81\xfe" + len(message).to_bytes(2, "big") + bytes(4) + message
    return bytes((0x81, 0x80 | len(message))) + bytes(4) + message


def _wait_lines(sock: socket.socket, lines: int) -> None:
    while lines > 0:
        lines -= sock.recv(_BUFFER_BYTES).count(b"\n")


def _resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
