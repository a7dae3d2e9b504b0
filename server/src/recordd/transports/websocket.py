"""WebSocket: one message a text frame. The port hands a connection over once it asks for it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio
import trio_websocket
from wsproto.utilities import LocalProtocolError

from recordd.connections.lane import Lane
from recordd.core import Core
from recordd.methods.peer import Peer
from recordd.session.session import Session, open_session
from recordd.system.reminders import Reminder
from recordd.transports.frames import encode_head, join_frames
from recordd.transports.inbox import Inbox
from recordd.transports.peers import find_peer
from recordd.transports.sending import COPIED_BYTES
from recordd.transports.shared_stream import SharedStream
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.framing import Framing

__all__ = ["serve_websocket"]

logger: Final = logging.getLogger(__name__)

_CLOSE_NORMAL: Final = 1000
_CLOSE_GOING_AWAY: Final = 1001
_CLOSE_UNSUPPORTED: Final = 1003
_CLOSE_PROTOCOL_ERROR: Final = 1002
_CLOSE_NO_TEXT: Final = 1007
_CLOSE_POLICY: Final = 1008
_CLOSE_TOO_LARGE: Final = 1009
_DEPARTURES: Final = (
    LocalProtocolError,
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
_CLOSE_S: Final = 3.0
"""How long to wait for a peer's part of the closing handshake."""


async def serve_websocket(stream: trio.SocketStream, head: bytes, core: Core) -> None:
    """Serve one connection to its end; `head` is what was read of it, an upgrade request."""
    shared = SharedStream(stream, head, core)
    try:
        async with trio.open_nursery() as nursery:
            connection = await _shake_hands(nursery, shared, core)
            if connection is not None:
                peer = find_peer(stream, "websocket")
                await _converse(connection, shared, core, peer, nursery)
            nursery.cancel_scope.cancel()
    except* _DEPARTURES as gone:
        # The library's own task answers a ping that crossed our close, and may not; and the
        # peer may leave at any moment, in the handshake too.
        logger.debug("a WebSocket ended out of turn: %r", gone.exceptions[0])
    finally:
        shared.forget_descriptor()


async def _converse(
    connection: trio_websocket.WebSocketConnection,
    stream: SharedStream,
    core: Core,
    peer: Peer,
    nursery: trio.Nursery,
) -> None:
    """Carry messages between the connection and a session until either is done."""
    close_code, refusal = _CLOSE_NORMAL, None
    sender, watched = _FrameSender(connection, stream), _WebSocketConnection(stream.inbox)
    fragments = core.settings.max_message_fragments
    stream.on_flood = lambda: watched.refuse_flood(fragments)
    stream.find_fault = lambda: _find_fault(connection)
    stream.hand_on()
    idle_ms = core.settings.idle_timeout_ms
    async with open_session(
        core, peer, sender, Framing.FRAME, watched, idle_timeout_ms=idle_ms
    ) as session:
        pinger = None
        if core.settings.ping_interval_ms is not None:
            interval_s = core.settings.ping_interval_ms / 1000
            pinger = _Pinger(connection, stream, session, watched, interval_s, nursery)
        try:
            close_code, refusal = await _receive_messages(connection, session, watched)
        finally:
            if pinger is not None:
                pinger.stop()
        await session.finish(refusal)
    # Shielded: when a ping crosses it the library's task fails, but the code must leave.
    with trio.move_on_after(_CLOSE_S, shield=True), contextlib.suppress(LocalProtocolError):
        await connection.aclose(close_code)


