"""What leaves a socket: the same bytes however much it takes at a time."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

import pytest
import trio
import trio_websocket

from recordd.connections.lane import CLOSED, Lane, write_to_all
from recordd.connections.outbox import Sender
from recordd.core import Core
from recordd.http.port import serve_port
from recordd.http.routes import ROUTES
from recordd.transports import unix, websocket
from recordd.transports.frames import join_frames
from recordd.transports.sending import LARGE_BYTES
from recordd.transports.shared_stream import SharedStream
from recordd.transports.unix import _LineSender, serve_unix
from recordd.transports.websocket import _FrameSender
from tests.core_in_memory import CoreInMemory, running_core

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


async def send_all(
    sender: Sender, messages: Sequence[bytes], peer: trio.SocketStream, *, is_shared: bool
) -> bytes:
    """Send as an outbox does, and return what has come out at the end."""
    encoded = sender.encode(messages) if is_shared else None
    rest = sender.send_nowait(list(messages), encoded)
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
    return _FrameSender(Open(), SharedStream(stream, b"\r\n\r\n", core))  # type: ignore[arg-type]


@pytest.mark.parametrize("messages", MESSAGES, ids=lambda messages: str(list(map(len, messages))))
@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("short_by", [0, 1, 2, LARGE_BYTES + 12])
async def test_what_a_socket_takes_in_part_goes_on_where_it_stopped(
    messages: list[bytes], short_by: int, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_core() as core:
        for expected, is_line in (
            (b"".join(message + b"\n" for message in messages), True),
            (join_frames(messages), False),
        ):
            with make_pair() as (ours, theirs), monkeypatch.context() as patch:
                sender = _LineSender(ours) if is_line else make_frame_sender(ours, core.core)
                Narrow(max(0, len(expected) - short_by), patch)
                assert await send_all(sender, messages, theirs, is_shared=is_shared) == expected


async def test_a_peer_that_has_left_takes_nothing() -> None:
    with make_pair() as (ours, theirs):
        await theirs.aclose()
        with pytest.raises(trio.BrokenResourceError):
            _LineSender(ours).send_nowait([LARGE])


async def test_what_there_is_no_room_for_is_left() -> None:
    with make_pair() as (ours, _):
        sender = _LineSender(ours)
        while not (rest := sender.send_nowait([LARGE])):
            pass
        assert sender.send_nowait([LARGE]) == [LARGE]
        assert LARGE.endswith(rest[0])


class NotedLines(_LineSender):
    """Is kept by whoever wants to send on after the end."""

    __slots__ = ()
    made: ClassVar[list[Sender]] = []

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self.made.append(self)


class NotedFrames(_FrameSender):
    """The same of a WebSocket."""

    __slots__ = ()
    made: ClassVar[list[Sender]] = []

    def __init__(
        self, connection: trio_websocket.WebSocketConnection, stream: SharedStream
    ) -> None:
        super().__init__(connection, stream)
        self.made.append(self)


def assert_writes_to_nobody(sender: Sender, descriptor: int) -> None:
    """Give the descriptor to another, who must get nothing."""
    near, far = socket.socketpair()
    if far.fileno() == descriptor:
        near, far = far, near
    if near.fileno() != descriptor:
        given = os.dup2(near.fileno(), descriptor)
        near.close()
        near = socket.socket(fileno=given)
    with near, far:
        far.setblocking(False)
        with pytest.raises(trio.BrokenResourceError):
            sender.send_nowait([b"for somebody else"], b"for somebody else")
        assert isinstance(sender, Lane)
        sender.set_free(True)
        assert write_to_all([sender], b"for somebody else") == {sender: 0}
        with pytest.raises(BlockingIOError):
            far.recv(1)


async def test_a_unix_socket_that_is_served_no_more_is_not_written_to(
    core: CoreInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix, "_LineSender", NotedLines)
    ours, theirs = trio.socket.socketpair()
    descriptor = ours.fileno()
    theirs.close()
    async with trio.SocketStream(ours) as stream:
        await serve_unix(stream, core.core)
    assert_writes_to_nobody(NotedLines.made.pop(), descriptor)


@pytest.mark.parametrize("is_polite", [True, False])
async def test_a_websocket_that_is_closed_is_not_written_to(
    core: CoreInMemory, monkeypatch: pytest.MonkeyPatch, is_polite: bool
) -> None:
    monkeypatch.setattr(websocket, "_FrameSender", NotedFrames)
    ours, theirs = (trio.SocketStream(sock) for sock in trio.socket.socketpair())
    descriptor = ours.socket.fileno()
    async with theirs, trio.open_nursery() as nursery:
        nursery.start_soon(serve_port, ours, core.core, ROUTES)
        connection = await trio_websocket.wrap_client_stream(nursery, theirs, "localhost", "/ws")
        if is_polite:
            await connection.aclose()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await ours.aclose()
    assert_writes_to_nobody(NotedFrames.made.pop(), descriptor)


async def test_a_shared_stream_that_the_library_closes_is_not_written_to(
    core: CoreInMemory,
) -> None:
    ours, theirs = trio.socket.socketpair()
    descriptor = ours.fileno()
    stream = SharedStream(trio.SocketStream(ours), b"", core.core)
    await stream.aclose()
    sender = _FrameSender(Open(), stream)  # type: ignore[arg-type]
    assert_writes_to_nobody(sender, descriptor)
    theirs.close()


async def test_frames_go_past_a_stream_only_while_it_has_nothing_under_way(
    core: CoreInMemory,
) -> None:
    ours, theirs = trio.socket.socketpair()
    stream = SharedStream(trio.SocketStream(ours), b"", core.core)
    lane = _FrameSender(Open(), stream)  # type: ignore[arg-type]
    lane.set_free(True)
    assert lane.descriptor == ours.fileno()
    assert lane.cut_nowait([b"abc"], join_frames([b"abc"]), 2)
    assert lane.descriptor == CLOSED, "a frame is out in part"
    await stream.send_all(b"\x89\x00")
    assert lane.descriptor == ours.fileno()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, b"\x89\x00" + b"x" * 3_000_000)
        await trio.testing.wait_all_tasks_blocked()
        assert lane.descriptor == CLOSED, "the library is at it"
        received = 0
        while received < 3_000_007:
            received += len(await theirs.recv(1 << 20))
    assert lane.descriptor == ours.fileno()
    await stream.send_all(b"\x88\x00")
    assert lane.descriptor == CLOSED, "nothing follows a close frame"
    theirs.close()
    await stream.aclose()
