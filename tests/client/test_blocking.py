"""The blocking client against servers that do what a daemon seldom does."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import wsproto
from wsproto import events

from recordd_client import (
    ConnectionFailed,
    ConnectionLost,
    Expired,
    InvalidValue,
    Overloaded,
    connect,
    open_client,
)
from tests.client.servers import Server, answer_to

WRITTEN = {"rev": 1, "ts": 2}


def answer_with_farewell(connection: socket.socket) -> None:
    """Take a WebSocket and one request; answer and close in one segment."""
    ws = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    while data := connection.recv(65_536):
        ws.receive_data(data)
        for event in ws.events():
            if isinstance(event, events.Request):
                connection.sendall(ws.send(events.AcceptConnection()))
            elif isinstance(event, events.TextMessage):
                answer = ws.send(events.TextMessage(data=answer_to(event.data, result=WRITTEN)))
                connection.sendall(answer + ws.send(events.CloseConnection(code=1001)))


def test_an_answer_that_comes_with_the_farewell_is_taken(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(answer_with_farewell, tcp=True)
    with connect(f"ws://127.0.0.1:{server.port}/ws") as db:
        assert db.set("a", 1).rev == 1
        assert db.set("a", 2).rev == 1, "over a connection of its own"
    assert server.connections == 2


async def test_an_answer_that_comes_with_the_farewell_is_taken_on_trio_too(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(answer_with_farewell, tcp=True)
    async with open_client(f"ws://127.0.0.1:{server.port}/ws") as db:
        assert (await db.set("a", 1)).rev == 1
        assert (await db.set("a", 2)).rev == 1, "over a connection of its own"
    assert server.connections == 2


def refuse_at_once(connection: socket.socket) -> None:
    """Say, without having read anything, that there are too many connections."""
    error = {"code": -32006, "message": "900 connections are open"}
    refusal = {"jsonrpc": "2.0", "id": None, "error": error}
    connection.sendall(json.dumps(refusal).encode() + b"\n")
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65_536):
        pass


def test_a_refused_connection_is_said_to_each_call(
    start_server: Callable[..., Server], short_path: Path
) -> None:
    start_server(refuse_at_once)
    with connect(f"unix://{short_path}/s") as db:
        for _ in range(2):
            with pytest.raises(Overloaded, match="900"):
                db.set("a", 1)


async def test_a_refused_connection_is_said_to_every_call_on_trio(
    start_server: Callable[..., Server], short_path: Path
) -> None:
    start_server(refuse_at_once)
    refused: list[str] = []
    async with open_client(f"unix://{short_path}/s") as db:

        async def write(n: int) -> None:
            try:
                await db.set("a", n)
            except Overloaded as error:
                refused.append(str(error))

        async with trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(write, n)
    assert refused == ["900 connections are open"] * 3


async def test_a_call_that_cannot_be_encoded_leaves_nothing_behind(
    start_server: Callable[..., Server], short_path: Path
) -> None:
    def serve(connection: socket.socket) -> None:
        for line in connection.makefile():
            connection.sendall(answer_to(line, result=WRITTEN).encode() + b"\n")

    start_server(serve)
    async with open_client(f"unix://{short_path}/s") as db:
        with pytest.raises(InvalidValue):
            await db.set("a\udcff", 1)
        assert db._connection._link.pending == {}
        assert (await db.set("a", 1)).rev == 1


class Pages:
    """Serves a query of two pages, whose second expires for so many times."""

    def __init__(self, expiries: int) -> None:
        self.expiries = expiries

    def __call__(self, connection: socket.socket) -> None:
        for line in connection.makefile():
            connection.sendall(self._answer(line).encode() + b"\n")

    def _answer(self, line: str) -> str:
        request = json.loads(line)
        if request["method"] == "record.count":
            return answer_to(line, result={"records": 2, "rows": 2})
        page = {"rev": 2, "epoch": "e"}
        if "after" not in request["params"]:
            row = {"name": "a", "value": 1, "ts": 1, "rev": 1}
            return answer_to(line, result={**page, "records": [row], "next": "n"})
        if self.expiries:
            self.expiries -= 1
            error = {"code": -32011, "message": "rows behind the page are gone"}
            return answer_to(line, error=error)
        row = {"name": "b", "value": 2, "ts": 2, "rev": 2}
        return answer_to(line, result={**page, "records": [row]})


@pytest.mark.parametrize("expiries", [0, 1, 2])
async def test_pages_that_expire_are_asked_for_anew(
    start_server: Callable[..., Server], short_path: Path, expiries: int
) -> None:
    serve = Pages(expiries)
    start_server(serve)
    with connect(f"unix://{short_path}/s") as db:
        assert [row.name for row in db.query_latest().rows] == ["a", "b"]
    serve.expiries = expiries
    async with open_client(f"unix://{short_path}/s") as async_db:
        page = await async_db.query_range("#", 0, None)
        assert [row.name for row in page.rows] == ["a", "b"]


def test_pages_that_go_on_expiring_are_an_error(
    start_server: Callable[..., Server], short_path: Path
) -> None:
    start_server(Pages(99))
    with connect(f"unix://{short_path}/s") as db, pytest.raises(Expired, match="behind the page"):
        db.query_latest()


def test_an_export_never_ends_short_in_silence(
    start_server: Callable[..., Server], short_path: Path
) -> None:
    start_server(Pages(1))
    code = "import sys; from recordd_client.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--connect", f"unix://{short_path}/s", "export"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith(
        "rows behind the page are gone; what was exported is not whole: export again\n"
    )


def garbage(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 nonsense\r\n\r\n")


def test_what_is_no_websocket_is_one_clear_error(start_server: Callable[..., Server]) -> None:
    server = start_server(garbage, tcp=True)
    with pytest.raises(ConnectionFailed), connect(f"ws://127.0.0.1:{server.port}/ws"):
        pass


@pytest.mark.parametrize("url", ["unix:///a\0b", "ws://" + "ä" * 300, "ws://127.0.0.1:1/a b"])
def test_an_address_that_none_can_be_is_one_clear_error(url: str) -> None:
    with pytest.raises(ConnectionFailed), connect(url):
        pass

    async def connect_async() -> None:
        async with open_client(url):
            pass

    with pytest.raises(ConnectionFailed):
        trio.run(connect_async)


@pytest.mark.parametrize("timeout_s", [-1, 0, float("nan")])
def test_a_timeout_is_a_positive_number(timeout_s: float) -> None:
    with pytest.raises(InvalidValue, match="timeout_s"), connect("unix:///x", timeout_s=timeout_s):
        pass

    async def connect_async() -> None:
        async with open_client("unix:///x", timeout_s=timeout_s):
            pass

    with pytest.raises(InvalidValue, match="timeout_s"):
        trio.run(connect_async)


@pytest.mark.parametrize("timeout_s", [1e300, float("inf")])
def test_a_timeout_may_be_endless(
    start_server: Callable[..., Server], short_path: Path, timeout_s: float
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


def test_a_full_queue_is_waited_for(full_queue: socket.socket, short_path: Path) -> None:
    answering = threading.Timer(0.05, answer_last, [full_queue])
    answering.start()
    with connect(f"unix://{short_path}/s") as db:
        assert db.set("a", 1).rev == 1
    answering.join()


async def test_a_full_queue_is_waited_for_on_trio(
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
