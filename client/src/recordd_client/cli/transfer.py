"""Import and export of NDJSON: one `{"name", "value", "ts"}` a line, gzip or plain.

An import reads its source as it comes, once: from a pipe nothing can be read again. Only
a file, which can, is looked through before anything is sent.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import sys
import time
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final, Protocol

import msgspec

from recordd_client.blocking import Client
from recordd_client.errors import ClientError, InvalidValue, TooLarge
from recordd_client.requests import RowLike
from recordd_client.rows import Row
from recordd_protocol.errors import RequestError
from recordd_protocol.methods import RetentionStats
from recordd_protocol.patterns import compile_pattern

__all__ = ["Importer", "Source", "Survey", "export_rows", "open_source"]

_CHUNK_BYTES: Final = 1 << 18
_BATCH_ROWS: Final = 500
_BATCH_BYTES: Final = 512 << 10
"""Half of a daemon's usual message: values are counted, their envelopes are not."""

_MAX_LINE_BYTES: Final = 64 << 20
"""No daemon takes such a row; a file without line breaks must not fill the memory."""


class _Line(msgspec.Struct):
    name: str
    value: msgspec.Raw
    ts: int | None = None


_decode: Final = msgspec.json.Decoder(_Line).decode
_NO_LINE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

NumberedLine = tuple[int, _Line]


class _Readable(Protocol):
    def read1(self, size: int, /) -> bytes:
        """Return the bytes that are there, up to `size`; wait only where there are none."""


class Source:
    """Lines from a file or a pipe; the first bytes tell gzip from plain text."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self.name: Final = name
        self.can_rewind: Final = file.seekable()
        self._file: Final = file
        self._start: Final = file.tell() if self.can_rewind else 0

    def read(self) -> Iterator[list[NumberedLine]]:
        """Yield numbered lines as they come; wait for more only where there are none.

        Where the source can be rewound, each call begins at the start.

        Raises:
            InvalidValue: with the number of the line that is not of the form.
        """
        number = 0
        try:
            for texts in _split_lines(self._open()):
                lines: list[NumberedLine] = []
                for text in texts:
                    number += 1
                    try:
                        if text.strip():
                            lines.append((number, _decode_line(text)))
                    except _NO_LINE as error:
                        yield lines  # those before it are good
                        raise InvalidValue(f"{self.name}, line {number}: {error}") from None
                yield lines
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidValue(f"{self.name}, behind line {number}: {error}") from None

    def _open(self) -> _Readable:
        if self.can_rewind:
            self._file.seek(self._start)
        head = self._file.read(2)
        whole = io.BufferedReader(_Rejoined(head, self._file))
        return gzip.GzipFile(fileobj=whole) if head == b"\x1f\x8b" else whole


class _Rejoined(io.RawIOBase):
    """The bytes that were read already, and then the rest of the file as it comes."""

    def __init__(self, head: bytes, rest: Any) -> None:
        super().__init__()
        self._head = head
        self._rest: Final = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data, self._head = self._head or self._rest.read1(len(buffer)), b""
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def open_source(path: str) -> Iterator[Source]:
    """Open a file, a pipe, or standard input (`-`).

    Raises:
        InvalidValue: where it cannot be opened.
    """
    if path == "-":
        yield Source("standard input", sys.stdin.buffer)
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise InvalidValue(f"{path}: {error.strerror}") from None
        yield Source(path, file)


class Survey:
    """Counts rows, and the rows among them that the daemon's retention is going to delete."""

    def __init__(self, retention: RetentionStats | None) -> None:
        self.rows = 0
        self.expired = 0
        self._retention: Final = retention
        self._now_ms: Final = time.time_ns() // 1_000_000
        self._oldest_by_name: Final[dict[str, int]] = {}

    def count(self, lines: list[NumberedLine]) -> None:
        """Count some lines."""
        self.rows += len(lines)
        if self._retention is None:
            return
        for _, line in lines:
            if line.ts is not None:
                self.expired += line.ts < self._oldest_of(line.name, self._retention)

    def _oldest_of(self, name: str, retention: RetentionStats) -> int:
        oldest = self._oldest_by_name.get(name)
        if oldest is None:
            age_ms = _age_of(name, retention) or self._now_ms
            oldest = self._oldest_by_name[name] = self._now_ms - age_ms
        return oldest


