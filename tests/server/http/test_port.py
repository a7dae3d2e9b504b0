"""The port: what has a deadline, and what comes of a head in pieces or of half a one."""

from __future__ import annotations

import math

import trio

from recordd.http.head import Head
from recordd.http.responses import Response
from recordd.http.routing import Resource
from recordd.methods.caller import Caller
from tests.core_in_memory import CoreInMemory, configure, running_core
from tests.server.http.asking import ask, ask_raw

VERSION = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_a_head_may_come_in_any_pieces(core: CoreInMemory) -> None:
    whole = await ask_raw(core.core, VERSION)
    single_bytes = (VERSION[n : n + 1] for n in range(len(VERSION)))
    assert await ask_raw(core.core, *single_bytes) == whole


async def test_a_head_that_takes_too_long_ends_the_connection_without_an_answer() -> None:
    async with running_core(configuration=configure(handshake_timeout="10ms")) as core:
        assert await ask_raw(core.core, VERSION[:-1]) == b""


async def test_the_answer_is_made_and_sent_outside_the_deadline_of_the_head(
    core: CoreInMemory,
) -> None:
    async def tell_deadline(head: Head, caller: Caller) -> Response:
        return Response(200, b"%a" % trio.current_effective_deadline())

    answer = await ask(
        core.core, b"GET /d HTTP/1.1", routes={"/d": Resource({"GET": tell_deadline})}
    )
    assert answer.endswith(b"\r\n\r\n%a" % math.inf)
