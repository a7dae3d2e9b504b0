"""The bodies of rows as text in a few pieces, of which some can be replaced.

To join a thousand bodies takes 12 to 50 µs, as much as to send them. So they are joined in
blocks: where one changes, its block is joined anew. The blocks are joined with what is around
them, which takes a copy anyway.
"""

from __future__ import annotations

from typing import Final

from recordd_protocol.rows import ROW_SEPARATOR

__all__ = ["JoinedBodies"]

_BLOCK: Final = 32
"""Bodies in a block at first; one of twice as many is cut in two. The square root of a thousand:
then a block has as many parts as the answer."""


class JoinedBodies:
    """Bodies by their place, and their text in pieces."""

    __slots__ = ("_blocks", "_size", "_texts")

    def __init__(self, bodies: list[bytes]) -> None:
        starts = range(0, len(bodies), _BLOCK)
        self._blocks: Final = [bodies[start : start + _BLOCK] for start in starts]
        self._texts: Final[list[bytes | None]] = [None] * len(self._blocks)
        """Of each block; None where it has to be joined anew."""
        self._size = len(bodies)

    def remove(self, place: int) -> None:
        """Take one out: those behind it move up."""
        number, place = self._find(place)
        del self._blocks[number][place]
        self._texts[number] = None
        self._size -= 1
        if not self._blocks[number]:
            del self._blocks[number], self._texts[number]

    def insert(self, place: int, body: bytes) -> None:
        """Put one in: those from there on move down."""
        if not self._blocks:
            self._add_block(0, [])
        number, place = self._find(place)
        block = self._blocks[number]
        block.insert(place, body)
        self._texts[number] = None
        self._size += 1
        if len(block) == 2 * _BLOCK:
            self._add_block(number + 1, block[_BLOCK:])
            del block[_BLOCK:]

    def texts(self) -> list[bytes]:
        """Return the rows as JSON text: some objects, with commas between, in each."""
        texts = self._texts
        while None in texts:
            number = texts.index(None)
            texts[number] = b"{%b}" % ROW_SEPARATOR.join(self._blocks[number])
        return [text for text in texts if text is not None]

    def _find(self, place: int) -> tuple[int, int]:
        """Return the block of a place, and the place in it; the last block has its end too."""
        last = len(self._blocks) - 1
        if place == self._size:  # where what is newest goes
            return last, len(self._blocks[last])
        for number, block in enumerate(self._blocks):
            if place < len(block):
                return number, place
            place -= len(block)
        raise AssertionError("there is no such place")

    def _add_block(self, number: int, bodies: list[bytes]) -> None:
        self._blocks.insert(number, bodies)
        self._texts.insert(number, None)
