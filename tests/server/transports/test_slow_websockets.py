"""A WebSocket that is slow and busy at once, over many schedules: its updates keep coming.

A real handshake, real frames, a socket pair with as small a buffer as the system allows;
which task runs when is the seed's decision.
"""

from __future__ import annotations

import json
import os
import random
import socket
from typing import Any, Final

import pytest
import trio
import trio_websocket

from recordd.core import Core
from recordd.http.port import serve_port
from recordd.http.routes import ROUTES
from recordd.persistence.memory import MemoryBackend
from recordd.session import session
from recordd.transports.frames import join_frames
from recordd.transports.shared_stream import SharedStream
from recordd.writing.requests import WriteRows
from tests.core_in_memory import configure, running_core
from tests.schedules import run_with_seed
from tests.server.connections.test_outbox import Forgetful, pause
from tests.wire import request

PLAYS: Final = int(os.environ.get("RECORDD_SCHEDULES", "200")) // 10
ROWS: Final = 60


class Follower:
    """A client that follows everything, and asks for other things meanwhile."""

    def __init__(self, chance: random.Random, delivery: str) -> None:
        self.told: list[int] = []
        self.skipped = 0
        self._chance = chance
        self._delivery = delivery
        self._slowness = chance.choice([1, 5, 20])

    async def follow(self, connection: trio_websocket.WebSocketConnection) -> None:
        """Read until the newest row has come."""
        await _send(connection, "record.subscribe", name="#", after=0, delivery=self._delivery)
        while not self.told or self.told[-1] != ROWS:
            await pause(self._chance, self._slowness)
            found = json.loads(await connection.get_message())
            for message in found if isinstance(found, list) else [found]:
                if "method" in message:
                    self.told.append(message["params"]["rev"])
                    self.skipped += message["params"].get("skipped", 0)

    async def ask(
        self, connection: trio_websocket.WebSocketConnection, tasks: trio.Nursery
    ) -> None:
        """Ask for a few things and then no more: nothing that it does helps the updates out."""
        for _ in range(self._chance.choice([1, 5, 20])):
            what = self._chance.choice(["record.get", "record.list", "ping"])
            if what == "ping":  # its answer comes from the library, in between ours
                tasks.start_soon(connection.ping)
            else:
                await _send(connection, what, name="a")
            await pause(self._chance, 5)


async def _send(connection: trio_websocket.WebSocketConnection, method: str, **params: Any) -> None:
    await connection.send_message(request(method, 1, **params).decode())


async def write_all(core: Core, chance: random.Random) -> None:
    for _ in range(ROWS):
        name = chance.choice("abc")
        await core.queue.put(
            WriteRows([(name, b'"%b"' % (b"x" * 3000), None, None)], lambda rows: rows)
        )
        await pause(chance)


async def play(seed: int, delivery: str, patience_s: float = 20) -> Follower:
    """Return the follower when it has been told of the newest row, or of nothing for long."""
    chance = random.Random(seed)
    follower = Follower(chance, delivery)
    settings = configure(subscriber_updates=chance.choice([1, 3, 20]), backlog_bytes=24_000)
    near, far = trio.socket.socketpair()
    for sock in (near, far):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    async with running_core(MemoryBackend(), settings) as running, trio.open_nursery() as nursery:
        nursery.start_soon(serve_port, trio.SocketStream(far), running.core, ROUTES)
        connection = await trio_websocket.wrap_client_stream(
            nursery, trio.SocketStream(near), "localhost", "/ws"
        )
        with trio.move_on_after(patience_s):
            async with trio.open_nursery() as tasks:
                tasks.start_soon(follower.ask, connection, tasks)
                tasks.start_soon(write_all, running.core, chance)
                await follower.follow(connection)
                tasks.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
        near.close()
        far.close()
    return follower


def play_all(delivery: str) -> dict[int, Follower]:
    return {seed: run_with_seed(seed, play, seed, delivery) for seed in range(PLAYS)}


@pytest.mark.timeout(60 + PLAYS)
def test_a_busy_follower_of_every_update_gets_every_one() -> None:
    for seed, follower in play_all("every").items():
        assert follower.told == list(range(1, ROWS + 1)), seed
        assert not follower.skipped, seed


@pytest.mark.timeout(60 + PLAYS)
def test_a_busy_follower_of_the_latest_gets_the_newest_without_another_commit() -> None:
    for seed, follower in play_all("latest").items():
        assert follower.told[-1:] == [ROWS], seed
        assert len(follower.told) + follower.skipped == ROWS, seed


@pytest.mark.timeout(60 + PLAYS)
def test_the_plays_find_an_outbox_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control; what the kernel takes is beyond the seed, so many may find nothing."""
    monkeypatch.setattr(session, "Outbox", Forgetful)
    plays = (run_with_seed(seed, play, seed, "every", 0.3) for seed in range(20 * PLAYS))
    assert any(follower.told[-1:] != [ROWS] for follower in plays)


async def test_a_send_that_is_given_up_leaves_no_frame_in_part() -> None:
    """The library gives a ping up: what it was to bring to an end is sent by whoever is next."""
    ours, theirs = trio.socket.socketpair()
    async with running_core() as core:
        stream = SharedStream(trio.SocketStream(ours), b"", core.core)
        long, ping = b"x" * 3_000_000, b"\x89\x00"
        assert stream.send_nowait([long]) == [stream.rest]
        with trio.move_on_after(0.05) as given_up:
            await stream.send_all(ping)
        assert given_up.cancelled_caught
        assert stream.send_nowait([b"later"]) == [b"later"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_parts, (join_frames([b"next"]),))
            expected = join_frames([long]) + ping + join_frames([b"next"])
            received = b""
            with trio.fail_after(10):
                while len(received) < len(expected):
                    received += await theirs.recv(1 << 20)
        assert received == expected
    await stream.aclose()
    theirs.close()
