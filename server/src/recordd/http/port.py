"""The TCP port: each connection begins with the head of one HTTP request.

The head has a deadline of its own, so that what idles there is freed. The answer is sent
outside it, for as long as the peer goes on taking it.
"""

from __future__ import annotations

import trio

from recordd.config.settings import Settings
from recordd.core import Core
from recordd.http.head import Head, read_head
from recordd.http.responses import BadRequest, Response, encode_response, make_refusal
from recordd.http.routing import Resource, Routes, Upgrade, answer, choose
from recordd.methods.caller import Caller
from recordd.methods.gate import FULL_GRANTS
from recordd.transports.peers import find_peer
from recordd.transports.sending import linger, send_all_or_give_up

__all__ = ["refuse_port", "serve_port"]


async def serve_port(stream: trio.SocketStream, core: Core, routes: Routes) -> None:
    """Serve one connection: one plain request, or what it is upgraded to, to its end."""
    try:
        head = await _read_in_time(stream, core.settings)
    except BadRequest as error:
        await _send_last(stream, make_refusal(error), core.settings)
        return
    if head is None:
        return
    raw = head.raw
    reply = await _reply_to(head, Caller(core, find_peer(stream, "http"), FULL_GRANTS), routes)
    del head  # 2 KiB, which would stay for as long as a WebSocket lives
    if isinstance(reply, Upgrade):
        await reply.take_over(stream, raw, core)
    else:
        await _send_last(stream, reply, core.settings)


async def refuse_port(stream: trio.SocketStream, core: Core, reason: str) -> None:
    """Tell a connection that there are too many, also where it sends first."""
    await _send_last(stream, make_refusal(BadRequest(503, reason)), core.settings)


async def _reply_to(head: Head, caller: Caller, routes: Routes) -> Response | Upgrade:
    try:
        route = choose(head, routes, caller.core.settings)
        return await answer(route, head, caller) if isinstance(route, Resource) else route
    except BadRequest as error:
        return make_refusal(error)


async def _read_in_time(stream: trio.SocketStream, settings: Settings) -> Head | None:
    """Return the head of the request; None where the peer leaves, or takes too long."""
    with trio.move_on_after(settings.handshake_timeout_ms / 1000):
        try:
            return await read_head(stream)
        except trio.BrokenResourceError:
            return None
    return None


async def _send_last(stream: trio.SocketStream, response: Response, settings: Settings) -> None:
    """Send an answer and let the peer have it before the connection closes."""
    data = encode_response(response)
    if await send_all_or_give_up(stream, data, settings.send_timeout_ms / 1000):
        await linger(stream)
