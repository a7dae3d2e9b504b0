"""How messages are kept apart; and lines out of a byte stream, with a mandatory limit."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["Framing", "LineBuffer"]

_CR: Final = 13


class Framing(enum.Enum):
    """The form of a message on a transport: a line of a stream, or a text frame of its own."""

    LINE = enum.auto()
    FRAME = enum.auto()


class LineBuffer:
    r"""Split a stream of bytes into lines, holding at most one unfinished line.

    Feed it bytes as they come; the lines returned carry neither their `\n` nor a `\r`
    before it, and empty ones are left out. A line over `max_line_bytes`, finished or
    not, sets `overflowed`: lines before it have been returned, nothing after it will
    be. The buffer never holds more than the limit and one chunk.
    """

    __slots__ = ("_max_line_bytes", "_tail", "overflowed")

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes: Final = max_line_bytes
        self._tail = bytearray()
        self.overflowed = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next chunk; return the lines that it completes, in order."""
        if self.overflowed:
            return []
        if not self._tail and len(data) <= self._max_line_bytes and _CR not in data:
            return self._feed_short(data)
        if b"\n" not in data:  # a long line in many chunks must not be rescanned for each
            self._tail += data
            self._check_tail()
            return []
        lines = data.split(b"\n")
        if self._tail:
            lines[0] = bytes(self._tail) + lines[0]
        self._tail = bytearray(lines.pop())
        return self._accept(lines)

    def _feed_short(self, data: bytes) -> list[bytes]:
        """Split what has no line that is too long, nor one with another end: nearly all there is.

        For a lone line this takes a third of the other way's time.
        """
        lines = data.split(b"\n")
        if rest := lines.pop():
            self._tail += rest
        return lines if all(lines) else [line for line in lines if line]

    def _accept(self, lines: list[bytes]) -> list[bytes]:
        accepted: list[bytes] = []
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if len(line) > self._max_line_bytes:
                self._overflow()
                return accepted
            if line:
                accepted.append(line)
        self._check_tail()
        return accepted

    def _check_tail(self) -> None:
        tolerated = 1 if self._tail.endswith(b"\r") else 0
        if len(self._tail) > self._max_line_bytes + tolerated:
            self._overflow()

    def _overflow(self) -> None:
        self.overflowed = True
        self._tail = bytearray()
