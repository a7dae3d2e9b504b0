"""Fixtures for the clients."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.servers import (
    Serve,
    Server,
    StartServer,
)


@pytest.fixture
def start_server(short_path: Path) -> Iterator[StartServer]:
    """Return a function that starts a server, on a Unix socket `s` or on TCP."""
    started: list[Server] = []

    def start(serve: Serve, *, tcp: bool = False) -> Server:
        listener = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0) if tcp else str(short_path / "s"))
        server = Server(listener, serve)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()
