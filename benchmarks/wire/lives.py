"""A daemon's life: how fast it is filled, how soon it answers, what it holds in memory."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.daemon import call, daemon_command, daemon_environment, running_full_daemon
from benchmarks.wire.recordd import upgrade

__all__ = ["idle_connection_kib", "memory_mib", "start_seconds"]

_CONNECTIONS: Final = 800
_POLL_S: Final = 0.001
_TIMEOUT_S: Final = 120.0
_SETTINGS: Final = {
    "max_connections": str(_CONNECTIONS + 100),
    "max_connections_per_address": str(_CONNECTIONS + 100),
}


def start_seconds(folder: Path, program: Sequence[str]) -> float:
    """Start a daemon on `folder`; return the seconds until it has answered `record.get`.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    path = str(folder / "s")
    command, environment = daemon_command(folder, program), daemon_environment(listen="")
    with (folder / "start.log").open("wb") as log:
        started = time.perf_counter()
        with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
            try:
                while not _answers(path):
                    if process.poll() is not None or time.perf_counter() - started > _TIMEOUT_S:
                        raise RuntimeError(f"did not start:\n{(folder / 'start.log').read_text()}")
                    time.sleep(_POLL_S)
                return time.perf_counter() - started
            finally:
                process.terminate()


def memory_mib(pid: int) -> float:
    """Return how much memory a process holds."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 2**20


def idle_connection_kib(folder: Path, program: Sequence[str], *, is_websocket: bool) -> float:
    """Return by how much a new daemon grows with each connection that does nothing.

    Raises:
        RuntimeError: it does not take them all.
    """
    with (
        running_full_daemon(folder, program, **_SETTINGS) as daemon,
        contextlib.ExitStack() as stack,
    ):
        call(daemon.path, "record.count")
        before = memory_mib(daemon.pid)
        for _ in range(_CONNECTIONS):
            if is_websocket:
                stack.enter_context(_open_websocket(daemon.port))
            else:
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.connect(daemon.path)
        deadline = time.perf_counter() + _TIMEOUT_S
        while (found := call(daemon.path, "server.stats")["connections"]) <= _CONNECTIONS:
            if time.perf_counter() > deadline:
                raise RuntimeError(f"{found} connections instead of {_CONNECTIONS}")
            time.sleep(_POLL_S)
        return (memory_mib(daemon.pid) - before) * 1024 / _CONNECTIONS


def _answers(path: str) -> bool:
    if not os.path.exists(path):
        return False
    try:
        call(path, "record.get", name="accuracy::city-0001")
    except (OSError, msgspec.DecodeError):
        return False
    return True


def _open_websocket(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
    sock.sendall(upgrade(port).opening)
    head = b""
    while b"\r\n\r\n" not in head:
        if not (data := sock.recv(4096)):
            raise RuntimeError(f"the daemon refused a WebSocket: {head[:200]!r}")
        head += data
    return sock
