"""Waits between attempts: the pure rule, and both clients held to it by a real listener."""

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
    ConnectionLost,
    InvalidParams,
    Overloaded,
    Resync,
    Update,
    blocking_updates,
    trio_updates,
)
from recordd_client.addresses import find_address
from recordd_client.following import Follower
from recordd_client.reconnecting import Reconnecting
from recordd_protocol.errors import Reason
from recordd_protocol.methods import Subscribe, Subscribed
from tests.client.servers import EVENT, SUBSCRIBED, Server, answer_to, interrupted_when, send

StartServer = Callable[..., Server]
NOMINAL_WAITS_S: Final = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
"""What the waits are before the jitter, which takes up to a half of each."""

LOST: Final = ConnectionLost("gone", outcome_unknown=False)


def assert_waits(found_s: list[float | None], nominal_s: list[float]) -> None:
    assert len(found_s) == len(nominal_s), found_s
    pairs = zip(found_s, nominal_s, strict=True)
    assert all(nominal / 2 <= (found or 0) <= nominal for found, nominal in pairs), found_s


def test_waits_double_up_to_five_seconds() -> None:
    rule = Reconnecting()
    rule.note_subscribed(0)
    assert_waits([rule.note_lost(LOST, 0) for _ in NOMINAL_WAITS_S], NOMINAL_WAITS_S)


@pytest.mark.parametrize(("held_s", "wait_s"), [(0.0, 0.4), (0.99, 0.4), (1.0, 0.1), (60.0, 0.1)])
def test_the_next_wait_is_the_shortest_after_a_second_of_subscription(
    held_s: float, wait_s: float
) -> None:
    rule = Reconnecting()
    rule.note_subscribed(0)
    waits = [rule.note_lost(LOST, 0), rule.note_lost(LOST, 10)]
    rule.note_subscribed(20)
    assert_waits([*waits, rule.note_lost(LOST, 20 + held_s)], [0.1, 0.2, wait_s])


def test_time_in_failing_attempts_is_no_subscription() -> None:
    rule = Reconnecting()
    rule.note_subscribed(0)
    assert_waits([rule.note_lost(LOST, at_s) for at_s in (0, 10, 20)], [0.1, 0.2, 0.4])


@pytest.mark.parametrize("failure", [InvalidParams("no pattern"), ValueError("the program's")])
def test_a_failure_that_would_come_again_ends_the_attempts(failure: Exception) -> None:
    rule = Reconnecting()
    rule.note_subscribed(0)
    assert rule.note_lost(failure, 0) is None
    assert rule.note_lost(LOST, 0) is None
    assert rule.failure is failure


def test_without_a_first_subscription_every_failure_ends_the_attempts() -> None:
    assert Reconnecting().note_lost(Overloaded("try later"), 0) is None


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
"""Answers to a subscribe, each with the end of the connection behind it."""


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
