"""A daemon in a process of its own, and single requests to it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

__all__ = ["call", "encode_request", "run_until_left", "running_daemon"]

_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 60.0


@contextlib.contextmanager
def running_daemon(folder: Path) -> Iterator[str]:
    """Run `recordd serve` on `folder`, Unix socket only; give the socket's path.

    Its settings are the defaults, whatever the environment says, but for retention: rows
    loaded with old times must stay.

    Raises:
        RuntimeError: when it does not start, or has refused a request by the end.
    """
    folder.mkdir(exist_ok=True)
    path = str(folder / "s")
    command = [
        *(sys.executable, "-m", "recordd", "serve"),
        *("--socket", path),
        *("--database", str(folder / "recordd.db")),
        *("--retention", "off"),
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECORDD_")}
    environment["RECORDD_LISTEN"] = ""
    with run_until_left(command, path, environment):
        yield path
        if refused := call(path, "server.stats")["request_errors"]:
            raise RuntimeError(f"{refused} requests were refused: their timings mean nothing")


@contextlib.contextmanager
def run_until_left(
    command: Sequence[str], path: str, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server that listens on the Unix socket `path`; SIGTERM and wait at the end.

    Raises:
        RuntimeError: when it ends before it listens, or does not listen in time.
    """
    with (
        Path(f"{path}.log").open("ab") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_until_it_listens(process, path)
            yield
        finally:
            process.terminate()
            process.wait(_STOP_TIMEOUT_S)


def encode_request(method: str, id: int = 1, **params: Any) -> bytes:
    """Return a JSON-RPC request as a line."""
    message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
    return msgspec.json.encode(message) + b"\n"


def call(path: str, method: str, **params: Any) -> Any:
    """Ask one thing on a connection of its own; return the result.

    Raises:
        RuntimeError: when the daemon refuses: then no timing would mean anything.
    """
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as answers:
        sock.connect(path)
        sock.sendall(encode_request(method, **params))
        answer = msgspec.json.decode(answers.readline())
    if "result" not in answer:
        raise RuntimeError(f"{method}: {answer}")
    return answer["result"]


def _wait_until_it_listens(process: subprocess.Popen[bytes], path: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _listens(path):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"did not start:\n{Path(f'{path}.log').read_text()}")
        time.sleep(0.01)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0
