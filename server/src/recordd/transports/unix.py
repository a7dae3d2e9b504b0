"""The Unix socket: one JSON message a line.

All lines of one read are handled together, and all answers that wait leave in one send.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Final

import trio

from recordd.config.settings import ConfigurationError, refusal_to_use
from recordd.connections.lane import CLOSED, Lane
from recordd.core import Core
from recordd.session.session import Session, open_session
from recordd.system.file_lock import LockTaken, take_lock
from recordd.transports.peers import find_peer
from recordd.transports.receiving import read_nowait
from recordd.transports.sending import (
    COPIED_BYTES,
    LARGE_BYTES,
    linger,
    send_all_or_give_up,
    send_in_pieces,
    write_nowait,
    writev_nowait,
)
from recordd_protocol.errors import Reason, RecorddError, RequestError
from recordd_protocol.framing import Framing, LineBuffer

__all__ = ["SocketInUse", "open_unix_listener", "refuse_unix", "serve_unix"]

_SEND_BUFFER_BYTES: Final = 212_992
"""What Linux grants everybody (`net.core.wmem_max`), and counts double as it does its overhead:
an answer of 300 kB leaves in one write, where without it 100 kB took two and a pass of the loop
between. The system takes the memory as it is filled, not before."""

_REFUSAL_S: Final = 1.0
"""For a peer to take a refusal: it is short, and nothing is sent before it."""


class SocketInUse(RecorddError):
    """Another daemon listens on the socket."""


@contextlib.asynccontextmanager
async def open_unix_listener(path: str) -> AsyncIterator[trio.SocketListener]:
    """Listen on `path`, which only this user may open; remove it at the end.

    A lock file beside it decides who owns the path, so that of two daemons that start at
    once one is told. A socket file that nobody answers on is left over, and replaced.

    Raises:
        SocketInUse: another daemon listens there.
        ConfigurationError: the path cannot be used.
    """
    with _path_lock(path):
        sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await _remove_stale(path)
            # The mode must be right from the first moment: a chmod would come too late.
            old_umask = os.umask(0o177)
            try:
                await sock.bind(path)
            finally:
                os.umask(old_umask)
            inode = os.stat(path).st_ino
            sock.listen(128)
        except OSError as error:
            sock.close()
            raise refusal_to_use(f"socket: {path}: {error.strerror}", error) from None
        async with trio.SocketListener(sock) as listener:
            try:
                yield listener
            finally:
                with contextlib.suppress(OSError):
                    if os.stat(path).st_ino == inode:
                        os.unlink(path)


async def serve_unix(stream: trio.SocketStream, core: Core) -> None:
    """Serve one connection until it ends."""
    refusal = None
    with contextlib.suppress(OSError):  # what there is will do
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    sender, connection = _LineSender(stream), _UnixConnection(stream)
    idle_ms = core.settings.unix_idle_timeout_ms
    try:
        async with open_session(
            core,
            find_peer(stream, "unix"),
            sender,
            Framing.LINE,
            connection,
            idle_timeout_ms=idle_ms,
        ) as session:
            refusal = await _receive_lines(stream, session)
            await session.finish(refusal)
    finally:
        sender.close()
    if refusal is not None or core.connections.is_stopping:
        await linger(stream)


class _UnixConnection:
    """What the core may do to a connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream: Final = stream
        self.scope: trio.CancelScope

    def stop_reading(self) -> None:
        """Make what is already received the last there is; a cancellation could lose it."""
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_RD)


async def refuse_unix(stream: trio.SocketStream, core: Core, reason: str) -> None:
    """Tell a connection that there are too many, also where it sends first."""
    refusal = RequestError(Reason.OVERLOADED, reason)
    reply = core.dialects[Framing.LINE][-1].refuse_message(refusal)
    if reply is not None and await send_all_or_give_up(stream, reply + b"\n", _REFUSAL_S):
        await linger(stream)


