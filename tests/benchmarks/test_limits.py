"""The loop of the least servers: bytes in any pieces in, answers and events out."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from benchmarks.observations import make_name, make_value
from benchmarks.wire import recordd
from benchmarks.wire.data import made_up_rows
from benchmarks.wire.limit_data import DATABASE, fill, open_database
from benchmarks.wire.limit_jobs import JOBS
from benchmarks.wire.limits import Server

SET = recordd.set_value(make_name(1), make_value(9)).line


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[None]:
    fill(folder / "a", made_up_rows(4, 4))
    db = open_database(folder / "a" / DATABASE)
    with contextlib.closing(Server(JOBS["write"](db), folder)) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            yield
            nursery.cancel_scope.cancel()
    db.close()


def connect(path: Path, *opening: bytes) -> socket.socket:
    """Connect and send with no turn of the loop between: it waits for a follower's opening."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    sock.sendall(b"".join(opening))
    return sock


async def receive(sock: socket.socket) -> bytes:
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(sock)
    return sock.recv(65_536)


async def test_a_request_may_come_in_pieces_and_with_others(short_path: Path) -> None:
    async with serving(short_path):
        with connect(short_path / "s", SET, SET[:30]) as sock:
            assert b'"rev":5' in await receive(sock)
            sock.sendall(SET[30:] + SET)
            answers = await receive(sock)
            assert [b'"rev":6' in answers, b'"rev":7' in answers] == [True, True]


async def test_followers_are_told_by_lines_and_by_frames(short_path: Path) -> None:
    async with serving(short_path):
        port = int((short_path / "port").read_text())
        opening = recordd.upgrade(port).opening + recordd.encode_frame(recordd.SUBSCRIBE).line
        with (
            connect(short_path / "followers", recordd.SUBSCRIBE.line) as follower,
            socket.create_connection(("127.0.0.1", port)) as framed,
            connect(short_path / "s") as writer,
        ):
            framed.sendall(opening)
            assert b'"subscription":"s1"' in await receive(follower)
            assert (await receive(framed)).startswith(b"HTTP/1.1 101")
            writer.sendall(SET)
            await receive(writer)
            event = await receive(follower)
            assert event.endswith(b'"rev":5}}\n')
            frame = await receive(framed)
            assert frame == b"\x81\x7e" + len(event[:-1]).to_bytes(2, "big") + event[:-1]


async def test_who_leaves_is_told_nothing_more(short_path: Path) -> None:
    async with serving(short_path):
        with connect(short_path / "s") as writer:
            with connect(short_path / "followers", recordd.SUBSCRIBE.line) as follower:
                await receive(follower)
            for _ in range(2):
                writer.sendall(SET)
                await receive(writer)
