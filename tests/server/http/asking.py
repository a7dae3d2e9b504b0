"""One HTTP request to a port in memory, byte for byte."""

from __future__ import annotations

import trio

from recordd.core import Core
from recordd.transports.websocket import serve_websocket


async def ask(core: Core, *lines: bytes, host: bytes = b"localhost") -> bytes:
    """Return all that the port answers to a request of these lines, until it closes."""
    head = (lines[0], b"Host: " + host, *lines[1:], b"", b"")
    return await ask_raw(core, b"\r\n".join(head))


async def ask_raw(core: Core, request: bytes) -> bytes:
    """Return all that the port answers to these bytes."""
    near, far = (trio.SocketStream(sock) for sock in trio.socket.socketpair())
    async with near, trio.open_nursery() as nursery:
        nursery.start_soon(_serve, far, core)
        await near.send_all(request)
        answer = b""
        while data := await near.receive_some(65_536):
            answer += data
        await near.aclose()
    return answer


async def _serve(stream: trio.SocketStream, core: Core) -> None:
    async with stream:
        await serve_websocket(stream, core)
