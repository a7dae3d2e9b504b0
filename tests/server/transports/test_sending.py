"""What leaves a socket: the same bytes however much it takes at a time."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Final

import pytest
import trio

from recordd.connections.outbox import Sender
from recordd.core import Core
from recordd.transports import unix
from recordd.transports.frames import join_frames
from recordd.transports.sending import LARGE_BYTES
from recordd.transports.websocket import _FrameSender, _SharedStream
from tests.core_in_memory import running_core

LARGE: Final = b"x" * LARGE_BYTES
MESSAGES: Final = [[LARGE], [LARGE[1:]], [b"small", LARGE], [b"a", b"bc"], [LARGE * 5]]


class Open:
    """What a sender asks of the library's connection."""

    closed = None


class Narrow:
    """A system that takes no more than so many bytes of the first write, by either call."""

    def __init__(self, bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left: int | None = bytes
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "writev", lambda fd, parts: self.write(fd, b"".join(parts)))

    def write(self, descriptor: int, data: bytes) -> int:
        limit, self._left = self._left, None
        return self._write(descriptor, data if limit is None else data[:limit])


async def send_all(sender: Sender, messages: Sequence[bytes], peer: trio.SocketStream) -> bytes:
    """Send as an outbox does, and return what has come out at the end."""
    rest = sender.send_nowait(list(messages))
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_receive, peer, received)
        if rest:
            assert await sender.send(rest, lambda: None)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return bytes(received)


async def _receive(peer: trio.SocketStream, received: bytearray) -> None:
    while True:
        received += await peer.receive_some()


@contextlib.contextmanager
def make_pair() -> Iterator[tuple[trio.SocketStream, trio.SocketStream]]:
    ours, theirs = map(trio.socket.from_stdlib_socket, socket.socketpair())
    with ours, theirs:
        yield trio.SocketStream(ours), trio.SocketStream(theirs)


def make_frame_sender(stream: trio.SocketStream, core: Core) -> Sender:
    return _FrameSender(Open(), _SharedStream(stream, b"\r\n\r\n", core))  # type: ignore[arg-type]


@pytest.mark.parametrize("messages", MESSAGES, ids=lambda messages: str(list(map(len, messages))))
@pytest.mark.parametrize("short_by", [0, 1, 2, LARGE_BYTES + 12])
async def test_what_a_socket_takes_in_part_goes_on_where_it_stopped(
    messages: list[bytes], short_by: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_core() as core:
        for expected, is_line in (
            (b"".join(message + b"\n" for message in messages), True),
            (join_frames(messages), False),
        ):
            with make_pair() as (ours, theirs), monkeypatch.context() as patch:
                sender = unix._LineSender(ours) if is_line else make_frame_sender(ours, core.core)
                Narrow(max(0, len(expected) - short_by), patch)
                assert await send_all(sender, messages, theirs) == expected


async def test_a_peer_that_has_left_takes_nothing() -> None:
    with make_pair() as (ours, theirs):
        await theirs.aclose()
        with pytest.raises(trio.BrokenResourceError):
            unix._LineSender(ours).send_nowait([LARGE])


async def test_what_there_is_no_room_for_is_left() -> None:
    with make_pair() as (ours, _):
        sender = unix._LineSender(ours)
        while not (rest := sender.send_nowait([LARGE])):
            pass
        assert sender.send_nowait([LARGE]) == [LARGE]
        assert LARGE.endswith(rest[0])
