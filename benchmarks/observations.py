"""The rows that benchmarks write: made up where the shape alone matters, else real ones."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import trio

from recordd.extending.backend import BackendOptions
from recordd.extending.commit import NewRecord, NewRows
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd_protocol.rows import Row

__all__ = ["Observation", "make_name", "make_rows", "make_value", "preload", "read_observations"]

_FIRST_TS_MS: Final = 1_700_000_000_000
_STEP_MS: Final = 60_000
_BATCH_ROWS: Final = 4096
_EXAMPLE: Final = Path(__file__).parent.parent / "examples" / "nyc-2013-01.ndjson.gz"
_MADE_UP: Final = 30_000


class Observation(msgspec.Struct, frozen=True):
    """One line of an export: a record's value at a time."""

    name: str
    ts: int
    value: msgspec.Raw


def make_name(number: int) -> str:
    """Return the name of a made-up record."""
    return f"accuracy::city-{number:04}"


def make_value(number: int) -> bytes:
    """Return a made-up value, about as long as a validation result."""
    return b'{"accuracy":0.%04d,"samples":%d,"model":"v7"}' % (number % 10_000, number % 977)


def make_rows(records: int, rows_each: int) -> Iterator[tuple[str, bytes, int]]:
    """Make (name, value, `ts`) in order of time: every record reports once a step."""
    names = [make_name(number) for number in range(records)]
    for step in range(rows_each):
        ts = _FIRST_TS_MS + step * _STEP_MS
        for number, name in enumerate(names):
            yield name, make_value(step * records + number), ts


def preload(folder: Path, records: int, rows_each: int) -> None:
    """Write a database for a daemon on `folder`, with the daemon's own backend."""
    folder.mkdir()
    trio.run(_preload, str(folder / "recordd.db"), make_rows(records, rows_each))


async def _preload(database: str, source: Iterator[tuple[str, bytes, int]]) -> None:
    backend = SqliteBackend(BackendOptions({"database": database, "reserve_bytes": 0}))
    rev = (await backend.initialize()).rev
    ids: dict[str, int] = {}
    while made := list(islice(source, _BATCH_ROWS)):
        rows = [Row(name, value, ts, rev + n) for n, (name, value, ts) in enumerate(made, 1)]
        new = dict.fromkeys(row.name for row in rows if row.name not in ids)
        created = [NewRecord(len(ids) + n, name, is_stored=True) for n, name in enumerate(new)]
        ids |= {name: record_id for record_id, name, _ in created}
        await backend.apply(
            [NewRows(rows, [ids[row.name] for row in rows], created)], rev + len(rows)
        )
        await backend.maintain(0)
        rev += len(rows)
    while await backend.maintain(rev):
        pass
    await backend.close()


def read_observations() -> list[Observation]:
    """Return a month of real hourly weather, or as much made up where the file is not there."""
    if not _EXAMPLE.exists():
        rows = make_rows(100, _MADE_UP // 100)
        return [Observation(name, ts, msgspec.Raw(value)) for name, value, ts in rows]
    decode = msgspec.json.Decoder(Observation).decode
    with gzip.open(_EXAMPLE) as lines:
        return [decode(line) for line in lines]
