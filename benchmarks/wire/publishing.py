"""The generated part of docs/performance.md, and the plot beside it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw

from benchmarks.wire.plots import draw_plot
from benchmarks.wire.running import Outcome
from benchmarks.wire.tables import format_table

__all__ = ["describe_machine", "publish", "replace_block"]

_BEGIN: Final = "<!-- begin: written by make bench-peers -->"
_END: Final = "<!-- end: written by make bench-peers -->"
_PROGRAMS: Final = (
    ("redis-server", "--version", r"v=([\d.]+)", "Redis"),
    ("psql", "--version", r"([\d.]+)", "PostgreSQL"),
)


def publish(outcome: Outcome, page: Path, plot: Path) -> None:
    """Write the plot, and put table and machine into the page's generated block.

    Raises:
        ValueError: the page has no such block.
    """
    plot.write_text(draw_plot(outcome.lines, outcome.figures))
    block = (
        f"{describe_machine()}\n\n{format_table(outcome.lines, outcome.figures, outcome.refused)}"
    )
    page.write_text(replace_block(page.read_text(), block))


def replace_block(page: str, block: str) -> str:
    """Return the page with `block` between its two marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page has no {_BEGIN} with {_END} behind it")
    return f"{before}{begin}\n{block}\n{end}{after}"


def describe_machine() -> str:
    """Return a sentence about the machine and the versions."""
    versions = [
        f"Python {platform.python_version()}",
        f"SQLite {apsw.sqlite_lib_version()}",
        *_find_versions(),
    ]
    return f"{_find_processor()}, {os.cpu_count()} cores; {', '.join(versions)}."


def _find_versions() -> list[str]:
    found = []
    for program, flag, pattern, name in _PROGRAMS:
        version = re.search(pattern, _run([program, flag]))
        if version is not None:
            found.append(f"{name} {version[1]}")
    return found


def _find_processor() -> str:
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return model[1] if model else platform.machine()


def _run(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return ""