class _LineSender(Lane):
    """A `Sender`: each message is a line, or several whole ones."""

    __slots__ = ("_stream",)

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream.socket.fileno())
        self._stream: Final = stream

    def close(self) -> None:
        """Send no more: the stream is about to be closed."""
        self.set_way(CLOSED)

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return b"%b\n" % b"\n".join(messages)

    def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
        if encoded is None:
            if (size := sum(map(len, messages))) > COPIED_BYTES:
                return messages
            if size >= LARGE_BYTES and len(messages) == 1:
                return self._send_alone(messages)
            encoded = self.encode(messages)
        sent = write_nowait(self._way, encoded)
        return [] if sent == len(encoded) else self.cut_nowait(messages, encoded, sent)

    def cut_nowait(self, messages: list[bytes], encoded: bytes, sent: int) -> list[bytes]:
        # The line end is not part of a message, also where it is all that is left.
        return [encoded[sent:-1]]

    def _send_alone(self, messages: list[bytes]) -> list[bytes]:
        (message,) = messages
        sent = writev_nowait(self._way, (message, b"\n"))
        return [] if sent > len(message) else [message[sent:]]

    async def send(self, messages: list[bytes], note_progress: Callable[[], None]) -> bool:
        if sum(map(len, messages)) <= COPIED_BYTES:
            data = b"%b\n" % b"\n".join(messages)
            return await send_in_pieces(self._stream, data, note_progress)
        for message in messages:
            for part in (message, b"\n"):
                if not await send_in_pieces(self._stream, part, note_progress):
                    return False
        return True


async def _receive_lines(stream: trio.SocketStream, session: Session) -> RequestError | None:
    """Hand lines to the session until the peer is done; return what is wrong with the last.

    Half a line at the end is no message; the peer will not wait for its answer.
    """
    reader = _LineReader(stream.socket.fileno(), session)
    readiness = session.core.readiness
    try:
        while not reader.is_ended:
            await (await readiness.step_until(reader.descriptor, reader.step))
    except trio.BrokenResourceError:
        session.outbox.discard()
        return None
    return reader.refusal


class _LineReader:
    """Reads what has come and hands its lines to the session."""

    __slots__ = ("_lines", "_session", "descriptor", "is_ended")

    def __init__(self, descriptor: int, session: Session) -> None:
        self.descriptor: Final = descriptor
        self.is_ended = False
        """Whether nothing more is to be read."""
        self._session: Final = session
        self._lines: Final = LineBuffer(session.core.settings.max_message_bytes)

    def step(self) -> Awaitable[None] | None:
        """Read once; return what is to be awaited before the next time, or the end."""
        if (data := read_nowait(self.descriptor)) is None:
            return None  # what woke us is gone again
        if not data:
            return self._end(None)
        waiting = self._session.begin_receive(self._lines.feed(data))
        return self._end(waiting) if self._lines.overflowed else waiting

    @property
    def refusal(self) -> RequestError | None:
        """Why the last message was not taken, where it was not."""
        if not self._lines.overflowed:
            return None
        limit = self._session.core.settings.max_message_bytes
        return RequestError(Reason.TOO_LARGE, f"a message has more than {limit} bytes")

    def _end(self, waiting: Awaitable[None] | None) -> Awaitable[None]:
        self.is_ended = True
        return _go_on() if waiting is None else waiting


async def _go_on() -> None:
    """Wait for nothing."""


@contextlib.contextmanager
def _path_lock(path: str) -> Iterator[None]:
    try:
        descriptor = take_lock(path)
    except LockTaken:
        raise SocketInUse(f"{path}: another daemon listens there") from None
    except OSError as error:
        raise refusal_to_use(f"socket: {path}.lock: {error.strerror}", error) from None
    try:
        yield
    finally:
        os.close(descriptor)


async def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody answers on.

    Raises:
        SocketInUse: when somebody does.
        ConfigurationError: when the file is no socket.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigurationError(f"socket: {path}: there is a file that is no socket")
    except FileNotFoundError:
        return
    probe = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with trio.fail_after(1):
            await probe.connect(path)
    except OSError as error:
        if error.errno != errno.ECONNREFUSED:
            raise
        os.unlink(path)
    except trio.TooSlowError:
        raise SocketInUse(f"{path}: somebody listens there") from None
    else:
        raise SocketInUse(f"{path}: somebody listens there")
    finally:
        probe.close()
