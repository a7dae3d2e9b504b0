"""Telling the service manager how we are: sd_notify(3), without a library of its own."""

from __future__ import annotations

import logging
import os
import socket
from typing import Final

__all__ = ["notify"]


logger: Final = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send `state` (`READY=1`, `STOPPING=1`) where `NOTIFY_SOCKET` says; else do nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            sock.sendall(state.encode())
    except OSError as error:
        logger.warning("the service manager cannot be told %s: %s", state, error)
