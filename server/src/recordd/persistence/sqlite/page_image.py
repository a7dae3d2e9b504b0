"""Whether a page can be one that SQLite wrote (https://sqlite.org/fileformat2.html §1.5 to 2.1).

Where several bits would each explain a wrong checksum, only one of the pages they make is
the one that was written. A page that was written always passes here; most others do not:
cells overlap, keys are out of order, lengths do not add up, text is no UTF-8, a value no
JSON.
"""

from __future__ import annotations

import itertools
import struct
from typing import Final

import msgspec

from recordd.persistence.sqlite.pages import CHECKSUM_BYTES

__all__ = ["is_plausible"]

_INTERIOR_INDEX: Final = 2
_INTERIOR_TABLE: Final = 5
_LEAF_INDEX: Final = 10
_LEAF_TABLE: Final = 13
_KINDS: Final = (_INTERIOR_INDEX, _INTERIOR_TABLE, _LEAF_INDEX, _LEAF_TABLE)

_FIRST_PAGE_HEADER_BYTES: Final = 100
_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""By serial type; 7 is a float, which no table of ours has."""

_LOG_TYPES: Final = (type(None), int, int, str)
"""A row of the log begins so: the `rev` in place of the first, record, `ts`, value."""

Value = int | str | bytes | None


class _Broken(Exception):
    """The page contradicts itself."""


def is_plausible(page: bytes, *, number: int, page_count: int) -> bool:
    """Tell whether the page can be one that SQLite wrote for this application."""
    start = _FIRST_PAGE_HEADER_BYTES if number == 1 else 0
    if number == 1 and not page.startswith(b"SQLite format 3\0"):
        return False
    if page[start] not in _KINDS:
        # A continued value, or a free page: it begins with the number of the next.
        return number != 1 and int.from_bytes(page[:4], "big") <= page_count
    try:
        _Tree(page, start, page_count).check()
    except (_Broken, IndexError, struct.error):
        return False
    return True


class _Tree:
    def __init__(self, page: bytes, start: int, page_count: int) -> None:
        self.page: Final = page
        self.start: Final = start
        self.page_count: Final = page_count
        self.usable: Final = len(page) - CHECKSUM_BYTES
        self.kind: Final = page[start]

    def check(self) -> None:
        """Look at the header, the cells' places, and what they hold."""
        block, cells, content, fragments = struct.unpack_from(">HHHB", self.page, self.start + 1)
        pointers = self.start + 8
        if self.kind in (_INTERIOR_INDEX, _INTERIOR_TABLE):
            self._check_child(pointers)
            pointers += 4
        content = content or 65536
        _require(pointers + 2 * cells <= content <= self.usable)
        spans = []
        keys: list[list[Value]] = []
        for (at,) in struct.iter_unpack(">H", self.page[pointers : pointers + 2 * cells]):
            _require(content <= at < self.usable)
            size, key = self._read_cell(at)
            spans.append((at, at + max(4, size)))
            keys.append(key)
        spans += self._read_free_blocks(block)
        self._check_spans(spans, content, fragments)
        numbers = [key for key in keys if all(isinstance(part, int) for part in key)]
        _require(all(a < b for a, b in itertools.pairwise(numbers)))

    def _check_spans(self, spans: list[tuple[int, int]], content: int, fragments: int) -> None:
        spans.sort()
        ends = [content, *(end for _, end in spans)]
        gaps = [begin - end for (begin, _), end in zip(spans, ends, strict=False)]
        _require(min(gaps, default=0) >= 0 and ends[-1] <= self.usable)
        _require(sum(gaps) + self.usable - ends[-1] == fragments)

    def _read_free_blocks(self, at: int) -> list[tuple[int, int]]:
        blocks = []
        while at:
            following, size = struct.unpack_from(">HH", self.page, at)
            _require(size >= 4 and (not following or following >= at + size))
            blocks.append((at, at + size))
            at = following
        return blocks

    def _read_cell(self, at: int) -> tuple[int, list[Value]]:
        """Return a cell's size and its key."""
        begin = at
        if self.kind in (_INTERIOR_INDEX, _INTERIOR_TABLE):
            self._check_child(at)
            at += 4
        payload, at = self._read_varint(at)
        if self.kind == _INTERIOR_TABLE:
            return at - begin, [payload]
        rowid = None
        if self.kind == _LEAF_TABLE:
            rowid, at = self._read_varint(at)
        local = self._find_local_bytes(payload)
        _require(at + local <= self.usable)
        if local < payload:
            self._check_child(at + local)
        values = self._read_record(at, payload, local)
        if rowid is not None:
            self._check_row(values, is_whole=local == payload)
        size = at + local + (4 if local < payload else 0) - begin
        return size, values if rowid is None else [rowid]

    def _read_record(self, at: int, payload: int, local: int) -> list[Value]:
        header, position = self._read_varint(at)
        _require(position - at <= header <= local)
        types = []
        while position < at + header:
            kind, position = self._read_varint(position)
            types.append(kind)
        _require(position == at + header)
        _require(header + sum(map(_size_of, types)) == payload)
        values: list[Value] = []
        for kind in types:
            size = _size_of(kind)
            if position + size > at + local:
                values.append(None)
                break
            values.append(_read_value(kind, self.page[position : position + size]))
            position += size
        return values

    def _check_row(self, values: list[Value], *, is_whole: bool) -> None:
        if is_whole and tuple(map(type, values[:4])) == _LOG_TYPES and len(values) <= 5:
            try:
                msgspec.json.decode(str(values[3]), type=msgspec.Raw)
            except (msgspec.MsgspecError, RecursionError):
                raise _Broken from None
            _require(values[4:] in ([], [0], [1]))

    def _check_child(self, at: int) -> None:
        (child,) = struct.unpack_from(">I", self.page, at)
        _require(1 < child <= self.page_count)

    def _find_local_bytes(self, payload: int) -> int:
        """Return how much of a payload is in the page; the rest is on pages of its own."""
        least = (self.usable - 12) * 32 // 255 - 23
        most = self.usable - 35
        if self.kind != _LEAF_TABLE:
            most = (self.usable - 12) * 64 // 255 - 23
        if payload <= most:
            return payload
        local = least + (payload - least) % (self.usable - 4)
        return local if local <= most else least

    def _read_varint(self, at: int) -> tuple[int, int]:
        value = 0
        for n in range(9):
            byte = self.page[at + n]
            if n == 8:
                return value << 8 | byte, at + 9
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value, at + n + 1
        raise AssertionError("a varint has nine bytes at most")


def _read_value(kind: int, content: bytes) -> Value:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind < 7:
        number = int.from_bytes(content, "big", signed=True)
        shorter = _INTEGER_BYTES[kind - 1] if kind > 1 else 0
        # SQLite takes the shortest form; 0 and 1 have one of their own.
        _require(number not in (0, 1))
        _require(not shorter or not -(1 << 8 * shorter - 1) <= number < 1 << 8 * shorter - 1)
        return number
    if kind % 2 == 0:
        return content
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _Broken from None


def _size_of(kind: int) -> int:
    _require(kind < 7 or kind in (8, 9) or kind >= 12)
    return _INTEGER_BYTES[kind] if kind < 10 else (kind - 12) // 2


def _require(condition: bool) -> None:
    if not condition:
        raise _Broken
