"""A daemon in a process of its own, and single requests to it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

__all__ = [
    "Daemon",
    "call",
    "daemon_command",
    "daemon_environment",
    "encode_request",
    "find_port",
    "run_until_left",
    "running_daemon",
    "running_full_daemon",
]

_RECORDD: Final = (sys.executable, "-m", "recordd")
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 60.0


class Daemon(msgspec.Struct, frozen=True):
    """A daemon that runs: its Unix socket, its port on 127.0.0.1 (0: none), its process."""

    path: str
    port: int
    pid: int


@contextlib.contextmanager
def running_daemon(folder: Path) -> Iterator[str]:
    """Run a daemon on `folder`, Unix socket only; give the socket's path."""
    with running_full_daemon(folder, listen="") as daemon:
        yield daemon.path


@contextlib.contextmanager
def running_full_daemon(
    folder: Path, program: Sequence[str] = _RECORDD, **settings: str
) -> Iterator[Daemon]:
    """Run `recordd serve` on `folder`, on a Unix socket and a free port.

    `program` is the command of another build, where not this one's is meant.
    Its settings are the defaults, whatever the environment says, but for those given, for
    retention and for `min_ts`: rows with old times must be taken, and stay.

    Raises:
        RuntimeError: when it does not start, or has refused a request by the end.
    """
    folder.mkdir(exist_ok=True)
    path = str(folder / "s")
    settings = {"listen": "127.0.0.1:0", **settings}
    command, environment = daemon_command(folder, program), daemon_environment(**settings)
    with run_until_left(command, path, environment) as pid:
        yield Daemon(path, find_port(path) if settings["listen"] else 0, pid)
        if refused := call(path, "server.stats")["request_errors"]:
            raise RuntimeError(f"{refused} requests were refused: their timings mean nothing")


def daemon_command(folder: Path, program: Sequence[str] = _RECORDD) -> list[str]:
    """Return the command of a daemon whose files and socket `s` are in `folder`."""
    return [
        *(*program, "serve"),
        *("--socket", str(folder / "s")),
        *("--database", str(folder / "recordd.db")),
        *("--retention", "off"),
    ]


def daemon_environment(**settings: str) -> dict[str, str]:
    """Return our environment with these settings of the daemon's, and no others."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECORDD_")}
    settings = {"min_ts": "0", **settings}
    return environment | {f"RECORDD_{key.upper()}": value for key, value in settings.items()}


@contextlib.contextmanager
def run_until_left(
    command: Sequence[str],
    path: str,
    environment: Mapping[str, str] | None = None,
    user: int | None = None,
) -> Iterator[int]:
    """Run a server that listens on the Unix socket `path`; SIGTERM and wait at the end.

    It runs as `user`, where one is given. Gives its process id.

    Raises:
        RuntimeError: when it ends before it listens, or does not listen in time.
    """
    with (
        Path(f"{path}.log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log, user=user) as process,
    ):
        try:
            _wait_until_it_listens(process, path)
            yield process.pid
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


def find_port(path: str) -> int:
    """Return the port that the system gave; the log has it once the daemon listens there.

    Raises:
        RuntimeError: the daemon does not say.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if found := re.search(r"listening on ws://[^:]+:(\d+)/ws", Path(f"{path}.log").read_text()):
            return int(found[1])
        time.sleep(0.01)
    raise RuntimeError("the daemon does not say on which port it listens")


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0
