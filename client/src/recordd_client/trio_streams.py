"""Messages over a Unix socket or a WebSocket, for the async client."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final, Protocol

import trio
import trio_websocket

from recordd_client.addresses import MAX_MESSAGE_BYTES, QUEUE_RETRY_S, Address, explain
from recordd_client.errors import ConnectionFailed, ConnectionLost
from recordd_protocol.framing import LineBuffer

__all__ = ["MessageStream", "SendFailed", "open_stream"]


class SendFailed(ConnectionLost):
    """The connection is gone: of the messages, `maybe_sent` may have left, the rest did not."""

    def __init__(self, text: str, maybe_sent: int) -> None:
        super().__init__(text, outcome_unknown=False)
        self.maybe_sent: Final = maybe_sent


class MessageStream(Protocol):
    """Whole messages in both directions."""

    async def send(self, messages: Sequence[bytes]) -> None:
        """Send messages in order; cancelled, an unknown part was sent.

        Raises:
            SendFailed: the connection is gone.
        """

    async def receive(self) -> Sequence[bytes | str]:
        """Wait for messages and return those that are there, perhaps none.

        Raises:
            ConnectionLost: the connection is gone.
        """

    async def close(self) -> None:
        """Disconnect; cancelled, without the peer's part of it."""


async def open_stream(address: Address, timeout_s: float, nursery: trio.Nursery) -> MessageStream:
    """Connect; a WebSocket's own task runs in `nursery`.

    Raises:
        ConnectionFailed: the daemon cannot be reached in time.
    """
    try:
        with trio.fail_after(timeout_s):
            stream = await _connect(address, nursery)
    except (OSError, ValueError, trio.TooSlowError, trio_websocket.HandshakeError) as error:
        raise ConnectionFailed(f"{address.url}: {_explain(error)}") from None
    return stream


async def _connect(address: Address, nursery: trio.Nursery) -> MessageStream:
    if address.path is not None:
        return _UnixStream(await _open_unix(address.path))
    tcp = await trio.open_tcp_stream(address.host, address.port)
    try:
        connection = await trio_websocket.wrap_client_stream(
            nursery,
            tcp,
            address.host_header,
            address.target,
            max_message_size=MAX_MESSAGE_BYTES,
            receive_buffer_size=65_536,
        )
    except BaseException:
        # Cancelled in the middle of the handshake, the library leaves the socket open.
        await trio.aclose_forcefully(tcp)
        raise
    return _WebSocketStream(connection, tcp)


async def _open_unix(path: str) -> trio.SocketStream:
    """Connect, and wait for a place in the daemon's queue."""
    while True:
        stream = await trio.open_unix_socket(path)
        try:
            stream.socket.getpeername()
        except OSError:
            # EAGAIN: the queue was full. Trio takes that for a connection under way.
            await stream.aclose()
            await trio.sleep(QUEUE_RETRY_S)
        else:
            return stream


class _UnixStream:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream: Final = stream
        self._lines: Final = LineBuffer(MAX_MESSAGE_BYTES)

    async def send(self, messages: Sequence[bytes]) -> None:
        data = b"".join([message + b"\n" for message in messages])
        sent = 0
        try:
            while sent < len(data):  # the stream's own `send_all` does not tell how far it came
                sent += await self._stream.socket.send(memoryview(data)[sent:])
        except (OSError, trio.ClosedResourceError):
            # A line without its end is no message.
            raise SendFailed("the daemon is gone", data.count(b"\n", 0, sent)) from None

    async def receive(self) -> Sequence[bytes]:
        try:
            data = await self._stream.receive_some(65_536)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise _lost("the connection broke") from None
        if not data:
            raise _lost("the daemon closed the connection")
        lines = self._lines.feed(data)
        if self._lines.overflowed:
            raise _lost(f"the daemon sent more than {MAX_MESSAGE_BYTES} bytes in one message")
        return lines

    async def close(self) -> None:
        await self._stream.aclose()


class _WebSocketStream:
    def __init__(
        self, connection: trio_websocket.WebSocketConnection, tcp: trio.SocketStream
    ) -> None:
        self._connection: Final = connection
        self._tcp: Final = tcp

    async def send(self, messages: Sequence[bytes]) -> None:
        sent = 0
        try:
            for message in messages:
                await self._connection.send_message(message.decode())
                sent += 1
        except trio_websocket.ConnectionClosed as error:
            # A frame that did not leave whole is no message.
            raise SendFailed(f"the WebSocket is closed: {error.reason}", sent) from None

    async def receive(self) -> Sequence[bytes | str]:
        try:
            return (await self._connection.get_message(),)
        except trio_websocket.ConnectionClosed as error:
            raise _lost(f"the WebSocket is closed: {error.reason}") from None

    async def close(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                # Unread messages would hide the peer's farewell.
                nursery.start_soon(self._drop_messages)
                await self._connection.aclose()
                nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(self._tcp)

    async def _drop_messages(self) -> None:
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            while True:
                await self._connection.get_message()


def _lost(text: str) -> ConnectionLost:
    """The client adds, call by call, whether the outcome is unknown."""
    return ConnectionLost(text, outcome_unknown=False)


def _explain(error: Exception) -> str:
    if isinstance(error, trio.TooSlowError):
        return "no answer"
    if isinstance(error, trio_websocket.ConnectionRejected):
        body = (error.body or b"").decode(errors="replace").strip()
        return f"refused with HTTP {error.status_code}: {body}"
    return explain(error)
