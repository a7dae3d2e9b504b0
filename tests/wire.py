"""A raw connection to a daemon's Unix socket: lines out, lines in, no client library."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from wsproto import ConnectionType, WSConnection, events


class Wire:
    """Blocking, with a timeout on everything, so that a silent daemon fails the test."""

    def __init__(self, path: Path, timeout_s: float = 10.0) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout_s)
        self.sock.connect(str(path))
        self._file = self.sock.makefile("rb")

    def send(self, *lines: bytes) -> None:
        self.sock.sendall(b"".join(line + b"\n" for line in lines))

    def receive(self) -> Any:
        """Return the next answer, parsed; None at the end of the stream."""
        line = self._file.readline()
        return json.loads(line) if line else None

    def receive_raw(self) -> bytes:
        """Return the next line as it came."""
        return self._file.readline().removesuffix(b"\n")

    def call(self, method: str, **params: Any) -> Any:
        """Return the result, or the whole answer where it is an error."""
        self.send(request(method, 1, **params))
        answer = self.receive()
        return answer.get("result", answer)

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def request(method: str, id: int | str | None = None, **params: Any) -> bytes:
    """Return a request as a line; without id a notification."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    if id is not None:
        message["id"] = id
    return json.dumps(message).encode()


class WebSocketWire:
    """A raw WebSocket, blocking: messages out, messages in, and the bytes between if wanted."""

    def __init__(self, port: int, timeout_s: float = 10.0, target: str = "/ws") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._messages: list[bytes] = []
        self._parts: list[str] = []
        self._is_open = False
        self.sock.sendall(self._ws.send(events.Request(f"127.0.0.1:{port}", target)))
        while not self._is_open:
            self._pump()

    def encode(self, message: bytes) -> bytes:
        """Return the bytes of a message."""
        return self._ws.send(events.TextMessage(data=message.decode()))

    def receive_raw(self) -> bytes:
        """Return the next message as it came."""
        while not self._messages:
            self._pump()
        return self._messages.pop(0)

    def _pump(self) -> None:
        data = self.sock.recv(65_536)
        assert data, "the daemon closed the connection"
        self._ws.receive_data(data)
        for event in self._ws.events():
            if isinstance(event, events.TextMessage):
                self._parts.append(event.data)
                if event.message_finished:
                    self._messages.append("".join(self._parts).encode())
                    self._parts.clear()
            else:
                assert isinstance(event, events.AcceptConnection), event
                self._is_open = True

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> WebSocketWire:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
