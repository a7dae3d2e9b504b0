"""A daemon's core in this process: real parts, and socket pairs to speak to it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import trio

from recordd.config.settings import Configuration, load
from recordd.core import Core, Extension, build_core
from recordd.extending.backend import PersistenceBackend
from recordd.methods.table import with_methods
from recordd.persistence import RetentionPolicy, with_persistence
from recordd.persistence.memory import MemoryBackend
from recordd.running import running
from recordd.transports.unix import serve_unix
from recordd.writing.writer import Writer
from tests.wire import request


def configure(**settings: Any) -> Configuration:
    """A configuration with some settings of its own and no environment; any `ts` is old enough."""
    flags = {key: str(value) for key, value in settings.items()}
    return load({"retention": "off", "min_ts": "0", **flags}, {}, None)


class Peer:
    """The client's end of a connection, line by line."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self._received = b""

    async def send(self, *lines: bytes) -> None:
        await self.stream.send_all(b"".join(line + b"\n" for line in lines))

    async def receive(self) -> Any:
        """Return the next answer, parsed; None at the end of the stream."""
        line = await self.receive_raw()
        return json.loads(line) if line else None

    async def receive_raw(self) -> bytes:
        """Return the next line as it came; empty at the end of the stream."""
        while b"\n" not in self._received:
            data = await self.stream.receive_some(65_536)
            if not data:
                return b""
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    async def call(self, method: str, **params: Any) -> Any:
        """Return the result, or the whole answer where it is an error."""
        await self.send(request(method, 1, **params))
        answer = await self.receive()
        return answer.get("result", answer)


class CoreInMemory:
    """The core, its writer, and a way to connect to it."""

    def __init__(self, core: Core, writer: Writer, nursery: trio.Nursery) -> None:
        self.core = core
        self.writer = writer
        self.opened: list[trio.socket.SocketType] = []
        self._nursery = nursery

    def connect(self) -> Peer:
        near, far = trio.socket.socketpair()
        self.opened.append(near)
        self._nursery.start_soon(self._serve, trio.SocketStream(far))
        return Peer(trio.SocketStream(near))

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            await serve_unix(stream, self.core)


@contextlib.asynccontextmanager
async def running_core(
    backend: PersistenceBackend | None = None,
    configuration: Configuration | None = None,
    extensions: Iterable[Extension] | None = None,
) -> AsyncIterator[CoreInMemory]:
    """Run a core as the daemon does; with `extensions` given, with those and no others.

    Storage that fails for good ends the block, and is raised.
    """
    if extensions is None:
        backend = backend or MemoryBackend()
        policy = RetentionPolicy(interval_ms=86_400_000, keep_latest=True)
        extensions = [with_persistence(backend, policy)]
    core = build_core(configuration or configure(), [with_methods, *extensions])
    block = trio.CancelScope()
    async with running(core, on_fault=block.cancel) as writer:
        with block:
            async with trio.open_nursery() as connections:
                inside = CoreInMemory(core, writer, connections)
                try:
                    yield inside
                finally:
                    connections.cancel_scope.cancel()
                    for sock in inside.opened:
                        sock.close()
