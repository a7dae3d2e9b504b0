"""Measure recordd beside its peers, and print a table.

Databases are written below the system's temporary folder (TMPDIR): it should be on the
disk that is meant, since on a tmpfs a commit costs nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.wire.data import Scale
from benchmarks.wire.loadgen import NoCompilerError, build_generator
from benchmarks.wire.publishing import publish
from benchmarks.wire.running import Outcome, Wish, lines_of, measure
from benchmarks.wire.tables import format_cpu, format_table

__all__ = ["main"]

_FULL: Final = Scale(
    rounds=7,
    seconds=0.5,
    rows_each=1000,
    wide_records=100_000,
    wide_rows=1_000_000,
    load_rows=1_000_000,
    load_rounds=3,
    starts=5,
)
_QUICK: Final = Scale(
    rounds=2,
    seconds=0.15,
    rows_each=150,
    wide_records=5_000,
    wide_rows=20_000,
    load_rows=50_000,
    load_rounds=2,
    starts=1,
    flights=40_000,
    subscribers=200,
)
_DEEP_ROWS: Final = 30_000_000
_PLOT_NAME: Final = "performance.svg"


def main() -> None:
    """Measure and print; a slow figure is no failure, a refused question is one."""
    options = _read_options()
    wish = _read_wish(options)
    with tempfile.TemporaryDirectory(prefix="recordd-") as folder:
        try:
            generator = build_generator(Path(folder))
        except NoCompilerError as error:
            sys.exit(f"not measured: {error}")
        outcome = measure(wish, generator, Path(folder))
    _show(outcome, has_cpu=options.cpu)
    if options.publish is not None:
        publish(outcome, options.publish, options.publish.with_name(_PLOT_NAME))
    sys.exit(1 if outcome.refused else 0)


def _show(outcome: Outcome, *, has_cpu: bool) -> None:
    print(format_table(outcome.lines, outcome.figures, outcome.refused))
    if has_cpu:
        print(f"\n{format_cpu(outcome.lines, outcome.cpu_us)}")
    for (line, contestant), reason in outcome.refused.items():
        print(f"refused: {line}, {contestant}: {reason}", file=sys.stderr)
    for program in outcome.missing:
        print(f"not installed: {program}", file=sys.stderr)


def _read_wish(options: argparse.Namespace) -> Wish:
    scale = _QUICK if options.quick else _FULL
    if options.deep:
        scale = msgspec.structs.replace(scale, deep_rows=_DEEP_ROWS)
    if options.rounds:
        scale = msgspec.structs.replace(scale, rounds=options.rounds)
    names = [line.name for line in lines_of(scale)]
    for beginning in options.only:
        if not any(name.startswith(beginning) for name in names):
            sys.exit(f"no line {beginning!r}; there are {', '.join(names)}")
    return Wish(
        scale=scale,
        program=(options.recordd,),
        only=tuple(options.only),
        has_peers=not options.alone,
    )


def _read_options() -> argparse.Namespace:
    own = str(Path(sys.executable).with_name("recordd"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short form, under two minutes")
    parser.add_argument("--deep", action="store_true", help="starts on 30,000,000 rows")
    parser.add_argument("--alone", action="store_true", help="recordd without its peers")
    parser.add_argument("--cpu", action="store_true", help="show the CPU of each request too")
    parser.add_argument("--rounds", type=int, help="instead of 7, or 2 in short")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="lines' beginnings")
    parser.add_argument("--recordd", default=own, metavar="PROGRAM", help="another build's")
    parser.add_argument("--publish", type=Path, metavar="PAGE", help="write table and plot there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
