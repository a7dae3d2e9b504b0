"""Loading an archive: `record.set_many` of real observations into an empty database.

500 rows a request, 4 requests in flight. The rows are a month of hourly weather at three
airports (`examples/`, or made-up ones where it is missing), repeated with later times so
that a round is long enough. Limit: 20,000 rows/s. Beside it SQLite alone: the same values
into a table without an index, 2,000 (= 4 x 500) a transaction, with the same FULL.

Rounds of both alternate, each round of the daemon with a new one; shown is their median.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from benchmarks.daemon import call, encode_request, running_daemon
from benchmarks.load import Generator, Load, open_generator, stream_requests
from benchmarks.observations import Observation, read_observations
from benchmarks.peers import insert_bare
from benchmarks.report import Figure, median_rate

__all__ = ["measure"]

_ROWS_PER_REQUEST: Final = 500
_IN_FLIGHT: Final = 4
_MONTH_MS: Final = 31 * 86_400_000


class _Scale(msgspec.Struct, frozen=True):
    """How many rounds, and how many months long each is."""

    rounds: int
    months: int


_FULL: Final = _Scale(rounds=5, months=8)
_QUICK: Final = _Scale(rounds=3, months=1)


def measure(quick: bool, folder: Path) -> list[Figure]:
    """Measure the import and its limit."""
    scale = _QUICK if quick else _FULL
    rows = _repeat(read_observations(), scale.months)
    requests = _encode(rows)
    ours: list[Load] = []
    alone: list[Load] = []
    with open_generator() as generator:
        for number in range(scale.rounds):
            seconds = _import_round(generator, folder / str(number), requests, len(rows))
            ours.append((len(rows), seconds))
            alone.append((len(rows), _insert_alone(folder, rows)))
    return [
        Figure(
            benchmark=f"record.set_many, {_ROWS_PER_REQUEST} a request, {_IN_FLIGHT} in flight",
            value=median_rate(ours),
            unit="rows/s",
            target="≥ 20,000 rows/s",
            peer=f"SQLite alone, {_ROWS_PER_REQUEST * _IN_FLIGHT:,} a commit",
            peer_value=median_rate(alone),
        )
    ]


def _import_round(
    generator: Generator, folder: Path, requests: list[bytes], expected: int
) -> float:
    """Import into a new database; return the seconds."""
    with running_daemon(folder) as path:
        seconds = generator.run(stream_requests, path, requests, _IN_FLIGHT)
        if (found := call(path, "record.count")["rows"]) != expected:
            raise RuntimeError(f"{found} rows instead of {expected}")
    return seconds


def _repeat(month: list[Observation], months: int) -> list[Observation]:
    return [
        Observation(row.name, row.ts + number * _MONTH_MS, row.value)
        for number in range(months)
        for row in month
    ]


def _encode(rows: list[Observation]) -> list[bytes]:
    return [
        encode_request("record.set_many", records=rows[start : start + _ROWS_PER_REQUEST])
        for start in range(0, len(rows), _ROWS_PER_REQUEST)
    ]


def _insert_alone(folder: Path, rows: list[Observation]) -> float:
    ids = {name: number for number, name in enumerate(sorted({row.name for row in rows}))}
    bare = [
        (rev, ids[row.name], row.ts, bytes(row.value).decode()) for rev, row in enumerate(rows, 1)
    ]
    return insert_bare(folder / "bare.db", bare, _ROWS_PER_REQUEST * _IN_FLIGHT)
