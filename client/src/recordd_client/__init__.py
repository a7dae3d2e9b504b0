"""Thin client of recordd: its methods are the protocol's own.

    async with open_client() as db:        with connect() as db:
        await db.set("temp.vienna", 21.5)      db.set("temp.vienna", 21.5)
        page = await db.query_latest("temp.*")     page = db.query_latest("temp.*")

Modules named `trio_…` are the async client's; Trio is imported only where `open_client` is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
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
    from recordd_client.trio_client import AsyncClient, open_client

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


_MODULES: Final = {
    **dict.fromkeys(("AsyncClient", "open_client"), "trio_client"),
    **dict.fromkeys(("Client", "connect"), "blocking"),
    **dict.fromkeys(("Resync", "Update"), "following"),
    **dict.fromkeys(("Page", "Row"), "rows"),
}
"""The module of a name that is not in `errors`."""


def __getattr__(name: str) -> Any:
    """Import the module of one name: all of them take longer than a command of `recordctl`.

    A command has to handle its signals before that.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"recordd_client.{_MODULES.get(name, 'errors')}")
    found = globals()[name] = getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
