"""The stream under a WebSocket, on which two send: the library and we.

What comes in is the library's, but for the messages that arrive whole in one frame, as nearly
all do. Those are taken out of it before: the library needs 60 µs for one, which is most of what
a request costs. Nobody overtakes anybody: see `Inbox`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import trio

from recordd.connections.lane import CLOSED, Lane
from recordd.core import Core
from recordd.transports.frames import FrameCounter, cut_frames, encode_head, join_frames
from recordd.transports.inbox import Inbox
from recordd.transports.receiving import read_nowait
from recordd.transports.sending import LARGE_BYTES, PIECE_BYTES, write_nowait, writev_nowait

__all__ = ["SharedStream"]

_CLOSE_FRAME: Final = b"\x88"
"""How the library's begin, which it sends by themselves."""

_CLOSE_S: Final = 3.0
"""How long a peer may take to be told what it did."""


class SharedStream(trio.abc.HalfCloseableStream):
    """A stream whose first bytes were read already, and that two send on: the library and we.

    It says when it gets something out. On their way in it takes whole messages out of their
    frames, counts the other frames, and hands them on in turns where there are many. What is
    sent goes out whole before anything else does.
    """

    __slots__ = (
        "_descriptor",
        "_frames",
        "_head",
        "_is_open",
        "_lane",
        "_received",
        "_senders",
        "_sending",
        "_stream",
        "_turns",
        "find_fault",
        "has_said_close",
        "inbox",
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
        self._frames: Final = FrameCounter(
            core.settings.max_message_fragments, core.settings.max_message_bytes
        )
        self.inbox: Final = Inbox()
        """Where messages go: those that are taken out here, and the places of the library's."""
        self._sending: Final = trio.StrictFIFOLock()
        self._senders = 0
        """Tasks that send or wait for their turn to."""
        self.rest = b""
        """Of frames that are out in part: it goes out before anything else."""
        self._lane = Lane()
        """Has a way while nothing is out in part and nobody else sends: see `_set_lane`."""
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
        """Return bytes for the library; messages that need no library go to the inbox instead."""
        if self._head:
            await trio.lowlevel.checkpoint()
            head, self._head = self._head, b""
            return head
        # A client may send on before it has our answer: until the library has sent that, it
        # takes frames for a part of the handshake and drops them.
        await self._is_open.wait()
        while data := await self._receive():
            messages, end = ([], 0) if self.inbox.is_ended else self._frames.take(data)
            self._received = data[end:]
            if not messages:
                return await self._hand_on()
            await self.inbox.put(messages)
            # What comes behind may end the conversation: the answers to these leave before.
            if self._received and not self._frames.is_ping(self._received):
                await self.inbox.wait_taken()
        self.inbox.end()
        return b""

    async def _receive(self) -> bytes:
        """Return what is left of the last read, in turns, or else read on."""
        if self._received:
            await self._turns.next()
            return self._received
        data = None
        try:
            while data is None:
                if self._descriptor == CLOSED:
                    raise trio.ClosedResourceError
                await trio.lowlevel.wait_readable(self._descriptor)
                data = read_nowait(self._descriptor)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.inbox.end()
            raise
        self.moved_at = trio.current_time()
        return data

    async def _hand_on(self) -> bytes:
        """Return what the library is to take apart next."""
        end = self._frames.cut(self._received)
        if self._frames.is_over:
            return await self._drop_all()
        data, self._received = self._received[:end], self._received[end:]
        self.inbox.expect(self._frames.count_messages())
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
        return [] if sent == size else self.cut_nowait(messages, sent)

    def cut_nowait(self, messages: list[bytes], sent: int) -> list[bytes]:
        """Take note that so many bytes of the frames of messages are out; return what is left."""
        self.rest, left = cut_frames(messages, sent)
        self._set_lane()
        return [self.rest, *left] if self.rest else left

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send for the library, whole: see `send_parts`."""
        if data[:1] == _CLOSE_FRAME:
            self.has_said_close = True
            self.inbox.end()
        await self.send_parts((data,))

    async def send_parts(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Send what was begun before, and then these with nothing in between.

        Cancelled, what is left of these is the rest that goes out next: the library gives up
        pings, and half a frame would end the conversation.
        """
        self._senders += 1
        self._set_lane()
        try:
            async with self._sending:
                await self._send_whole(memoryview(b"".join((self.rest, *parts))))
        finally:
            self._senders -= 1
            self._set_lane()

    def open_lane(self, lane: Lane) -> None:
        """Say from now on at this lane whether frames may be written past the stream."""
        self._lane = lane
        self._set_lane()

    def _set_lane(self) -> None:
        """Say where frames may be written to now. Behind a close frame is nothing, §5.5.1."""
        is_closed = self.rest or self._senders or self.has_said_close
        self._lane.set_way(CLOSED if is_closed else self._descriptor)

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
        """Do as any stream."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Do as any stream."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close; who broke the protocol is told so first, which the library leaves out."""
        self.inbox.end()
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
        self._lane.set_way(CLOSED)
