"""Servers in a thread that behave as a daemon seldom does."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

Serve = Callable[[socket.socket], None]
StartServer = Callable[..., "Server"]

WELCOME: Final = {
    "version": "1.0",
    "server": "recordd",
    "server_version": "0",
    "permissions": [],
    "writable_records": [],
    "max_subscriptions": 0,
    "authenticated": True,
    "rev": 0,
    "epoch": "e",
    "max_message_bytes": 4 << 20,
}
WRITTEN: Final = {"rev": 1, "ts": 2}
SUBSCRIBED: Final = {"subscription": "s", "rev": 0, "epoch": "e", "values": 0}
EVENT: Final = json.dumps(
    {
        "jsonrpc": "2.0",
        "method": "record.event",
        "params": {"subscription": "s", "name": "a", "value": 7, "ts": 1, "rev": 1},
    }
)


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


def send(connection: socket.socket, *lines: str) -> None:
    connection.sendall("".join(line + "\n" for line in lines).encode())


@contextlib.contextmanager
def interrupted_when(event: threading.Event) -> Iterator[None]:
    """Do what Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def send_signal() -> None:
        event.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    was = signal.signal(signal.SIGUSR1, interrupt)
    sending = threading.Thread(target=send_signal)
    sending.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        sending.join()
        signal.signal(signal.SIGUSR1, was)