class Importer:
    """Writes lines in batches that are all or nothing, in order; knows how far it came."""

    def __init__(self, db: Client, rate: float | None) -> None:
        self.rows = 0
        """How many are committed."""
        self._last_line = 0
        self._db: Final = db
        self._rate: Final = rate
        self._started: Final = time.monotonic()

    @property
    def standing(self) -> str:
        """How much is in, in words: where to go on after a failure."""
        if not self.rows:
            return "nothing is in"
        return f"{self.rows:,} rows are in, all up to line {self._last_line:,}"

    def write(self, lines: list[NumberedLine]) -> Iterator[int]:
        """Commit the lines; yield how many, batch by batch.

        Raises:
            ClientError: with a note of the lines where it stopped; those before are in.
        """
        for batch in _cut(lines):
            if self._rate is not None:
                due = self._started + self.rows / self._rate
                time.sleep(max(0.0, due - time.monotonic()))
            self._write_batch(batch)
            yield len(batch)

    def _write_batch(self, batch: list[NumberedLine]) -> None:
        items: list[RowLike] = [(line.name, line.value, line.ts) for _, line in batch]
        first, last = batch[0][0], batch[-1][0]
        try:
            self._db.set_many(items)
        except TooLarge as error:
            if len(batch) == 1:
                error.add_note(f"line {first}")
                raise
            # This daemon takes less at once than others.
            self._write_batch(batch[: len(batch) // 2])
            self._write_batch(batch[len(batch) // 2 :])
        except ClientError as error:
            error.add_note(f"lines {first} to {last}")
            raise
        else:
            self.rows += len(batch)
            self._last_line = last


def export_rows(
    db: Client, pattern: str, *, start: int, end: int | None
) -> Iterator[Row[msgspec.Raw]]:
    """Yield every row in the range by time, a page in memory at a time.

    Raises:
        ClientError: with a note that rows are missing; `Expired` where rows behind a page
            were deleted meanwhile.
    """
    after: str | None = None
    while True:
        try:
            page = db.query(
                pattern, limit=None, start=start, end=end, after=after, as_type=msgspec.Raw
            )
        except ClientError as error:
            if after is not None:
                error.add_note("what was exported is not whole: export again")
            raise
        yield from page.rows
        if page.next is None:
            return
        after = page.next


def _split_lines(file: _Readable) -> Iterator[list[bytes]]:
    """Yield the lines of each chunk that comes; the last may lack its end."""
    tail = bytearray()
    while data := file.read1(_CHUNK_BYTES):
        tail += data
        if b"\n" in data:  # a long line in many chunks must not be split for each
            *lines, rest = bytes(tail).split(b"\n")
            tail = bytearray(rest)
            yield lines
        if len(tail) > _MAX_LINE_BYTES:
            raise OSError(f"a line of more than {_MAX_LINE_BYTES} bytes")
    if tail:
        yield [bytes(tail)]


def _decode_line(text: bytes) -> _Line:
    if not text.isascii():
        text.decode()  # a value is not looked into
    return _decode(text)


def _cut(lines: list[NumberedLine]) -> Iterator[list[NumberedLine]]:
    batch: list[NumberedLine] = []
    size = 0
    for number, line in lines:
        batch.append((number, line))
        size += len(bytes(line.value)) + len(line.name) + 64
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _age_of(name: str, retention: RetentionStats) -> int | None:
    """Return the retention, in ms, of the first rule that matches."""
    for rule in retention.rules:
        try:
            if compile_pattern(rule.name).matches(name):
                return rule.retention_ms
        except RequestError:
            continue
    return None
