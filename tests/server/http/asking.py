"""One HTTP request to a port in memory, byte for byte."""

from __future__ import annotations

import trio

from recordd.core import Core
from recordd.http.port import serve_port
from recordd.http.routes import ROUTES
from recordd.http.routing import Routes


async def ask(
    core: Core, *lines: bytes, host: bytes = b"localhost", routes: Routes = ROUTES
) -> bytes:
    """Return all that the port answers to a request of these lines, until it closes."""
    head = (lines[0], b"Host: " + host, *lines[1:], b"", b"")
    return await ask_raw(core, b"\r\n".join(head), routes=routes)


async def ask_raw(core: Core, *pieces: bytes, routes: Routes = ROUTES) -> bytes:
    """Return all that the port answers to these bytes, each piece in a send of its own."""
    near, far = (trio.SocketStream(sock) for sock in trio.socket.socketpair())
    async with near, trio.open_nursery() as nursery:
        nursery.start_soon(_serve, far, core, routes)
        for piece in pieces:
            await near.send_all(piece)
        answer = b""
        while data := await near.receive_some(65_536):
            answer += data
        await near.aclose()
    return answer


async def _serve(stream: trio.SocketStream, core: Core, routes: Routes) -> None:
    async with stream:
        await serve_port(stream, core, routes)
