"""Figures, and the table that shows them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

import msgspec

__all__ = ["Figure", "format_table", "median_rate", "quantile"]

_HEADINGS: Final = ("benchmark", "figure", "unit", "target", "peer or limit", "ratio")
_RIGHT_ALIGNED: Final = (1, 5)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table; `value` is None where it could not be measured.

    `peer` says what `peer_value`, in the same unit, is; the ratio is `value` to it.
    """

    benchmark: str
    value: float | None
    unit: str
    target: str = ""
    peer: str = ""
    peer_value: float | None = None


def quantile(samples: Sequence[float], share: float) -> float:
    """Return the sample that `share` of all are not above; 0.5 is the median."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median_rate(rounds: Sequence[tuple[int, float]]) -> float:
    """Return the median a second of rounds that are (how many, seconds)."""
    return statistics.median(count / seconds for count, seconds in rounds)


def format_table(figures: Sequence[Figure]) -> str:
    """Return the figures as an aligned table."""
    rows = [_HEADINGS, *(_cells_of(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(_align(row, widths) for row in rows)


def _align(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.rjust(width) if column in _RIGHT_ALIGNED else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _cells_of(figure: Figure) -> tuple[str, ...]:
    peer, ratio = figure.peer, ""
    if figure.peer_value is not None:
        peer = f"{peer}: {_format_number(figure.peer_value)}"
        if figure.value is not None:
            ratio = _format_number(figure.value / figure.peer_value) + "x"
    value = "-" if figure.value is None else _format_number(figure.value)
    return figure.benchmark, value, figure.unit, figure.target, peer, ratio


def _format_number(number: float) -> str:
    """Show three digits that count; large numbers whole, with separators."""
    if number >= 100:
        return f"{float(f'{number:.3g}'):,.0f}"
    return f"{number:#.3g}"
