"""The upgrade to a WebSocket: what comes with the request, before it is answered."""

from __future__ import annotations

import trio
import trio.testing

from recordd.http.port import serve_port
from recordd.http.routes import ROUTES
from tests.core_in_memory import CoreInMemory, configure, running_core

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PING = b"\x89\x82\0\0\0\0hi"
PONG = b"\x8a\x02hi"
TRIES = 20


async def upgrade_with(core: CoreInMemory, frames: bytes) -> bytes:
    """Return all that comes up to a pong, or to the end of the connection."""
    near, far = (trio.SocketStream(sock) for sock in trio.socket.socketpair())
    received = b""
    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(serve_port, far, core.core, ROUTES)
        await near.send_all(UPGRADE + frames)
        with trio.move_on_after(2):
            while not received.endswith(PONG) and (data := await near.receive_some(4096)):
                received += data
        nursery.cancel_scope.cancel()
    return received


async def test_a_frame_in_one_segment_with_the_request_is_answered(core: CoreInMemory) -> None:
    for _ in range(TRIES):  # the library's task and ours are run in an order of chance
        assert (await upgrade_with(core, PING)).endswith(PONG)


async def test_a_peer_is_pinged_each_interval_and_no_more_once_it_has_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_core(configuration=configure(ping_interval="10s")) as core:
        near, far = (trio.SocketStream(sock) for sock in trio.socket.socketpair())
        pings = 0
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(serve_port, far, core.core, ROUTES)
            await near.send_all(UPGRADE)
            received = bytearray(await near.receive_some(4096))
            while pings < 3:
                received += await near.receive_some(4096)
                if (at := received.find(b"\x89\x04")) >= 0:
                    await near.send_all(b"\x8a\x84\0\0\0\0" + received[at + 2 :])
                    received.clear()
                    pings += 1
            await near.send_eof()
        assert trio.current_time() >= 30
        assert not core.core.reminders
        assert core.core.connections.statistics().dead_peers_closed == 0
