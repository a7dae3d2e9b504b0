"""The rows that every server is given: who has them, and how many."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Final

import msgspec

from benchmarks.observations import make_name, make_value, read_observations

__all__ = [
    "FLIGHT_RECORDS",
    "FLIGHT_ROWS",
    "STEP_MS",
    "Row",
    "Scale",
    "count_newest",
    "flight_rows",
    "made_up_rows",
    "make_ts",
]

Row = tuple[str, int, bytes]
"""Name, `ts`, value."""

STEP_MS: Final = 60_000
FLIGHT_ROWS: Final = 327_346
"""As many as arrivals at New York's airports in 2013."""
FLIGHT_RECORDS: Final = 111
_FIRST_TS_MS: Final = 1_700_000_000_000
_MONTH_MS: Final = 31 * 86_400_000


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is stored before anything is measured, and how long is measured."""

    rounds: int
    seconds: float
    rows_each: int
    wide_records: int
    wide_rows: int
    load_rows: int
    load_rounds: int
    starts: int
    flights: int = FLIGHT_ROWS
    subscribers: int = 1000
    deep_rows: int = 0


def make_ts(step: int) -> int:
    """Return the `ts` of the made-up rows of a step."""
    return _FIRST_TS_MS + step * STEP_MS


def made_up_rows(records: int, rows: int, first_step: int = 0) -> Iterator[Row]:
    """Make so many rows in order of time: every record reports once a step."""
    names = [make_name(number) for number in range(records)]
    made = (
        (name, make_ts(step), make_value(step * records + number))
        for step in count(first_step)
        for number, name in enumerate(names)
    )
    return islice(made, rows)


def flight_rows(rows: int) -> list[Row]:
    """Return a month of real weather and arrivals, repeated until there are so many rows.

    Every other row of the busiest records goes to a record of its own, so that there are
    `FLIGHT_RECORDS` records.
    """
    month = read_observations()
    names = _rename_busiest([row.name for row in month])
    repeated = (
        (name, row.ts + number * _MONTH_MS, bytes(row.value))
        for number in count()
        for row, name in zip(month, names, strict=True)
    )
    return list(islice(repeated, rows))


def count_newest(rows: list[Row], each: int) -> int:
    """Return how many rows the newest `each` of every record are."""
    counts = _count_names([name for name, _, _ in rows])
    return sum(min(each, count) for count in counts.values())


def _rename_busiest(names: list[str]) -> list[str]:
    counts = _count_names(names)
    busiest = sorted(counts, key=lambda name: -counts[name])
    split = set(busiest[: max(0, FLIGHT_RECORDS - len(counts))])
    return [
        f"{name}-2" if name in split and number % 2 else name for number, name in enumerate(names)
    ]


def _count_names(names: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
