"""Run the benchmarks named, or all, and print one table.

Databases are written below the system's temporary folder (`TMPDIR`): for `set` and
`import` it should be on the disk that is meant, since on a tmpfs a commit costs nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import apsw

from benchmarks import dialects, fanout, imports, latest, requests
from benchmarks.report import Figure, format_table

__all__ = ["main"]

BENCHMARKS: Final[Mapping[str, Callable[[bool, Path], list[Figure]]]] = {
    "latest": latest.measure,
    "get": requests.measure_get,
    "echo": requests.measure_echo,
    "set": requests.measure_set,
    "import": imports.measure,
    "fanout": fanout.measure,
    "slow": fanout.measure_slow,
    "aimx": dialects.measure,
}


def main() -> None:
    """Measure and print; a slow figure is no failure."""
    parser = _build_parser()
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(BENCHMARKS)):
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    figures: list[Figure] = []
    for name in options.names or BENCHMARKS:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="recordd-") as folder:
            figures += BENCHMARKS[name](options.quick, Path(folder))
    print(
        f"{platform.python_implementation()} {platform.python_version()},"
        f" SQLite {apsw.sqlite_lib_version()}, {os.cpu_count()} cores"
        f"{', short form' if options.quick else ''}; medians of several rounds;"
        " ratio = figure : peer or limit\n"
    )
    print(format_table(figures))


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short form, under 40 seconds")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    return parser


if __name__ == "__main__":
    main()
