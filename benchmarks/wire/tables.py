"""The table: each line's figures, its target, and whether that is met."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.wire.lines import LEAST, LIMITS, OURS, Figures, Line, Target, Unit

__all__ = ["bound_of", "format_cpu", "format_figure", "format_table", "is_met", "median_of"]

_HEADINGS: Final = ("job", "recordd", "peers", LEAST, "target", "met")


def median_of(figures: Figures, line: str, contestant: str) -> float | None:
    """Return a contestant's figure of a line; None where there is none."""
    rounds = figures.get(line, {}).get(contestant)
    return statistics.median(rounds) if rounds else None


def bound_of(target: Target, line: Line, figures: Figures) -> float | None:
    """Return a target in the line's unit; None where the peer's figure is missing."""
    if not target.peer:
        return target.factor
    peer = median_of(figures, target.line or line.name, target.peer)
    return None if peer is None else target.factor * peer


def is_met(target: Target, figure: float, bound: float) -> bool:
    """Return whether a figure is within its bound, which it may reach."""
    return figure <= bound if target.is_upper else figure >= bound


def format_table(
    lines: Sequence[Line],
    figures: Figures,
    refused: Mapping[tuple[str, str], str] | None = None,
) -> str:
    """Return a Markdown table of the lines that have figures or were refused."""
    rows = [_HEADINGS, tuple("---" for _ in _HEADINGS)]
    rows += [
        _cells_of(line, figures, refused or {})
        for line in lines
        if line.name in figures or (line.name, OURS) in (refused or {})
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def format_cpu(lines: Sequence[Line], cpu_us: Mapping[tuple[str, str], Sequence[float]]) -> str:
    """Return a Markdown table of the CPU that a request (or a fanned-out write) took.

    It depends on other programs' load less than times do.
    """
    rows = ["| job | CPU |", "| --- | --- |"]
    for line in lines:
        of_line = {who: cpu for (name, who), cpu in cpu_us.items() if name == line.name}
        us = {who: statistics.median(cpu) for who, cpu in of_line.items()}
        cells = [f"{who} {us[who]:.1f} µs" for who in sorted(us)]
        rows += [f"| {line.title} | {'; '.join(cells)} |"] if cells else []
    return "\n".join(rows)


def _cells_of(
    line: Line, figures: Figures, refused: Mapping[tuple[str, str], str]
) -> tuple[str, ...]:
    ours = median_of(figures, line.name, OURS)
    own = "refused" if (line.name, OURS) in refused else _format_rounds(line, figures)
    targets = [_format_target(target, line, figures) for target in line.targets]
    met = [_format_met(target, line, figures, ours) for target in line.targets]
    peers, limits = _format_peers(line, figures), _format_limits(line, figures)
    return line.title, own, peers, limits, "; ".join(targets), "; ".join(met)


def _format_rounds(line: Line, figures: Figures) -> str:
    """Show the median, and the least and the greatest of the rounds."""
    rounds = figures.get(line.name, {}).get(OURS)
    if not rounds:
        return "-"
    median = f"**{format_figure(statistics.median(rounds), line.unit)}**"
    if len(rounds) == 1:
        return median
    least, most = (format_figure(bound, line.unit) for bound in (min(rounds), max(rounds)))
    return f"{median} ({least} to {most})"


def _format_peers(line: Line, figures: Figures) -> str:
    peers = {
        contestant: statistics.median(rounds)
        for contestant, rounds in figures.get(line.name, {}).items()
        if contestant not in (OURS, *LIMITS) and rounds
    }
    return "; ".join(f"{peer} {format_figure(peers[peer], line.unit)}" for peer in sorted(peers))


def _format_limits(line: Line, figures: Figures) -> str:
    """Show what can be reached at all, and whether that misses a target that recordd misses."""
    missed = [t for t in line.targets if _misses(t, line, figures, OURS)]
    shown = []
    for limit in LIMITS:
        if (figure := median_of(figures, line.name, limit)) is not None:
            name = "" if limit == LEAST else f"{limit} "
            misses = any(t.peer != OURS and _misses(t, line, figures, limit) for t in missed)
            too = ", **misses it too**" if misses else ""
            shown.append(f"{name}{format_figure(figure, line.unit)}{too}")
    return "; ".join(shown)


def _misses(target: Target, line: Line, figures: Figures, contestant: str) -> bool:
    figure, bound = median_of(figures, line.name, contestant), bound_of(target, line, figures)
    return figure is not None and bound is not None and not is_met(target, figure, bound)


def _format_target(target: Target, line: Line, figures: Figures) -> str:
    sign = "≤" if target.is_upper else "≥"
    bound = bound_of(target, line, figures)
    if not target.peer:
        return f"{sign} {format_figure(target.factor, line.unit)}"
    peer = _describe_line(target.line, line) if target.line else target.peer
    times = f"{sign} {target.factor:g} x {peer}" if target.factor != 1 else f"{sign} {peer}"
    return times if bound is None else f"{times} ({format_figure(bound, line.unit)})"


def _describe_line(name: str, line: Line) -> str:
    """Say what another line is in comparison."""
    if "WebSocket" in line.title:
        return "the same over the Unix socket"
    return "a rest instead" if name.endswith("-rest") else "without the write"


def _format_met(target: Target, line: Line, figures: Figures, ours: float | None) -> str:
    """Say yes, or by which factor the bound is missed."""
    bound = bound_of(target, line, figures)
    if ours is None or not bound:
        return "-"
    if is_met(target, ours, bound):
        return "yes"
    return f"**no**, {ours / bound if target.is_upper else bound / ours:.2f}x"


def format_figure(figure: float, unit: Unit) -> str:
    """Show three digits that count, with a unit of fitting size."""
    if unit == "µs":
        if figure >= 1e6:
            return f"{_three_digits(figure / 1e6)} s"
        return f"{_three_digits(figure / 1e3)} ms" if figure >= 1000 else f"{figure:.0f} µs"
    if unit in ("/s", "rows/s"):
        return _format_rate(figure) + unit.replace("rows", " rows")
    return f"{_three_digits(figure)} {unit}"


def _format_rate(rate: float) -> str:
    if rate >= 1e6:
        return f"{_three_digits(rate / 1e6)} M"
    return f"{_three_digits(rate / 1e3)} k" if rate >= 1000 else f"{rate:.0f}"


def _three_digits(number: float) -> str:
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"
