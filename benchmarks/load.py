"""Load generators: raw sockets, answers counted by their newlines and not read.

They run in processes of their own (see `Generator`), so that they share no interpreter
lock with anything, and send bytes that were made before the clock starts.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final, ParamSpec, TypeVar

__all__ = [
    "Generator",
    "Load",
    "open_generator",
    "repeat_burst",
    "repeat_bursts",
    "stream_requests",
    "time_exchanges",
]

P = ParamSpec("P")
T = TypeVar("T")

_BUFFER_BYTES: Final = 1 << 18
_ANSWER_TIMEOUT_S: Final = 60
_ANSWER_TIMEOUT: Final = struct.pack("ll", _ANSWER_TIMEOUT_S, 0)  # a struct timeval

Load = tuple[int, float]
"""How many requests were answered, in how many seconds."""


class Generator:
    """A process that runs one function of this module at a time."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool: Final = pool

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` over there and return what it returns."""
        return self._pool.submit(function, *args, **kwargs).result()


@contextlib.contextmanager
def open_generator() -> Iterator[Generator]:
    """Start the process; it ends with the block."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning) as pool:
        yield Generator(pool)


def time_exchanges(path: str, requests: Sequence[bytes], lines: int) -> list[float]:
    """Send each request once the one before is answered; return the seconds of each.

    An answer is whole when `lines` newlines have come.
    """
    seconds = []
    with _Client(path) as client:
        for request in requests:
            started = time.perf_counter()
            client.send(request)
            client.wait_lines(lines)
            seconds.append(time.perf_counter() - started)
    return seconds


def repeat_burst(path: str, burst: bytes, lines: int, seconds: float) -> Load:
    """Send `burst`, of `lines` requests, again and again, each when the last is answered."""
    bursts = 0
    with _Client(path) as client:
        started = now = time.perf_counter()
        while now - started < seconds:
            client.send(burst)
            client.wait_lines(lines)
            bursts += 1
            now = time.perf_counter()
    return bursts * lines, now - started


def repeat_bursts(path: str, bursts: Sequence[bytes], lines: int, seconds: float) -> Load:
    """Do as `repeat_burst` with one client for each of `bursts`, all at the same time."""
    answered = 0
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_Client(path, burst)) for burst in bursts]
        selector = stack.enter_context(selectors.DefaultSelector())
        started = time.perf_counter()
        for client in clients:
            selector.register(client.sock, selectors.EVENT_READ, client)
            client.send_burst(lines)
        while selector.get_map():
            for client in _wait_answered(selector):
                answered += lines
                if time.perf_counter() - started < seconds:
                    client.send_burst(lines)
                else:
                    selector.unregister(client.sock)
        return answered, time.perf_counter() - started


def stream_requests(path: str, requests: Sequence[bytes], in_flight: int) -> float:
    """Send all requests, `in_flight` unanswered at most; return the seconds it took."""
    with _Client(path) as client:
        started = time.perf_counter()
        for request in requests[:in_flight]:
            client.send(request)
        for request in requests[in_flight:]:
            client.wait_lines(1)
            client.send(request)
        client.wait_lines(min(in_flight, len(requests)))
        return time.perf_counter() - started


def _wait_answered(selector: selectors.BaseSelector) -> list[_Client]:
    """Wait for answers; return the clients whose last one has come."""
    ready = selector.select(_ANSWER_TIMEOUT_S)
    if not ready:
        raise TimeoutError(f"no answer for {_ANSWER_TIMEOUT_S} s")
    return [key.data for key, _ in ready if key.data.take_lines()]


class _Client:
    """One connection that counts the lines it is sent."""

    def __init__(self, path: str, burst: bytes = b"") -> None:
        self.sock: Final = socket.socket(socket.AF_UNIX)
        # Not settimeout: that costs a poll before every call.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _ANSWER_TIMEOUT)
        self.sock.connect(path)
        self.send: Final = self.sock.sendall
        self._burst: Final = burst
        self._buffer: Final = bytearray(_BUFFER_BYTES)
        self._awaited = 0

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def wait_lines(self, lines: int) -> None:
        """Wait for as many lines more; one that came early counts for the next time."""
        self._awaited += lines
        while not self.take_lines():
            pass

    def send_burst(self, lines: int) -> None:
        """Send the burst and await `lines` lines."""
        self._awaited += lines
        self.send(self._burst)

    def take_lines(self) -> bool:
        """Receive once; return whether every line awaited has come."""
        if self._awaited > 0:
            received = self.sock.recv_into(self._buffer)
            if not received:
                raise ConnectionError("the server closed the connection")
            self._awaited -= self._buffer.count(b"\n", 0, received)
        return self._awaited <= 0
