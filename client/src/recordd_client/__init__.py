"""Thin client of recordd: its methods are the protocol's own.

    async with open_client() as db:        with connect() as db:
        await db.set("temp.vienna", 21.5)      db.set("temp.vienna", 21.5)
        page = await db.query_latest("temp.*")     page = db.query_latest("temp.*")

Trio is imported only where `open_client` is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recordd_client.blocking import Client, connect
from recordd_client.errors import (
    CallTimeout,
    ClientError,
    Conflict,
    ConnectionFailed,
    ConnectionLost,
    Denied,
    Expired,
    InternalError,
    InvalidParams,
    InvalidRequest,
    InvalidValue,
    MethodNotFound,
    NotConfigured,
    NotFound,
    Overloaded,
    ParseError,
    ProtocolError,
    QueryTimeout,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
    VersionMismatch,
)
from recordd_client.following import Resync, Update
from recordd_client.rows import Page, Row

if TYPE_CHECKING:
    from recordd_client.aio import AsyncClient, open_client

__all__ = [
    "AsyncClient",
    "CallTimeout",
    "Client",
    "ClientError",
    "Conflict",
    "ConnectionFailed",
    "ConnectionLost",
    "Denied",
    "Expired",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "InvalidValue",
    "MethodNotFound",
    "NotConfigured",
    "NotFound",
    "Overloaded",
    "Page",
    "ParseError",
    "ProtocolError",
    "QueryTimeout",
    "Refused",
    "Resync",
    "Row",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Update",
    "VersionMismatch",
    "connect",
    "open_client",
]


def __getattr__(name: str) -> Any:
    """Import the async side when it is asked for: Trio takes longer than a command."""
    if name in ("AsyncClient", "open_client"):
        from recordd_client import aio

        return getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
