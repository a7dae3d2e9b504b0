"""From a request's head to who answers it: pure, so that every refusal is decided in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import trio

from recordd.config.settings import Settings
from recordd.core import Core
from recordd.http.head import Head
from recordd.http.responses import BadRequest, Response
from recordd.methods.caller import Caller

__all__ = ["Resource", "Responder", "Routes", "Upgrade", "answer", "choose"]

Responder = Callable[[Head, Caller], Awaitable[Response]]
"""Answers a request of one method at one path; refuses with `BadRequest`. What it asks of the
daemon it calls as the peer, with `call_method`."""


class Resource(msgspec.Struct, frozen=True):
    """A path that is answered, by method. OPTIONS is answered of itself, and pages of allowed
    origins may read every answer.
    """

    responders: Mapping[str, Responder]

    @property
    def methods(self) -> tuple[str, ...]:
        """All that it takes."""
        return (*self.responders, "OPTIONS")


class Upgrade(msgspec.Struct, frozen=True):
    """A path where the connection becomes one of another protocol.

    `check` looks at the head and refuses with `BadRequest`. `take_over` gets the connection
    and the bytes that were read, and serves it to its end.
    """

    check: Callable[[Head], None]
    take_over: Callable[[trio.SocketStream, bytes, Core], Awaitable[None]]


Routes = Mapping[str, Resource | Upgrade]
"""What there is, by path."""


def choose(head: Head, routes: Routes, settings: Settings) -> Resource | Upgrade:
    """Return the route of a request, which may go there.

    Raises:
        BadRequest: 421 for a host that is not ours, 403 for a page of another origin, 426
            for what has to be an upgrade, 404, 405; what an upgrade's check refuses.
    """
    head.check_host(settings.allowed_hosts)
    route = routes.get(head.path)
    if isinstance(route, Upgrade) and head.wants_websocket:
        head.check_origin(settings.allowed_origins)
        route.check(head)
        return route
    if isinstance(route, Resource) and head.method in route.methods:
        return route
    if isinstance(route, Resource) or head.method != "GET":
        taken = route.responders if isinstance(route, Resource) else ["GET"]
        raise BadRequest(405, f"only {', '.join(taken)}")
    if isinstance(route, Upgrade):
        raise BadRequest(426, "this is a WebSocket: ask for an upgrade")
    raise BadRequest(404, f"there is {_list(list(routes))}")


async def answer(resource: Resource, head: Head, caller: Caller) -> Response:
    """Return the answer of a resource; cancelled, its responder was.

    Raises:
        BadRequest: what the responder refuses.
    """
    shared = head.share_with(caller.core.settings.allowed_origins, resource.methods)
    if head.method == "OPTIONS":
        return Response(200, b"", headers=shared)
    response = await resource.responders[head.method](head, caller)
    return msgspec.structs.replace(response, headers=(*shared, *response.headers))


def _list(paths: Sequence[str]) -> str:
    return f"{', '.join(paths[:-1])} and {paths[-1]}"
