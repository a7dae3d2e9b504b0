"""The head of an HTTP request.

The head is read here, with h11, because whatever it holds must get an answer; only a
well-formed upgrade request reaches the WebSocket library.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from recordd.http.responses import BadRequest

__all__ = ["Head", "read_head"]

_MAX_HEAD_BYTES: Final = 16_384
"""A browser's head has some 2 KiB; with large cookies 8."""


class Head:
    """A request's head, and the bytes it came in: whoever takes over parses them again."""

    def __init__(self, request: h11.Request, raw: bytes) -> None:
        self.raw: Final = raw
        self.method: Final = request.method.decode("ascii")
        self.path, _, self.query = request.target.decode("ascii").partition("?")
        self._headers: Final = request.headers

    def header(self, name: bytes) -> str | None:
        """Return the value of a header that comes once, or None; `name` in lower case."""
        values = [value for key, value in self._headers if key == name]
        return values[0].decode("ascii") if len(values) == 1 else None

    @property
    def wants_websocket(self) -> bool:
        """Whether the request asks for an upgrade to WebSocket, RFC 6455 §4.1."""
        return (self.header(b"upgrade") or "").lower() == "websocket"

    def check_host(self, allowed: Sequence[str]) -> None:
        """Refuse a host name that is none of ours: a rebound DNS name brings a stranger's page.

        Raises:
            BadRequest: 421.
        """
        host = _host_of(self.header(b"host") or "")
        if "*" not in allowed and host not in allowed:
            raise BadRequest(421, f"host {host!a} is not in allowed_hosts")

    def check_origin(self, allowed: Sequence[str]) -> None:
        """Refuse a web page of another origin: browsers let any page open a WebSocket.

        A program that is no browser sends no Origin. Raises BadRequest: 403.
        """
        origin = self.header(b"origin")
        if origin is None or origin in allowed or "*" in allowed:
            return
        if _host_of_origin(origin) != self.header(b"host"):
            raise BadRequest(403, f"origin {origin[:200]!a} is not in allowed_origins")

    def share_with(
        self, allowed: Sequence[str], methods: Iterable[str]
    ) -> tuple[tuple[str, str], ...]:
        """Return the headers that let pages of allowed origins read the answer (Fetch, §3.3).

        OPTIONS asks which `methods` there are.
        """
        vary = ("Vary", "Origin")
        origin = self.header(b"origin")
        if origin is None or not (origin in allowed or "*" in allowed):
            return (vary,)
        shared = (vary, ("Access-Control-Allow-Origin", origin))
        if self.method != "OPTIONS":
            return shared
        return (
            *shared,
            ("Access-Control-Allow-Methods", ", ".join(methods)),
            ("Access-Control-Allow-Headers", "*"),
            ("Access-Control-Max-Age", "600"),
        )


async def read_head(stream: trio.SocketStream) -> Head | None:
    """Read a request's head; None where the peer leaves before its end.

    Raises:
        BadRequest: 400 where it is not HTTP, 431 where it is too long.
    """
    raw = b""
    while b"\r\n\r\n" not in raw[: _MAX_HEAD_BYTES + 4]:
        if len(raw) > _MAX_HEAD_BYTES:
            raise BadRequest(431, f"the head has more than {_MAX_HEAD_BYTES} bytes")
        data = await stream.receive_some(4096)
        if not data:
            return None
        raw += data
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
    try:
        connection.receive_data(raw)
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise BadRequest(400, str(error)) from None
    if not isinstance(request, h11.Request):
        raise BadRequest(400, "not an HTTP request")
    # RFC 9110 §5.5 lets recipients treat other bytes as opaque; nothing we read needs them.
    if not all(value.isascii() for _, value in request.headers) or not request.target.isascii():
        raise BadRequest(400, "the head holds bytes that are not ASCII")
    names = [name for name, _ in request.headers]
    if names.count(b"host") > 1 or names.count(b"origin") > 1:
        raise BadRequest(400, "Host and Origin may come once")
    return Head(request, raw)


def _host_of_origin(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _host_of(authority: str) -> str:
    """Return the host of `host[:port]`, lower case and without brackets; empty where malformed."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""
