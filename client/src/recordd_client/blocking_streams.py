"""Messages over a Unix socket or a WebSocket, for the blocking client. Without Trio."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from typing import TYPE_CHECKING, Final, Protocol

from recordd_client.addresses import MAX_MESSAGE_BYTES, QUEUE_RETRY_S, Address, explain
from recordd_client.errors import ConnectionFailed, ConnectionLost
from recordd_protocol.framing import LineBuffer

if TYPE_CHECKING:
    from wsproto import WSConnection
    from wsproto.events import Event

__all__ = ["BlockingStream", "open_blocking_stream"]


class BlockingStream(Protocol):
    """Whole messages in both directions, each step with a deadline (`time.monotonic`)."""

    def send(self, message: bytes, deadline: float) -> None:
        """Send one message, whole or in vain.

        Raises:
            TimeoutError: a part was sent at most: the stream is of no more use.
            ConnectionLost: the connection is gone, perhaps since long.
        """

    def receive(self, deadline: float) -> bytes:
        """Wait for the next message and return it.

        Raises:
            TimeoutError: none came in time; it may come later.
            ConnectionLost: the connection is gone.
        """

    def close(self) -> None:
        """Disconnect. Idempotent."""


def open_blocking_stream(address: Address, timeout_s: float) -> BlockingStream:
    """Connect.

    Raises:
        ConnectionFailed: the daemon cannot be reached in time.
    """
    deadline = time.monotonic() + timeout_s
    try:
        sock = _connect(address, timeout_s)
        try:
            if address.path is not None:
                return _UnixStream(_Socket(sock))
            return _WebSocketStream(_Socket(sock), address, deadline)
        except BaseException:
            sock.close()
            raise
    except TimeoutError:
        raise ConnectionFailed(f"{address.url}: no answer") from None
    except ConnectionLost as error:
        raise ConnectionFailed(f"{address.url}: {error}") from None
    except (OSError, ValueError) as error:  # a path with NUL, a host that no name can be
        raise ConnectionFailed(f"{address.url}: {explain(error)}") from None


def _connect(address: Address, timeout_s: float) -> socket.socket:
    if address.path is None:
        sock = socket.create_connection((address.host, address.port), timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    return _connect_unix(address.path, time.monotonic() + timeout_s)


def _connect_unix(path: str, deadline: float) -> socket.socket:
    """Connect, and wait for a place in the daemon's queue."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        while True:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                sock.connect(path)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                time.sleep(QUEUE_RETRY_S)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


