"""WebSocket: one message a text frame. The port hands a connection over once it asks for it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio
import trio_websocket
from wsproto.utilities import LocalProtocolError

from recordd.core import Core
from recordd.methods.peer import Peer
from recordd.session.session import Session, open_session
from recordd.transports.frames import FrameCounter, cut_frames, encode_head, join_frames
from recordd.transports.peers import find_peer
from recordd.transports.sending import (
    CLOSED,
    COPIED_BYTES,
    LARGE_BYTES,
    PIECE_BYTES,
    write_nowait,
    writev_nowait,
)
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
_CLOSE_FRAME: Final = b"\x88"
"""How the library's begin, which it sends by themselves."""

_CLOSE_S: Final = 3.0
"""How long to wait for a peer's part of the closing handshake."""


async def serve_websocket(stream: trio.SocketStream, head: bytes, core: Core) -> None:
    """Serve one connection to its end; `head` is what was read of it, an upgrade request."""
    shared = _SharedStream(stream, head, core)
    try:
        async with trio.open_nursery() as nursery:
            connection = await _shake_hands(nursery, shared, core)
            if connection is not None:
                await _converse(connection, shared, core, find_peer(stream, "websocket"))
            nursery.cancel_scope.cancel()
    except* _DEPARTURES as gone:
        # The library's own task answers a ping that crossed our close, and may not; and the
        # peer may leave at any moment, in the handshake too.
        logger.debug("a WebSocket ended out of turn: %r", gone.exceptions[0])
    finally:
        shared.forget_descriptor()


async def _converse(
    connection: trio_websocket.WebSocketConnection, stream: _SharedStream, core: Core, peer: Peer
) -> None:
    """Carry messages between the connection and a session until either is done."""
    close_code, refusal = _CLOSE_NORMAL, None
    sender, watched = _FrameSender(connection, stream), _WebSocketConnection()
    fragments = core.settings.max_message_fragments
    stream.on_flood = lambda: watched.refuse_flood(fragments)
    stream.find_fault = lambda: _find_fault(connection)
    stream.hand_on()
    idle_ms = core.settings.idle_timeout_ms
    async with open_session(
        core, peer, sender, Framing.FRAME, watched, idle_timeout_ms=idle_ms
    ) as session:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ping, connection, stream, session, watched)
            close_code, refusal = await _receive_frames(connection, session, watched)
            nursery.cancel_scope.cancel()
        await session.finish(refusal)
    # Shielded: when a ping crosses it the library's task fails, but the code must leave.
    with trio.move_on_after(_CLOSE_S, shield=True), contextlib.suppress(LocalProtocolError):
        await connection.aclose(close_code)


class _WebSocketConnection:
    """What the core may do to a connection."""

    def __init__(self) -> None:
        self.scope: Final = trio.CancelScope()
        self.is_stopped = False
        self.receiving = trio.CancelScope()
        self.close_code = _CLOSE_GOING_AWAY
        self.refusal: RequestError | None = None

    def stop_reading(self) -> None:
        """Take no more messages; those that were taken are handled to their end."""
        self.is_stopped = True
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


async def _ping(
    connection: trio_websocket.WebSocketConnection,
    stream: _SharedStream,
    session: Session,
    watched: _WebSocketConnection,
) -> None:
    """Ask now and then whether the peer is there; end the connection where nothing comes back.

    A peer that is slow to answer, but takes or sends something meanwhile, is there.
    """
    core = session.core
    if core.settings.ping_interval_ms is None:
        return
    interval_s = core.settings.ping_interval_ms / 1000
    while True:
        await trio.sleep(interval_s)
        asked_at = trio.current_time()
        with trio.move_on_after(interval_s) as waiting:
            with contextlib.suppress(trio_websocket.ConnectionClosed, LocalProtocolError):
                await connection.ping()
        if waiting.cancelled_caught and stream.moved_at < asked_at:
            logger.info("closed: no answer to a ping for %g s", interval_s)
            core.connections.cut_dead(session.outbox, watched)


async def _receive_frames(
    connection: trio_websocket.WebSocketConnection, session: Session, watched: _WebSocketConnection
) -> tuple[int, RequestError | None]:
    """Hand frames to the session; return the code to close with, and what was refused."""
    limit = session.core.settings.max_message_bytes
    while not watched.is_stopped:
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
    return watched.close_code, watched.refusal


class _FrameSender:
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
        self, connection: trio_websocket.WebSocketConnection, stream: _SharedStream
    ) -> None:
        self._connection: Final = connection
        self._stream: Final = stream
        self._has_begun = False
        """Whether the first of the next messages is the rest that the stream keeps by itself."""

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return join_frames(messages)

    def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
        if self._has_begun or (encoded is None and sum(map(len, messages)) > COPIED_BYTES):
            return messages
        if self._stream.has_said_close:  # nothing may follow a close frame, §5.5.1
            raise trio.BrokenResourceError
        left = self._stream.send_nowait(messages, encoded)
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
    nursery: trio.Nursery, stream: _SharedStream, core: Core
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


