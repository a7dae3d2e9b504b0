"""The upgrade to a WebSocket: what comes with the request, before it is answered."""

from __future__ import annotations

import trio

from recordd.http.port import serve_port
from recordd.http.routes import ROUTES
from tests.core_in_memory import CoreInMemory

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
