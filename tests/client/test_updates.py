"""The subscriptions of both clients, against listeners that end, refuse or say nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from recordd_client import (
    Resync,
    Update,
    blocking_updates,
    connect,
    open_client,
    trio_updates,
)
from recordd_client.addresses import find_address
from recordd_client.following import Follower
from recordd_protocol.errors import Reason
from recordd_protocol.methods import Subscribe, Subscribed
from tests.client.servers import (
    EVENT,
    SUBSCRIBED,
    WELCOME,
    StartServer,
    answer_to,
    interrupted_when,
    send,
)
from tests.client.test_reconnecting import NOMINAL_WAITS_S, assert_waits


class Patient(Follower[Any]):
    """A follower that notes how long it is to wait, and does not; `held_s` is what it claims."""

    def __init__(self, held_s: float = 0.0, **params: Any) -> None:
        self.waits_s: list[float | None] = []
        self._held_s: Final = held_s
        super().__init__(Subscribe("#", **params), Any, _ignore)

    def note_subscribed(self, answer: Subscribed, now_s: float) -> None:
        super().note_subscribed(answer, now_s - self._held_s)

    def note_lost(self, failure: Exception, now_s: float) -> float | None:
        self.waits_s.append(super().note_lost(failure, now_s))
        return None if self.waits_s[-1] is None else 0.0


def _ignore(resync: Resync) -> None:
    """Take no notice."""


def follow_blocking(url: str, follower: Follower[Any], asks: int = 1) -> list[Any]:
    """Ask for updates; return them, and the exceptions that came instead."""
    found: list[Any] = []
    with blocking_updates.open_updates(find_address(url), 10, follower) as updates:
        for _ in range(asks):
            try:
                found.append(next(updates))
            except Exception as error:
                found.append(error)
    return found


def follow_trio(url: str, follower: Follower[Any], asks: int = 1) -> list[Any]:
    """Do the same on Trio."""

    async def follow() -> list[Any]:
        found: list[Any] = []
        async with trio_updates.open_updates(find_address(url), 10, follower) as updates:
            for _ in range(asks):
                try:
                    with trio.fail_after(20):  # less than the silence after which it asks
                        found.append(await anext(updates))
                except Exception as error:
                    found.append(error)
        return found

    return trio.run(follow)


FACES: Final = [follow_blocking, follow_trio]


Face = Callable[..., list[Any]]


OVERLOADED: Final = {"code": Reason.OVERLOADED.code, "message": "try later"}


ENDINGS: Final[dict[str, Callable[[str], str]]] = {
    "refused": lambda line: answer_to(line, error=OVERLOADED),
    "refused_without_id": lambda line: answer_to('{"id": null}', error=OVERLOADED),
    "closed_unanswered": lambda line: "",
    "closed_after_the_answer": lambda line: answer_to(line, result=SUBSCRIBED),
    "closed_after_an_event": lambda line: f"{answer_to(line, result=SUBSCRIBED)}\n{EVENT}",
    "answered_with_nonsense": lambda line: "nonsense",
    "answered_with_another_result": lambda line: answer_to(line, result={}),
}


@pytest.mark.parametrize("follow", FACES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_both_clients_wait_longer_and_longer_for_a_daemon_that_ends_each_attempt(
    start_server: StartServer, short_path: Path, follow: Face, ending: str
) -> None:
    def serve(connection: socket.socket) -> None:
        with connection.makefile() as lines:
            line = lines.readline()
            if server.connections == 1:
                send(connection, answer_to(line, result=SUBSCRIBED))
            elif server.connections <= len(NOMINAL_WAITS_S):
                send(connection, ENDINGS[ending](line))
            else:
                send(connection, answer_to(line, result=SUBSCRIBED), EVENT, EVENT)
                lines.read()

    server = start_server(serve)
    asks = len(NOMINAL_WAITS_S) if ending == "closed_after_an_event" else 1
    updates = follow(f"unix://{short_path}/s", follower := Patient(), asks)
    assert [type(update) for update in updates] == [Update] * asks
    assert_waits(follower.waits_s, NOMINAL_WAITS_S)


@pytest.mark.parametrize("follow", FACES)
def test_both_clients_wait_the_shortest_after_a_subscription_that_held(
    start_server: StartServer, short_path: Path, follow: Face
) -> None:
    def serve(connection: socket.socket) -> None:
        with connection.makefile() as lines:
            line = lines.readline()
            if server.connections in (2, 3):
                return
            send(connection, answer_to(line, result=SUBSCRIBED))
            if server.connections == 5:
                send(connection, EVENT)
                lines.read()

    server = start_server(serve)
    follow(f"unix://{short_path}/s", follower := Patient(held_s=60))
    assert_waits(follower.waits_s, [0.1, 0.2, 0.4, 0.1])


@pytest.mark.parametrize("follow", FACES)
def test_both_clients_give_up_where_the_refusal_lasts_and_say_so_each_time(
    start_server: StartServer, short_path: Path, follow: Face
) -> None:
    def serve(connection: socket.socket) -> None:
        with connection.makefile() as lines:
            line = lines.readline()
            if server.connections == 1:
                send(connection, answer_to(line, result=SUBSCRIBED))
            else:
                error = {"code": Reason.DENIED.code, "message": "no"}
                send(connection, answer_to(line, error=error))

    server = start_server(serve)
    first, second = follow(f"unix://{short_path}/s", Patient(), 2)
    assert type(first).__name__ == "Denied"
    assert second is first
    assert server.connections == 2


@pytest.mark.parametrize("follow", FACES)
def test_both_clients_tell_the_updates_before_an_on_resync_that_raises_and_then_end(
    start_server: StartServer, short_path: Path, follow: Face
) -> None:
    def fail(resync: Resync) -> None:
        raise ValueError("no")

    resync = {"subscription": "s", "resync": True, "rev": 3, "epoch": "e", "values": 0}
    told = json.dumps({"jsonrpc": "2.0", "method": "record.event", "params": resync})

    def serve(connection: socket.socket) -> None:
        with connection.makefile() as lines:
            subscribed = answer_to(lines.readline(), result=SUBSCRIBED)
            send(connection, f"[{subscribed},{EVENT},{told},{EVENT}]")
            lines.read()

    server = start_server(serve)
    follower = Follower[Any](Subscribe("#"), Any, fail)
    update, first, second = follow(f"unix://{short_path}/s", follower, 3)
    assert update.value == 7
    assert isinstance(first, ValueError)
    assert second is first
    assert server.connections == 1


def test_an_attempt_that_is_interrupted_leaves_no_half_of_a_subscription(
    start_server: StartServer, short_path: Path
) -> None:
    has_asked, is_over = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection.makefile() as lines, contextlib.suppress(OSError):
            line = lines.readline()
            if server.connections == 2:
                has_asked.set()
                is_over.wait(10)
            send(connection, answer_to(line, result=SUBSCRIBED))
            if server.connections > 1:
                send(connection, EVENT)
                lines.read()

    server = start_server(serve)
    address, follower = find_address(f"unix://{short_path}/s"), Patient()
    with blocking_updates.open_updates(address, 10, follower) as updates:
        with interrupted_when(has_asked):
            next(updates)
        is_over.set()
        assert next(updates).value == 7
    assert server.connections == 3


def test_a_program_that_only_polls_finds_out_that_nobody_is_there(
    start_server: StartServer, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking_updates, "KEEPALIVE_S", 0.0)
    has_asked = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection.makefile() as lines:
            send(connection, answer_to(lines.readline(), result=SUBSCRIBED))
            if json.loads(lines.readline() or "{}").get("method") == "hello":
                has_asked.set()
                lines.read()

    start_server(serve)
    address = find_address(f"unix://{short_path}/s")
    with blocking_updates.open_updates(address, 10, Patient()) as updates:
        assert updates.wait(0) is None
        assert has_asked.wait(10)


def watch_blocking(url: str, timeout_s: float) -> Any:
    with connect(url, timeout_s=timeout_s) as db, db.subscribe("#") as updates:
        return next(updates).value


def watch_trio(url: str, timeout_s: float) -> Any:
    async def watch() -> Any:
        async with open_client(url, timeout_s=timeout_s) as db, db.subscribe("#") as updates:
            return (await anext(updates)).value

    return trio.run(watch)


@pytest.mark.parametrize("watch", [watch_blocking, watch_trio])
def test_an_event_that_comes_with_the_answer_is_told(
    start_server: StartServer, short_path: Path, watch: Callable[[str, float], Any]
) -> None:
    def serve(connection: socket.socket) -> None:
        if server.connections > 1:  # the first is the client's own
            subscribed = answer_to(connection.makefile().readline(), result=SUBSCRIBED)
            send(connection, f"[{subscribed},{EVENT}]")

    server = start_server(serve)
    assert watch(f"unix://{short_path}/s", 10) == 7


@pytest.mark.parametrize("watch", [watch_blocking, watch_trio])
@pytest.mark.parametrize("answers", [0, 2])
def test_after_a_silence_a_follower_asks_and_leaves_a_peer_that_does_not_answer(
    start_server: StartServer,
    short_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    watch: Callable[[str, float], Any],
    answers: int,
) -> None:
    for module in (blocking_updates, trio_updates):
        monkeypatch.setattr(module, "KEEPALIVE_S", 0.05)
    probes: list[str] = []

    def serve(connection: socket.socket) -> None:
        if server.connections == 1:  # the client's own
            return
        lines = connection.makefile()
        send(connection, answer_to(lines.readline(), result=SUBSCRIBED))
        if server.connections == 2:
            for line in lines:
                probes.append(json.loads(line)["method"])
                if answers:
                    send(connection, answer_to(line, result=WELCOME))
                if len(probes) == answers:
                    break
            else:
                return
        send(connection, EVENT)
        lines.read()

    server = start_server(serve)
    assert watch(f"unix://{short_path}/s", 10 if answers else 0.5) == 7
    assert probes == ["hello"] * (answers or 1)
    assert server.connections == (2 if answers else 3)
