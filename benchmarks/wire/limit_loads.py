"""The loads of `set_many` at their limits: without an index, and without a server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.wire import recordd
from benchmarks.wire.data import Row, Scale, made_up_rows
from benchmarks.wire.limit_data import fill, load_indexed
from benchmarks.wire.limits import running_limit
from benchmarks.wire.lines import INDEXED, LEAST
from benchmarks.wire.rounds import Rounds
from benchmarks.wire.sites import Bench

__all__ = ["measure_limit_loads"]

_MANY = 1000
_IN_FLIGHT = 4


def measure_limit_loads(
    bench: Bench, rounds: Rounds, scale: Scale, folder: Path, wanted: set[str]
) -> None:
    """Load once what recordd is loaded with, into the least server and into SQLite alone."""
    loads = {
        "load-1000": (_MANY, scale.load_rows),
        "load-100000": (scale.wide_records, scale.wide_rows),
    }
    ways: dict[str, Callable[[Path, Sequence[Row]], float]] = {
        LEAST: partial(_load_least, bench),
        INDEXED: load_indexed,
    }
    for line in sorted(wanted & loads.keys()):
        rows = list(made_up_rows(*loads[line]))
        for contestant, load in ways.items():
            rounds.attempt(
                line, contestant, partial(_measure, rounds, line, contestant, load, folder, rows)
            )


def _measure(
    rounds: Rounds,
    line: str,
    contestant: str,
    load: Callable[[Path, Sequence[Row]], float],
    folder: Path,
    rows: Sequence[Row],
) -> None:
    target = folder / "least-load"
    try:
        rounds.add(line, contestant, len(rows) / load(target, rows))
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _load_least(bench: Bench, folder: Path, rows: Sequence[Row]) -> float:
    fill(folder)
    with running_limit("load", folder) as (site, _, _):
        return bench.load_once(site, recordd.encode_load(rows), _IN_FLIGHT).seconds
