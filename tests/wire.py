"""A raw connection to a daemon's Unix socket: lines out, lines in, no client library."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any


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
