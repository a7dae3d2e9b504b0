"""Servers in a thread, which do what a daemon seldom does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

Serve = Callable[[socket.socket], None]


class Server(threading.Thread):
    """Serves connections one after the other, with a function, until it is closed."""

    def __init__(self, listener: socket.socket, serve: Serve) -> None:
        super().__init__()
        self.connections = 0
        self._listener = listener
        self._serve = serve
        listener.listen()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                self._serve(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join(10)


def answer_to(request: str, **members: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": json.loads(request)["id"], **members})