class _SharedStream(trio.abc.HalfCloseableStream):
    """A stream whose first bytes were read already, and that two send on: the library and we.

    It says when it gets something out, counts frames on their way in, and hands them on in
    turns where there are many. What is sent goes out whole before anything else does.
    """

    __slots__ = (
        "_descriptor",
        "_frames",
        "_head",
        "_is_open",
        "_received",
        "_senders",
        "_sending",
        "_stream",
        "_turns",
        "find_fault",
        "has_said_close",
        "moved_at",
        "note_progress",
        "on_flood",
        "rest",
    )

    def __init__(self, stream: trio.SocketStream, head: bytes, core: Core) -> None:
        self._stream: Final = stream
        self._descriptor = stream.socket.fileno()
        self._head, end, frames = head.partition(b"\r\n\r\n")
        self._head += end
        self._received = frames  # and not handed on yet
        self._is_open: Final = trio.Event()
        self._turns: Final = core.turns
        self._frames: Final = FrameCounter(core.settings.max_message_fragments)
        self._sending: Final = trio.StrictFIFOLock()
        self._senders = 0
        """Tasks that send or wait for their turn to."""
        self.rest = b""
        """Of frames that are out in part: it goes out before anything else."""
        self.note_progress: Callable[[], None] = lambda: None
        self.on_flood: Callable[[], None] = lambda: None
        self.find_fault: Callable[[], int | None] = lambda: None
        self.has_said_close = False
        self.moved_at = trio.current_time()
        """When something came in, or a piece of something large went out."""

    def hand_on(self) -> None:
        """Hand on frames from now: the handshake is done, and somebody listens to floods."""
        self._is_open.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._head:
            await trio.lowlevel.checkpoint()
            head, self._head = self._head, b""
            return head
        # A client may send on before it has our answer: until the library has sent that, it
        # takes frames for a part of the handshake and drops them.
        await self._is_open.wait()
        if self._received:
            await self._turns.next()
        else:
            self._received = bytes(await self._stream.receive_some(max_bytes))
            self.moved_at = trio.current_time()
        end = self._frames.cut(self._received)
        if self._frames.is_over:
            return await self._drop_all()
        data, self._received = self._received[:end], self._received[end:]
        return data

    async def _drop_all(self) -> bytes:
        """Read on for nothing while the connection is closed: the peer has to be told first."""
        self.on_flood()
        while await self._stream.receive_some(65_536):
            pass
        return b""

    def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
        """Send as frames what the system takes at once; return what is left.

        `encoded` are the frames, where the caller has them.

        The rest of a frame that is out in part comes first; it is kept here, and whoever
        sends next begins with it. Nothing is sent while there is one from before.

        Raises:
            trio.BrokenResourceError: the peer will take no more.
        """
        if self.rest or self._senders:
            return messages
        if encoded is None and len(messages) == 1 and len(messages[0]) >= LARGE_BYTES:
            head = encode_head(len(messages[0]))
            size = len(head) + len(messages[0])
            sent = writev_nowait(self._descriptor, (head, messages[0]))
        else:
            data = join_frames(messages) if encoded is None else encoded
            size = len(data)
            sent = write_nowait(self._descriptor, data)
        if sent == size:
            return []
        self.rest, left = cut_frames(messages, sent)
        return [self.rest, *left] if self.rest else left

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.has_said_close = self.has_said_close or data[:1] == _CLOSE_FRAME
        await self.send_parts((data,))

    async def send_parts(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Send what was begun before, and then these with nothing in between.

        Cancelled, what is left of these is the rest that goes out next: the library gives up
        pings, and half a frame would end the conversation.
        """
        self._senders += 1
        try:
            async with self._sending:
                await self._send_whole(memoryview(b"".join((self.rest, *parts))))
        finally:
            self._senders -= 1

    async def _send_whole(self, data: memoryview) -> None:
        try:
            while data:
                is_long = len(data) >= PIECE_BYTES
                sent = write_nowait(self._descriptor, data)
                data = data[sent:]
                if sent:
                    self.note_progress()
                    if is_long:  # the system takes what is small for a dead peer
                        self.moved_at = trio.current_time()
                if data:
                    await trio.lowlevel.wait_writable(self._stream.socket)
        finally:
            self.rest = bytes(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close; who broke the protocol is told so first, which the library leaves out."""
        code = None if self.has_said_close else self.find_fault()
        if code is not None:
            departed = (trio.BrokenResourceError, trio.ClosedResourceError)
            with trio.move_on_after(_CLOSE_S), contextlib.suppress(*departed):
                await self.send_all(_CLOSE_FRAME + b"\x02" + code.to_bytes(2, "big"))
        self.forget_descriptor()
        await self._stream.aclose()

    def forget_descriptor(self) -> None:
        """Send no more: the stream is about to be closed."""
        self._descriptor = CLOSED
