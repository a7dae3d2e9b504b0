"""WebSocket frames (RFC 6455 §5.2): those that come in are counted, messages become frames.

What comes in is counted before the library takes it apart. The library joins the fragments
of a message in one go and gives way only where a message ends, so a peer that sends millions
of empty fragments, which count for nothing against a limit in bytes, would have the loop to
itself. Only the heads of frames are looked at here.

What goes out is made here too: a server's frame is a head and the message as it is. By way
of the library an event took four times as long (65 µs for 17).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["FrameCounter", "cut_frames", "encode_head", "is_utf8", "join_frames", "unmask"]

_FRAMES_AT_ONCE: Final = 64
"""Handed on between two turns of others: the library takes some 30 µs for each."""

_MESSAGES_AT_ONCE: Final = 1024
"""Taken out of their frames between two turns of others: each takes 1 µs."""

_TEXT: Final = 0x81
"""The first byte of a message of one frame of text, §5.2."""

_PINGS: Final = b"\x89\x8a"
_CLOSE: Final = 8
_MASKED: Final = 0x80
_TWO_BYTES: Final = 126
"""The length of who has it in the two bytes behind."""


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Return the payload of a frame as it was before it was masked, §5.3.

    As one number: 0.4 µs for 60 bytes, where a step for each byte took 4.
    """
    size = len(payload)
    masks = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(masks, "little")).to_bytes(
        size, "little"
    )


def is_utf8(text: bytes) -> bool:
    """Tell whether a peer may send it as text."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


class FrameCounter:
    """Follows one direction of a connection, frame by frame, whatever pieces it comes in."""

    def __init__(self, max_fragments: int, max_message_bytes: int = 1 << 20) -> None:
        self.is_over = False
        """Whether a message had more than `max_fragments`; nothing is to be handed on then."""
        self._max_fragments: Final = max_fragments
        self._max_message_bytes: Final = max_message_bytes
        self._is_closing = False  # behind a close frame there is nothing, §5.5.1
        self._fragments = 0
        self._messages = 0
        self._head: Final = bytearray()
        self._payload = 0  # bytes of the current frame that are still to come

    def take(self, data: bytes) -> tuple[list[bytes], int]:
        """Return the messages that the bytes begin with, and where those end.

        That is: whole messages of one frame each, as a client should send them, up to the first
        bytes that are anything else. Whatever is wrong with a frame is left to the library.
        """
        messages: list[bytes] = []
        position, size = 0, len(data)
        if not self._is_between:
            return messages, 0
        while (
            position + 6 <= size and data[position] == _TEXT and len(messages) < _MESSAGES_AT_ONCE
        ):
            length, start = data[position + 1] - _MASKED, position + 6
            if length == _TWO_BYTES:
                length, start = int.from_bytes(data[position + 2 : position + 4], "big"), start + 2
                if length < _TWO_BYTES:
                    break  # §5.2: the shortest form is the only one
            elif not 0 <= length < _TWO_BYTES:
                break
            end = start + length
            if end > size or length > self._max_message_bytes:
                break
            message = unmask(data[start:end], data[start - 4 : start])
            if not is_utf8(message):
                break
            messages.append(message)
            position = end
        return messages, position

    @property
    def _is_between(self) -> bool:
        """Whether the next byte begins a frame, and a message too unless it is a control frame."""
        return not (self._payload or self._head or self._fragments or self._is_closing)

    def is_ping(self, data: bytes) -> bool:
        """Tell whether the bytes begin with a ping or a pong."""
        return self._is_between and data[0] in _PINGS

    def count_messages(self) -> int:
        """Return how many messages had their last frame among the bytes cut since the last call."""
        messages, self._messages = self._messages, 0
        return messages

    def cut(self, data: bytes) -> int:
        """Return how many of the bytes may be handed on at once; call again with the others.

        Behind the first frame that is where `take` may go on, too.
        """
        position, frames = 0, 0
        while position < len(data) and not self.is_over:
            if self._payload:
                step = min(self._payload, len(data) - position)
                self._payload -= step
                position += step
                continue
            if frames == _FRAMES_AT_ONCE or (
                position and data[position] == _TEXT and self._is_between
            ):
                break
            self._head.append(data[position])
            position += 1
            if len(self._head) == self._head_length():
                self._begin_frame()
                frames += 1
        return position

    def _head_length(self) -> int:
        if len(self._head) < 2:
            return 2
        length = self._head[1] & 0x7F
        extended = {126: 2, 127: 8}.get(length, 0)
        return 2 + extended + (4 if self._head[1] & 0x80 else 0)

    def _begin_frame(self) -> None:
        head = self._head
        length = head[1] & 0x7F
        if length >= 126:
            length = int.from_bytes(head[2 : 4 if length == 126 else 10], "big")
        self._payload = length
        opcode, is_control, is_final = head[0] & 0x0F, head[0] & 0x08, head[0] & 0x80
        head.clear()
        if is_control:
            self._is_closing = self._is_closing or opcode == _CLOSE
            return
        self._fragments += 1
        self.is_over = self._fragments > self._max_fragments
        if is_final:
            self._fragments = 0
            self._messages += 1


def encode_head(size: int) -> bytes:
    """Return what goes before a message of `size` bytes: it is one text frame, not masked."""
    if size < 126:
        return b"\x81%c" % size
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


def join_frames(messages: Sequence[bytes]) -> bytes:
    """Return the frames of messages, in order; each message is text in UTF-8."""
    return b"".join([part for message in messages for part in (encode_head(len(message)), message)])


def cut_frames(messages: Sequence[bytes], sent: int) -> tuple[bytes, list[bytes]]:
    """Return what is left once so many bytes of the frames are out.

    That is the rest of the frame that is out in part, and the messages behind it.
    """
    for number, message in enumerate(messages):
        head = encode_head(len(message))
        size = len(head) + len(message)
        if not sent:
            return b"", list(messages[number:])
        if sent < size:
            return (head + message)[sent:], list(messages[number + 1 :])
        sent -= size
    return b"", []
