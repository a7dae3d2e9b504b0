"""Connections that end, or fall silent, at any byte: the client tells the outcome truly.

A server takes so much of a request, sends so much of the answer, and closes or sends nothing
more. A request that it took whole may have had its effect: a write's outcome is unknown. A
request that cannot have left whole had none, and a reading call never has an unknown outcome.
Both clients are held to it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest
import trio

from recordd_client import CallTimeout, ConnectionLost, connect, open_client
from tests.client.servers import (
    WELCOME,
    StartServer,
    answer_to,
)

CLIENTS: Final = ("blocking", "trio")
RESULT: Final = {"name": "a", "value": 1, "ts": 2, "rev": 1}
"""Reads as a row, and with less as what was written."""

ANSWER_BYTES: Final = len(answer_to('{"id": 1}', result=RESULT)) + 1
LARGE_BYTES: Final = 1_000_000
SILENCE_S: Final = 0.3
SOCKET_BYTES: Final = 500_000
"""More than the system keeps of a Unix socket that nobody reads."""


class Cut(msgspec.Struct, frozen=True):
    """The fate of one call: `takes` None means all of it."""

    method: str
    takes: int | None = None
    answers: int = 0
    is_silent: bool = False

    @property
    def size(self) -> int:
        """The value's; large ones alone can be cut in their middle for sure."""
        return 1 if self.takes is None else LARGE_BYTES

    @property
    def expected(self) -> str:
        """Return the outcome that the client has to tell."""
        if self.takes is None and self.answers == ANSWER_BYTES:
            return "done"
        return "unknown" if self.method == "set" and self.takes is None else "not done"


def cuts() -> Iterator[Cut]:
    """Yield all; those that take their time come last."""
    for method in ("set", "get"):
        for answers in (0, 1, ANSWER_BYTES // 2, ANSWER_BYTES - 1, ANSWER_BYTES):
            yield Cut(method, None, answers)
    for takes in (0, 1, 1000, LARGE_BYTES - SOCKET_BYTES):
        yield Cut("set", takes)
    for method in ("set", "get"):
        yield Cut(method, None, ANSWER_BYTES - 1, is_silent=True)


class CutServer:
    """Answers `hello`, which comes before a large request; cuts the next call."""

    def __init__(self) -> None:
        self.cut = Cut("")
        self.is_over = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with contextlib.suppress(OSError):
            if b'"hello"' in connection.recv(200, socket.MSG_PEEK):
                hello = connection.recv(200).decode()
                connection.sendall(answer_to(hello, result=WELCOME).encode() + b"\n")
            if self.cut.takes is None:
                line = connection.recv(1024)  # whole, as it is so small
                answer = answer_to(line.decode(), result=RESULT).encode() + b"\n"
                connection.sendall(answer[: self.cut.answers])
            else:
                _read(connection, self.cut.takes)
            if self.cut.is_silent:
                self.is_over.wait(10)


def _read(connection: socket.socket, count: int) -> None:
    while count:
        count -= len(connection.recv(min(count, 65_536))) or count


def call_blocking(url: str, cut: Cut, timeout_s: float) -> None:
    with connect(url, timeout_s=timeout_s) as db:
        db.set("a", "x" * cut.size) if cut.method == "set" else db.get("a")


def call_trio(url: str, cut: Cut, timeout_s: float) -> None:
    async def call() -> None:
        async with open_client(url, timeout_s=timeout_s) as db:
            await (db.set("a", "x" * cut.size) if cut.method == "set" else db.get("a"))

    trio.run(call)


def outcome_of(client: str, url: str, cut: Cut) -> str:
    call: Callable[[str, Cut, float], None] = call_blocking if client == "blocking" else call_trio
    try:
        call(url, cut, SILENCE_S if cut.is_silent else 10)
    except (ConnectionLost, CallTimeout) as error:
        return "unknown" if error.outcome_unknown else "not done"
    return "done"


def find_lies(client: str, server: CutServer, url: str) -> Iterator[str]:
    """Play every cut; yield those whose outcome the client tells wrongly."""
    for cut in cuts():
        server.cut = cut
        server.is_over.clear()
        told, expected = outcome_of(client, url, cut), cut.expected
        server.is_over.set()
        if told != expected:
            yield f"{cut}: {told}, and it is {expected}"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_tells_what_has_become_of_a_call_wherever_it_is_cut(
    start_server: StartServer, short_path: Path, client: str
) -> None:
    start_server(server := CutServer())
    assert list(find_lies(client, server, f"unix://{short_path}/s")) == []


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("always", [True, False])
def test_the_suite_flags_a_client_that_says_the_same_of_every_call(
    start_server: StartServer,
    short_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    client: str,
    always: bool,
) -> None:
    """Negative controls: all outcomes are unknown; none is."""

    def say(error: ConnectionLost, message: str, *, outcome_unknown: bool) -> None:
        Exception.__init__(error, message)
        error.outcome_unknown = always  # type: ignore[misc]

    monkeypatch.setattr(ConnectionLost, "__init__", say)
    start_server(server := CutServer())
    assert any(find_lies(client, server, f"unix://{short_path}/s"))
