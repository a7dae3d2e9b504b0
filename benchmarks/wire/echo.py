"""The least that a WebSocket server on Trio can do: trio-websocket, and each message back.

Run as `python -m benchmarks.wire.echo FILE`; it writes its port to the file.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio
import trio_websocket

from benchmarks.wire.recordd import websocket_site
from benchmarks.wire.sites import Site

__all__ = ["running_websocket_echo"]

_READY_TIMEOUT_S: Final = 30.0


@contextlib.contextmanager
def running_websocket_echo(folder: Path) -> Iterator[Site]:
    """Run it on a free port of 127.0.0.1."""
    path = folder / "websocket-echo.port"
    command = [sys.executable, "-m", "benchmarks.wire.echo", str(path)]
    with subprocess.Popen(command) as process:
        try:
            yield websocket_site(_wait_for_port(path), process.pid)
        finally:
            process.terminate()
            process.wait()


def _wait_for_port(path: Path) -> int:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return int(text)
        time.sleep(0.01)
    raise RuntimeError("the WebSocket echo server did not start")


async def _echo(request: trio_websocket.WebSocketRequest) -> None:
    stream = await request.accept()
    with contextlib.suppress(trio_websocket.ConnectionClosed):
        while True:
            await stream.send_message(await stream.get_message())


async def _serve(path: Path) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, _echo, "127.0.0.1", 0, None)
        path.write_text(f"{server.port}\n")


if __name__ == "__main__":
    trio.run(_serve, Path(sys.argv[1]))
