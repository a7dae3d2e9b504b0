"""What the port answers over plain HTTP, byte for byte."""

from __future__ import annotations

import pytest

from tests.core_in_memory import CoreInMemory, configure, running_core
from tests.server.http.asking import ask, ask_raw

APP = b"Origin: http://app.example"
UPGRADE = b"Upgrade: websocket"


def answer(
    status: int, body: bytes, *shared: bytes, content_type: bytes = b"application/json"
) -> bytes:
    """The whole answer; `shared` are the headers for pages of other origins."""
    lines = (
        b"HTTP/1.1 %d " % status,
        *shared,
        b"Content-Type: " + content_type,
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        b"Cache-Control: no-store",
        b"X-Content-Type-Options: nosniff",
    )
    return b"\r\n".join([*lines, b"", body])


def refusal(status: int, reason: bytes) -> bytes:
    return answer(status, reason + b"\n", content_type=b"text/plain; charset=us-ascii")


VARY = b"Vary: Origin"
SHARED = b"Access-Control-Allow-Origin: http://app.example"
PREFLIGHT = (
    b"Access-Control-Allow-Methods: GET, OPTIONS",
    b"Access-Control-Allow-Headers: *",
    b"Access-Control-Max-Age: 600",
)
VERSION = b'{"aimx":"3.0"}'


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((b"GET /version HTTP/1.1",), answer(200, VERSION, VARY)),
        ((b"GET /version?v=9 HTTP/1.1", APP), answer(200, VERSION, VARY, SHARED)),
        ((b"GET /version HTTP/1.1", APP + b".evil"), answer(200, VERSION, VARY)),
        ((b"OPTIONS /version HTTP/1.1", APP), answer(200, b"", VARY, SHARED, *PREFLIGHT)),
        ((b"OPTIONS /health HTTP/1.1",), answer(200, b"", VARY)),
        ((b"POST /health HTTP/1.1", b"Content-Length: 0"), refusal(405, b"only GET")),
        ((b"HEAD /health HTTP/1.1",), refusal(405, b"only GET")),
        ((b"OPTIONS /ws HTTP/1.1",), refusal(405, b"only GET")),
        ((b"OPTIONS /nothing HTTP/1.1",), refusal(405, b"only GET")),
        ((b"GET /ws HTTP/1.1",), refusal(426, b"this is a WebSocket: ask for an upgrade")),
        ((b"GET / HTTP/1.1", UPGRADE), refusal(404, b"there is /ws, /health and /version")),
        (
            (b"GET /ws?v=2.0 HTTP/1.1", UPGRADE),
            refusal(426, b"incompatible AimX protocol version (server speaks 3.0)"),
        ),
        (
            (b"GET /ws?v=2.0 HTTP/1.1", UPGRADE, APP + b".evil"),
            refusal(403, b"origin 'http://app.example.evil' is not in allowed_origins"),
        ),
        ((b"nonsense",), refusal(400, b"illegal request line: bytearray(b'nonsense')")),
        ((b"GET / HTTP/1.1", b"X: \xff"), refusal(400, b"the head holds bytes that are not ASCII")),
        ((b"GET / HTTP/1.1", APP, APP), refusal(400, b"Host and Origin may come once")),
        (
            (b"GET / HTTP/1.1", b"X: " + b"x" * 17_000),
            refusal(431, b"the head has more than 16384 bytes"),
        ),
    ],
)
async def test_each_request_has_its_answer(lines: tuple[bytes, ...], expected: bytes) -> None:
    async with running_core(configuration=configure(allowed_origins=APP[8:].decode())) as core:
        assert await ask(core.core, *lines) == expected


async def test_a_health_check_tells_how_many_are_connected(core: CoreInMemory) -> None:
    for _ in range(3):
        core.core.admission.enter(None)
    body = b'{"status":"ok","clients":3,"uptime_secs":%d}' % core.core.uptime_s
    assert await ask(core.core, b"GET /health HTTP/1.1") == answer(200, body, VARY)


@pytest.mark.parametrize("path", [b"/", b"/version", b"/ws"])
async def test_a_host_that_is_not_ours_is_refused_whatever_it_asks(
    core: CoreInMemory, path: bytes
) -> None:
    refused = await ask(core.core, b"GET %b HTTP/1.1" % path, UPGRADE, host=b"evil.example:80")
    assert refused == refusal(421, b"host 'evil.example' is not in allowed_hosts")
    refused = await ask_raw(core.core, b"GET %b HTTP/1.0\r\n\r\n" % path)
    assert refused == refusal(421, b"host '' is not in allowed_hosts")