class _WebSocketConnection:
    """What the core may do to a connection."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox: Final = inbox
        self.scope: trio.CancelScope
        self.is_stopped = False
        self.receiving = trio.CancelScope()
        self.close_code = _CLOSE_GOING_AWAY
        self.refusal: RequestError | None = None

    def stop_reading(self) -> None:
        """Take no more messages; those that were taken are handled to their end."""
        self.is_stopped = True
        self.inbox.end()
        self.receiving.cancel()

    def refuse_flood(self, max_fragments: int) -> None:
        """End it: a message came in more pieces than are allowed."""
        text = f"max_message_fragments: a message has more than {max_fragments} frames"
        self.refusal = RequestError(Reason.TOO_LARGE, text)
        self.close_code = _CLOSE_POLICY
        self.stop_reading()


def _find_fault(connection: trio_websocket.WebSocketConnection) -> int | None:
    """Return the code for a peer that broke the protocol; None where it did not."""
    code = None if connection.closed is None else connection.closed.code
    return code if code in (_CLOSE_PROTOCOL_ERROR, _CLOSE_NO_TEXT) else None


class _Pinger:
    """Asks now and then whether the peer is there; ends the connection where nothing comes back.

    A peer that is slow to answer, but takes or sends something meanwhile, is there. A task
    runs only while a ping is under way.
    """

    __slots__ = (
        *("_connection", "_interval_s", "_nursery", "_reminder", "_scope", "_session"),
        *("_stream", "_watched"),
    )

    def __init__(
        self,
        connection: trio_websocket.WebSocketConnection,
        stream: SharedStream,
        session: Session,
        watched: _WebSocketConnection,
        interval_s: float,
        nursery: trio.Nursery,
    ) -> None:
        """Begin; each ping has a task in `nursery`. Before that ends, `stop`."""
        self._connection: Final = connection
        self._stream: Final = stream
        self._session: Final = session
        self._watched: Final = watched
        self._interval_s: Final = interval_s
        self._nursery: Final = nursery
        self._scope: trio.CancelScope | None = None
        self._reminder = self._remind()

    def stop(self) -> None:
        """Ask no more, nor wait for an answer."""
        self._session.core.reminders.drop(self._reminder)
        if self._scope is not None:
            self._scope.cancel()

    def _remind(self) -> Reminder:
        return self._session.core.reminders.add(
            trio.current_time() + self._interval_s, self._begin_ping
        )

    def _begin_ping(self) -> None:
        self._scope = trio.CancelScope()
        self._nursery.start_soon(self._ping, self._scope)

    async def _ping(self, scope: trio.CancelScope) -> None:
        with scope:
            if not await _answers(self._connection, self._stream, self._interval_s):
                logger.info("closed: no answer to a ping for %g s", self._interval_s)
                self._session.core.connections.cut_dead(self._session.outbox, self._watched)
        self._scope = None
        if not scope.cancel_called:
            self._reminder = self._remind()


async def _answers(
    connection: trio_websocket.WebSocketConnection, stream: SharedStream, timeout_s: float
) -> bool:
    """Tell whether the peer answers a ping in time, or is there as far as one can see."""
    asked_at = trio.current_time()
    with trio.move_on_after(timeout_s) as waiting:
        with contextlib.suppress(trio_websocket.ConnectionClosed, LocalProtocolError):
            await connection.ping()
    return not waiting.cancelled_caught or stream.moved_at >= asked_at


async def _receive_messages(
    connection: trio_websocket.WebSocketConnection, session: Session, watched: _WebSocketConnection
) -> tuple[int, RequestError | None]:
    """Hand messages to the session; return the code to close with, and what was refused."""
    limit = session.core.settings.max_message_bytes
    while True:
        messages = await watched.inbox.take()
        if watched.is_stopped:
            return watched.close_code, watched.refusal
        if messages is not None:
            await session.receive(messages)
            continue
        message: str | bytes = ""
        try:
            with trio.CancelScope() as watched.receiving:
                message = await connection.get_message()
        except trio_websocket.ConnectionClosed:
            session.outbox.discard()
            return _CLOSE_NORMAL, None
        if isinstance(message, bytes):
            return _CLOSE_UNSUPPORTED, None
        encoded = message.encode()
        if len(encoded) > limit:
            text = f"a message has {len(encoded)} bytes, limit {limit}"
            return _CLOSE_TOO_LARGE, RequestError(Reason.TOO_LARGE, text)
        if not watched.receiving.cancelled_caught:
            await session.receive((encoded,))


class _FrameSender(Lane):
    """A `Sender`: each message is a text frame.

    The library keeps the connection and says when that is closed. It does not send these: it
    would encode each message anew, and let others run for each.
    """

    __slots__ = (
        "_connection",
        "_has_begun",
        "_stream",
    )

    def __init__(
        self, connection: trio_websocket.WebSocketConnection, stream: SharedStream
    ) -> None:
        super().__init__()
        self._connection: Final = connection
        self._stream: Final = stream
        self._has_begun = False
        """Whether the first of the next messages is the rest that the stream keeps by itself."""
        stream.open_lane(self)

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return join_frames(messages)

    def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
        if self._has_begun or (encoded is None and sum(map(len, messages)) > COPIED_BYTES):
            return messages
        if self._stream.has_said_close:  # nothing may follow a close frame, §5.5.1
            raise trio.BrokenResourceError
        return self._note_begun(self._stream.send_nowait(messages, encoded))

    def cut_nowait(self, messages: list[bytes], encoded: bytes, sent: int) -> list[bytes]:
        return self._note_begun(self._stream.cut_nowait(messages, sent))

    def _note_begun(self, left: list[bytes]) -> list[bytes]:
        self._has_begun = bool(left) and left[0] is self._stream.rest
        return left

    async def send(self, messages: list[bytes], note_progress: Callable[[], None]) -> bool:
        self._stream.note_progress = note_progress
        has_begun, self._has_begun = self._has_begun, False
        try:
            if has_begun:
                await self._stream.send_parts(())
            for message in messages[has_begun:]:
                if self._connection.closed is not None:
                    return False
                await self._stream.send_parts((encode_head(len(message)), message))
                note_progress()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True


async def _shake_hands(
    nursery: trio.Nursery, stream: SharedStream, core: Core
) -> trio_websocket.WebSocketConnection | None:
    """Return the open connection, or None where the handshake takes too long."""
    settings = core.settings
    with trio.move_on_after(settings.handshake_timeout_ms / 1000):
        request = await trio_websocket.wrap_server_stream(
            nursery,
            stream,
            # Counts characters; what is a little over our limit in bytes we answer.
            max_message_size=settings.max_message_bytes + 1024,
            receive_buffer_size=65_536,
        )
        return await request.accept()
    return None
