"""Import and export of NDJSON: one `{"name", "value", "ts"}` a line, gzip or plain."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from recordd_client.blocking import Client
from recordd_client.calls import WriteItem
from recordd_client.errors import InvalidValue, Refused
from recordd_client.rows import Row
from recordd_protocol.errors import RequestError
from recordd_protocol.methods import RetentionStats
from recordd_protocol.patterns import compile_pattern

__all__ = ["Survey", "export_rows", "import_file", "survey_file"]

_BATCH_ROWS: Final = 500
_BATCH_BYTES: Final = 512 << 10
"""Half of what a daemon takes in one message: values are counted, not their envelopes."""


class _Line(msgspec.Struct):
    name: str
    value: msgspec.Raw
    ts: int | None = None


class Survey(msgspec.Struct):
    """What a file holds: `rows`, and how many of them the daemon's retention would delete."""

    rows: int
    expired: int


_decode_line: Final = msgspec.json.Decoder(_Line).decode


def survey_file(path: Path, retention: RetentionStats | None) -> Survey:
    """Read the whole file before anything is sent.

    Raises:
        InvalidValue: with the number of the line that is not of the form.
    """
    survey = Survey(0, 0)
    oldest_by_name: dict[str, int] = {}
    now_ms = time.time_ns() // 1_000_000
    for _, line in _read_lines(path):
        survey.rows += 1
        if line.ts is None or retention is None:
            continue
        oldest = oldest_by_name.get(line.name)
        if oldest is None:
            oldest = oldest_by_name[line.name] = now_ms - (_age_of(line.name, retention) or now_ms)
        survey.expired += line.ts < oldest
    return survey


def import_file(
    db: Client, path: Path, *, rate: float | None, advance: Callable[[int], None]
) -> None:
    """Write every line, in batches that are all or nothing, in order.

    `rate` bounds the rows a second; `advance` is told of each batch that is committed.

    Raises:
        ClientError: naming the line where it stopped; what was told to `advance` is in.
    """
    started = time.monotonic()
    written = 0
    for first_line, batch in _read_batches(path):
        if rate is not None:
            time.sleep(max(0.0, started + written / rate - time.monotonic()))
        try:
            db.set_many(batch)
        except Refused as error:
            text = f"{path}, lines {first_line} to {first_line + len(batch) - 1}: {error}"
            raise type(error)(text) from None
        written += len(batch)
        advance(len(batch))


def export_rows(
    db: Client, pattern: str, *, start: int, end: int | None
) -> Iterator[Row[msgspec.Raw]]:
    """Yield every row in the range by time, a page in memory at a time."""
    after: str | None = None
    while True:
        page = db.query(pattern, limit=None, start=start, end=end, after=after, as_type=msgspec.Raw)
        yield from page.rows
        if page.next is None:
            return
        after = page.next


def _read_batches(path: Path) -> Iterator[tuple[int, list[WriteItem]]]:
    batch: list[WriteItem] = []
    size = 0
    first_line = 1
    for number, line in _read_lines(path):
        if not batch:
            first_line = number
        batch.append((line.name, line.value, line.ts))
        size += len(bytes(line.value)) + len(line.name) + 64
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield first_line, batch
            batch, size = [], 0
    if batch:
        yield first_line, batch


def _read_lines(path: Path) -> Iterator[tuple[int, _Line]]:
    with _open(path) as file:
        try:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield number, _decode_line(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidValue(f"{path}, line {number}: {error}") from None
        except (OSError, EOFError) as error:
            raise InvalidValue(f"{path}: {error}") from None


def _open(path: Path) -> gzip.GzipFile | IO[bytes]:
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
        return gzip.open(path, "rb") if is_gzip else path.open("rb")
    except OSError as error:
        raise InvalidValue(f"{path}: {error.strerror}") from None


def _age_of(name: str, retention: RetentionStats) -> int | None:
    """Return the retention, in ms, of the first rule that matches."""
    for rule in retention.rules:
        try:
            if compile_pattern(rule.name).matches(name):
                return rule.retention_ms
        except RequestError:
            continue
    return None
