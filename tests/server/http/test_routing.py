"""Which route a request takes: decided from its head alone."""

from __future__ import annotations

import h11
import pytest

from recordd.http.head import Head
from recordd.http.responses import BadRequest, Response
from recordd.http.routes import ROUTES
from recordd.http.routing import Resource, Upgrade, choose
from recordd.methods.caller import Caller
from tests.core_in_memory import CoreInMemory, configure
from tests.server.http.asking import ask

SETTINGS = configure(allowed_hosts="here").settings


def head(method: str, target: str, **headers: str) -> Head:
    fields = {"host": "here", **headers}
    return Head(h11.Request(method=method, target=target, headers=list(fields.items())), b"")


async def echo(head: Head, caller: Caller) -> Response:
    return Response(201, head.method.encode(), headers=(("X-Own", "1"),))


def test_only_what_asks_for_an_upgrade_takes_the_way_of_one() -> None:
    for method in ("GET", "POST"):  # what is wrong about the latter, the protocol's library says
        assert choose(head(method, "/ws", upgrade="WebSocket"), ROUTES, SETTINGS) is ROUTES["/ws"]
    with pytest.raises(BadRequest) as refused:
        choose(head("GET", "/ws"), ROUTES, SETTINGS)
    assert refused.value.status == 426
    route = choose(head("GET", "/version", upgrade="websocket"), ROUTES, SETTINGS)
    assert not isinstance(route, Upgrade)


@pytest.mark.parametrize("version", ["3", "3.9", ""])
def test_an_upgrade_of_our_major_version_is_taken(version: str) -> None:
    target = f"/ws?v={version}" if version else "/ws"
    assert choose(head("GET", target, upgrade="websocket"), ROUTES, SETTINGS) is ROUTES["/ws"]


@pytest.mark.parametrize("target", ["/ws?v=", "/ws?v=2", "/ws?v=3&v=4"])
def test_an_upgrade_of_another_version_is_refused(target: str) -> None:
    with pytest.raises(BadRequest) as refused:
        choose(head("GET", target, upgrade="websocket"), ROUTES, SETTINGS)
    assert refused.value.status == 426


def test_the_page_of_an_address_that_is_our_own_may_upgrade() -> None:
    own = head("GET", "/ws", upgrade="websocket", origin="http://here")
    assert choose(own, ROUTES, SETTINGS) is ROUTES["/ws"]
    with pytest.raises(BadRequest) as refused:
        choose(head("GET", "/ws", upgrade="websocket", origin="http://x"), ROUTES, SETTINGS)
    assert refused.value.status == 403


async def test_a_resource_takes_its_methods_and_refuses_others(core: CoreInMemory) -> None:
    routes = {"/ws": ROUTES["/ws"], "/echo": Resource({"PUT": echo, "POST": echo})}
    answer = await ask(core.core, b"PUT /echo HTTP/1.1", routes=routes)
    assert answer.startswith(b"HTTP/1.1 201 \r\nVary: Origin\r\nX-Own: 1\r\n")
    assert answer.endswith(b"\r\n\r\nPUT")
    refused = await ask(core.core, b"GET /echo HTTP/1.1", routes=routes)
    assert refused.startswith(b"HTTP/1.1 405 ")
    assert refused.endswith(b"\r\n\r\nonly PUT, POST\n")
    missing = await ask(core.core, b"GET / HTTP/1.1", routes=routes)
    assert missing.endswith(b"there is /ws and /echo\n")
