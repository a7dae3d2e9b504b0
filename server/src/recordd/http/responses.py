"""Answers over plain HTTP: whole ones, after which the connection closes."""

from __future__ import annotations

from typing import Final

import h11
import msgspec

__all__ = ["BadRequest", "Response", "encode_response", "make_refusal"]


class BadRequest(Exception):
    """The request cannot be served; `status` and `reason` say why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status: Final = status
        self.reason: Final = reason


class Response(msgspec.Struct, frozen=True):
    """An answer; `headers` are those beside the ones that every answer has."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def make_refusal(error: BadRequest) -> Response:
    """Return the answer to what cannot be served: the reason in a line of text."""
    body = f"{error.reason}\n".encode("ascii", "replace")
    return Response(error.status, body, "text/plain; charset=us-ascii")


def encode_response(response: Response) -> bytes:
    """Return the bytes of a whole answer."""
    connection = h11.Connection(h11.SERVER)
    headers = [
        *response.headers,
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("Connection", "close"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    sent = [
        connection.send(h11.Response(status_code=response.status, headers=headers)),
        connection.send(h11.Data(data=response.body)),
        connection.send(h11.EndOfMessage()),
    ]
    return b"".join(part for part in sent if part)
