"""The connections of both clients: calls given up, late, cut off, refused or interrupted.

None of them harms the calls behind it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import wsproto
from wsproto import events

from recordd_client import (
    AsyncClient,
    CallTimeout,
    Client,
    ConnectionLost,
    InvalidValue,
    Overloaded,
    TooLarge,
    connect,
    open_client,
)
from tests.client.servers import (
    WELCOME,
    WRITTEN,
    StartServer,
    answer_to,
    interrupted_when,
    send,
)


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
    start_server: StartServer,
) -> None:
    server = start_server(answer_with_farewell, tcp=True)
    with connect(f"ws://127.0.0.1:{server.port}/ws") as db:
        assert db.set("a", 1).rev == 1
        assert db.set("a", 2).rev == 1, "over a connection of its own"
    assert server.connections == 2


async def test_an_answer_that_comes_with_the_farewell_is_taken_on_trio_too(
    start_server: StartServer,
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
    start_server: StartServer, short_path: Path
) -> None:
    start_server(refuse_at_once)
    with connect(f"unix://{short_path}/s") as db:
        for _ in range(2):
            with pytest.raises(Overloaded, match="900"):
                db.set("a", 1)


async def test_a_refused_connection_is_said_to_every_call_on_trio(
    start_server: StartServer, short_path: Path
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
    start_server: StartServer, short_path: Path
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


LARGE = "x" * 1_000_000


def written(line: str, rev: int) -> str:
    return answer_to(line, result={"rev": rev, "ts": 2})


@contextlib.contextmanager
def timeout_of(db: Client | AsyncClient, timeout_s: float) -> Iterator[None]:
    """Have calls wait for a moment only; those before and after have time on any machine."""
    connection: Any = db._connection
    was, connection._timeout_s = connection._timeout_s, timeout_s
    yield
    connection._timeout_s = was


@pytest.mark.parametrize("late", ["result", "error"])
def test_a_late_answer_is_not_taken_for_the_next_calls(
    start_server: StartServer, short_path: Path, late: str
) -> None:
    def serve(connection: socket.socket) -> None:
        lines = connection.makefile()
        first, second = lines.readline(), lines.readline()
        error = {"code": -32006, "message": "late"}
        was = written(first, 1) if late == "result" else answer_to(first, error=error)
        send(connection, was, written(second, 2))

    start_server(serve)
    with connect(f"unix://{short_path}/s") as db:
        with timeout_of(db, 0.1), pytest.raises(CallTimeout):
            db.set("a", 1)
        assert db.set("a", 2).rev == 2


class Deaf:
    """Takes nothing behind `hello` on its first connection; answers all on those after it."""

    def __init__(self, limits: tuple[int, int] = (4 << 20, 4 << 20)) -> None:
        self.is_over = threading.Event()
        self.has_begun = threading.Event()
        """Whether something comes behind the first message."""
        self.taken: list[str] = []
        self._limits = list(limits)

    def __call__(self, connection: socket.socket) -> None:
        is_first = not self.taken
        limit = self._limits.pop(0) if self._limits else 0
        for line in connection.makefile():
            method = json.loads(line)["method"]
            self.taken.append(method)
            if method == "hello":
                send(connection, answer_to(line, result=WELCOME | {"max_message_bytes": limit}))
            else:
                send(connection, written(line, 1))
            if is_first:
                connection.recv(1, socket.MSG_PEEK)
                self.has_begun.set()
                self.is_over.wait(10)
                return


@pytest.mark.parametrize("how", ["timeout", "Ctrl-C"])
def test_the_call_behind_half_a_request_takes_another_connection(
    start_server: StartServer, short_path: Path, how: str
) -> None:
    start_server(deaf := Deaf())
    with connect(f"unix://{short_path}/s") as db, contextlib.ExitStack() as stack:
        db._connection._learn_max_message_bytes()
        if how == "timeout":
            stack.enter_context(timeout_of(db, 0.1))
        with (
            interrupted_when(deaf.has_begun)
            if how == "Ctrl-C"
            else pytest.raises(CallTimeout) as raised
        ):
            db.set("a", LARGE)
        if raised is not None:
            assert not raised.value.outcome_unknown
        stack.close()
        deaf.is_over.set()
        assert db.set("a", 1).rev == 1
    assert deaf.taken == ["hello", "record.set"]


def test_another_connection_may_take_less(start_server: StartServer, short_path: Path) -> None:
    start_server(deaf := Deaf((4 << 20, 2000)))
    with connect(f"unix://{short_path}/s") as db:
        db._connection._learn_max_message_bytes()
        with timeout_of(db, 0.1), pytest.raises(CallTimeout):
            db.set("a", LARGE)
        deaf.is_over.set()
        with pytest.raises(TooLarge, match="2000"):
            db.set("a", "x" * 3000)
    assert deaf.taken == ["hello", "hello"]


async def test_a_request_given_up_before_it_left_is_not_sent(
    start_server: StartServer, short_path: Path
) -> None:
    taken: list[str] = []
    has_begun, goes_on = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        lines = connection.makefile()
        send(connection, answer_to(lines.readline(), result=WELCOME))
        connection.recv(1, socket.MSG_PEEK)
        has_begun.set()
        goes_on.wait(10)
        for line in lines:
            taken.append(json.loads(line)["params"]["name"])
            send(connection, written(line, 1))

    start_server(serve)
    async with open_client(f"unix://{short_path}/s") as db:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(db.set, "large", LARGE)
            await trio.to_thread.run_sync(has_begun.wait, 10)
            with timeout_of(db, 0.05), pytest.raises(CallTimeout) as raised:
                await db.set("given up", 1)
            assert not raised.value.outcome_unknown
            goes_on.set()
        await db.set("small", 1)
        assert db._connection._link.pending == {}
    assert taken == ["large", "small"]


async def test_requests_that_left_a_cut_connection_do_not_leave_again(
    start_server: StartServer, short_path: Path
) -> None:
    """Half a megabyte of them at once, of which the daemon reads a hundred."""
    taken: list[list[str]] = []

    def serve(connection: socket.socket) -> None:
        names: list[str] = []
        taken.append(names)
        for line in connection.makefile():
            names.append(json.loads(line)["params"]["name"])
            if len(taken) > 1:
                send(connection, written(line, 1))
            elif len(names) == 100:
                return

    outcomes: dict[str, bool | None] = {}
    start_server(serve)
    async with open_client(f"unix://{short_path}/s") as db:

        async def write(name: str) -> None:
            try:
                await db.set(name, "x" * 800)
                outcomes[name] = None
            except ConnectionLost as error:
                outcomes[name] = error.outcome_unknown

        async with trio.open_nursery() as nursery:
            for n in range(600):
                nursery.start_soon(write, f"r.{n}")
    first, second = (set(names) for names in taken)
    assert not first & second
    assert {name for name, unknown in outcomes.items() if unknown is None} == second
    assert first <= {name for name, unknown in outcomes.items() if unknown}
    assert False not in outcomes.values()
