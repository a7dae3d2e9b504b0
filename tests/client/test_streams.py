"""The streams of both clients: sockets that are full, silent, or no WebSocket at all."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from recordd_client import (
    ConnectionFailed,
    ConnectionLost,
    connect,
    open_client,
)
from tests.client.servers import (
    WRITTEN,
    StartServer,
    answer_to,
)


def garbage(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 nonsense\r\n\r\n")


def test_a_port_without_a_websocket_is_one_clear_error(start_server: StartServer) -> None:
    server = start_server(garbage, tcp=True)
    with pytest.raises(ConnectionFailed), connect(f"ws://127.0.0.1:{server.port}/ws"):
        pass


@pytest.mark.parametrize("timeout_s", [1e300, float("inf")])
def test_a_timeout_may_be_endless(
    start_server: StartServer, short_path: Path, timeout_s: float
) -> None:
    start_server(lambda connection: None)
    with (
        pytest.raises(ConnectionLost),
        connect(f"unix://{short_path}/s", timeout_s=timeout_s) as db,
    ):
        db.get("a")


@pytest.fixture
def full_queue(short_path: Path) -> Iterator[socket.socket]:
    """A Unix socket `s` whose queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(short_path / "s"))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(short_path / "s"))
        yield listener


def answer_last(listener: socket.socket) -> None:
    """Take everybody out of the queue, and answer who sends something."""
    listener.settimeout(10)
    request = ""
    while not request:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                request = connection.recv(65_536).decode()
                connection.sendall(answer_to(request, result=WRITTEN).encode() + b"\n")


def test_the_client_waits_for_a_place_in_a_full_queue(
    full_queue: socket.socket, short_path: Path
) -> None:
    answering = threading.Timer(0.05, answer_last, [full_queue])
    answering.start()
    with connect(f"unix://{short_path}/s") as db:
        assert db.set("a", 1).rev == 1
    answering.join()


async def test_the_trio_client_waits_for_a_place_in_a_full_queue(
    full_queue: socket.socket, short_path: Path
) -> None:
    answering = threading.Timer(0.05, answer_last, [full_queue])
    answering.start()
    async with open_client(f"unix://{short_path}/s") as db:
        assert (await db.set("a", 1)).rev == 1
    answering.join()


def test_a_queue_that_stays_full_is_no_answer(full_queue: socket.socket, short_path: Path) -> None:
    url = f"unix://{short_path}/s"
    with pytest.raises(ConnectionFailed, match="no answer"), connect(url, timeout_s=0.05):
        pass
