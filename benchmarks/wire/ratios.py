"""Two builds in the same rounds: by how much one is faster, and whether that is more than noise."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from benchmarks.report import quantile
from benchmarks.wire.lines import Figures, Line, Unit
from benchmarks.wire.tables import format_figure, median_of

__all__ = ["BASE", "NOW", "Ratio", "Verdict", "compare_line", "format_ratios"]

BASE: Final = "base"
NOW: Final = "now"

_HEADINGS: Final = ("job", "base", "now", "speed", "rounds", "verdict")
_LOW: Final = 0.1
_HIGH: Final = 0.9
_LITTLE: Final = 0.03
_ROUNDS_TO_JUDGE: Final = 4
"""Three rounds of noise alone say the same every fourth time."""


class Verdict(Enum):
    """What the rounds say together."""

    SLOWER = "**slower**"
    SAME = ""
    FASTER = "faster"


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """How fast `now` is beside `base`: the median of the rounds, and what nearly all are in."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def verdict(self) -> Verdict:
        """Say slower or faster where nearly all of enough rounds do, and by more than a little."""
        if self.rounds < _ROUNDS_TO_JUDGE or abs(self.median - 1) < _LITTLE:
            return Verdict.SAME
        if self.high < 1:
            return Verdict.SLOWER
        return Verdict.FASTER if self.low > 1 else Verdict.SAME


def compare_line(unit: Unit, base: Sequence[float], now: Sequence[float]) -> Ratio:
    """Compare round by round: those of one number ran behind one another.

    A rate that is twice the base's is 2, and so is half its time or size.
    """
    pairs = zip(base, now, strict=False)
    speeds = [n / b if unit.endswith("/s") else b / n for b, n in pairs if b and n]
    return Ratio(
        median=statistics.median(speeds),
        low=quantile(speeds, _LOW),
        high=quantile(speeds, _HIGH),
        rounds=len(speeds),
    )


def format_ratios(lines: Sequence[Line], figures: Figures) -> str:
    """Return a Markdown table of the lines that both builds have figures of."""
    rows = [_HEADINGS, tuple("---" for _ in _HEADINGS)]
    rows += [
        _cells_of(line, figures) for line in lines if {BASE, NOW} <= set(figures.get(line.name, {}))
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cells_of(line: Line, figures: Figures) -> tuple[str, ...]:
    of_line = figures[line.name]
    ratio = compare_line(line.unit, of_line[BASE], of_line[NOW])
    medians = [median_of(figures, line.name, build) or 0.0 for build in (BASE, NOW)]
    return (
        line.title,
        *(format_figure(median, line.unit) for median in medians),
        f"{ratio.median:.2f}x",
        f"{ratio.low:.2f} to {ratio.high:.2f}",
        ratio.verdict.value,
    )