class _Socket:
    """A socket whose every step has a deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock: Final = sock

    def send_all(self, data: bytes, deadline: float) -> None:
        self._arm(deadline)
        try:
            self._sock.sendall(data)
        except TimeoutError:
            raise
        except OSError:
            raise _lost("the daemon is gone") from None

    def has_data(self) -> bool:
        """Tell whether there is something to receive.

        Raises:
            ConnectionLost: the daemon has hung up, and nothing can have been sent since.
        """
        self._sock.settimeout(0)
        try:
            if not self._sock.recv(1, socket.MSG_PEEK):
                raise _lost("the daemon closed the connection")
        except BlockingIOError:
            return False
        except OSError:
            raise _lost("the connection broke") from None
        return True

    def receive_some(self, deadline: float) -> bytes:
        self._arm(deadline)
        try:
            data = self._sock.recv(65_536)
        except TimeoutError:
            raise
        except OSError:
            raise _lost("the connection broke") from None
        if not data:
            raise _lost("the daemon closed the connection")
        return data

    def close(self) -> None:
        self._sock.close()

    def _arm(self, deadline: float) -> None:
        # Zero would mean non-blocking; a step past its deadline may still take ready bytes.
        remaining_s = deadline - time.monotonic()
        self._sock.settimeout(None if remaining_s == math.inf else max(0.001, remaining_s))


class _UnixStream:
    def __init__(self, sock: _Socket) -> None:
        self._sock: Final = sock
        self._buffer: Final = LineBuffer(MAX_MESSAGE_BYTES)
        self._lines: Final[list[bytes]] = []

    def send(self, message: bytes, deadline: float) -> None:
        self._sock.has_data()
        self._sock.send_all(message + b"\n", deadline)

    def receive(self, deadline: float) -> bytes:
        while not self._lines:
            self._lines.extend(reversed(self._buffer.feed(self._sock.receive_some(deadline))))
            if self._buffer.overflowed and not self._lines:
                raise _lost(f"the daemon sent more than {MAX_MESSAGE_BYTES} bytes in one message")
        return self._lines.pop()

    def close(self) -> None:
        self._sock.close()


class _WebSocketStream:
    """RFC 6455 by wsproto, which trio-websocket is built on, over a blocking socket."""

    def __init__(self, sock: _Socket, address: Address, deadline: float) -> None:
        from wsproto import ConnectionType, WSConnection, events
        from wsproto.utilities import ProtocolError

        self._events: Final = events
        self._violation: Final = ProtocolError
        self._sock: Final = sock
        self._ws: Final[WSConnection] = WSConnection(ConnectionType.CLIENT)
        self._messages: Final[list[bytes]] = []
        self._parts: Final[list[str]] = []
        self._size = 0
        self._is_open = False
        self._ended: str | None = None
        request = events.Request(host=address.host_header, target=address.target)
        try:
            hello = self._ws.send(request)
        except ProtocolError as error:
            raise _lost(f"no address of a WebSocket: {error}") from None
        self._sock.send_all(hello, deadline)
        while not self._is_open:
            if self._ended is not None:
                raise _lost(self._ended)
            self._pump(deadline)

    def send(self, message: bytes, deadline: float) -> None:
        while self._ended is None and self._sock.has_data():
            self._pump(deadline)  # pings that came meanwhile, or a farewell
        if self._ended is not None:
            raise _lost(self._ended)
        frame = self._ws.send(self._events.TextMessage(data=message.decode()))
        self._sock.send_all(frame, deadline)

    def receive(self, deadline: float) -> bytes:
        while not self._messages:
            if self._ended is not None:
                raise _lost(self._ended)
            self._pump(deadline)
        return self._messages.pop(0)

    def close(self) -> None:
        # A farewell; the peer may be gone already.
        with contextlib.suppress(OSError, ConnectionLost, self._violation):
            goodbye = self._ws.send(self._events.CloseConnection(code=1000))
            self._sock.send_all(goodbye, time.monotonic() + 1)
        self._sock.close()

    def _pump(self, deadline: float) -> None:
        """Receive from the socket and handle the events.

        Messages that came before a farewell are there to be received, also when both came
        at once: an answer may be among them.
        """
        data = self._sock.receive_some(deadline)
        try:
            self._ws.receive_data(data)
            for event in self._ws.events():
                self._take(event, deadline)
        except self._violation as error:
            raise _lost(f"the daemon broke the WebSocket's rules: {error}") from None

    def _take(self, event: Event, deadline: float) -> None:
        if isinstance(event, self._events.TextMessage):
            self._take_text(event.data, is_last=event.message_finished)
        elif isinstance(event, self._events.AcceptConnection):
            self._is_open = True
        elif isinstance(event, self._events.Ping):
            self._sock.send_all(self._ws.send(event.response()), deadline)
        elif isinstance(event, self._events.RejectConnection):
            raise _lost(f"refused with HTTP {event.status_code}")
        elif isinstance(event, self._events.CloseConnection):
            self._ended = f"the daemon closed the WebSocket: {event.code} {event.reason or ''}"

    def _take_text(self, text: str, *, is_last: bool) -> None:
        self._parts.append(text)
        self._size += len(text)
        if self._size > MAX_MESSAGE_BYTES:
            raise _lost(f"the daemon sent more than {MAX_MESSAGE_BYTES} bytes in one message")
        if is_last:
            self._messages.append("".join(self._parts).encode())
            self._parts.clear()
            self._size = 0


def _lost(text: str) -> ConnectionLost:
    """The client adds, call by call, whether the outcome is unknown."""
    return ConnectionLost(text, outcome_unknown=False)
