"""Where the daemon is: `unix:///path`, or `ws://host:port/ws`."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

import msgspec

from recordd_client.errors import ConnectionFailed, InvalidValue
from recordd_protocol.addresses import default_socket_path

__all__ = [
    "MAX_MESSAGE_BYTES",
    "QUEUE_RETRY_S",
    "Address",
    "check_timeout",
    "explain",
    "find_address",
]

MAX_MESSAGE_BYTES: Final = 4 << 20
"""Longest answer that is taken; a daemon sends at most 1 MiB by default."""


QUEUE_RETRY_S: Final = 0.01
"""Where a Unix socket's queue of connections is full, `connect` does not wait (unix(7))."""

_LONGEST_TIMEOUT_S: Final = 1e8
"""Three years; the system's own clocks cannot count to infinity."""


class Address(msgspec.Struct, frozen=True):
    """A Unix socket's path, or a WebSocket's host, port and target."""

    url: str
    path: str | None = None
    host: str = ""
    port: int = 0
    target: str = ""

    @property
    def host_header(self) -> str:
        """Host and port as HTTP writes them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def find_address(url: str | None) -> Address:
    """Read a URL; without one, `RECORDD_CONNECT` or the daemon's default socket.

    Raises:
        ConnectionFailed: the URL is no address of a daemon.
    """
    url = url or os.environ.get("RECORDD_CONNECT") or f"unix://{default_socket_path(os.environ)}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConnectionFailed(f"{url}: {error}") from None
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return Address(url, path=parts.path)
    if parts.scheme == "ws" and parts.hostname:
        query = f"?{parts.query}" if parts.query else ""
        return Address(
            url, host=parts.hostname, port=port or 80, target=(parts.path or "/ws") + query
        )
    raise ConnectionFailed(f"{url}: not an address: write unix:///path or ws://host:port/ws")


def check_timeout(timeout_s: float) -> float:
    """Return a timeout that sockets take; a longer one is cut to the longest they can count.

    Raises:
        InvalidValue: the timeout is no positive number.
    """
    if not timeout_s > 0:  # NaN is not
        raise InvalidValue(f"timeout_s: a positive number of seconds, not {timeout_s}")
    return min(timeout_s, _LONGEST_TIMEOUT_S)


def explain(error: Exception) -> str:
    """Return the cause of a failed connection, in a few words."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    is_away = isinstance(error, FileNotFoundError | ConnectionRefusedError)
    return f"{text}; is recordd running?" if is_away else text
