"""The plot: how fast each peer is beside recordd, and where the target lies, as an SVG.

A drawing of its own: a line a job, on a logarithmic axis, needs no library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

import msgspec

from benchmarks.wire.lines import LEAST, LIMITS, OURS, Figures, Line
from benchmarks.wire.tables import bound_of, is_met, median_of

__all__ = ["Dot", "dots_of", "draw_plot", "limit_of"]

_TITLES_WIDTH: Final = 390
_PLOT_WIDTH: Final = 560
_ROW_HEIGHT: Final = 22
_TOP: Final = 108
_BOTTOM: Final = 16
_MARGIN: Final = 24
_COLOURS: Final[Mapping[str, str]] = {
    "Redis": "#c6302b",
    "PostgreSQL": "#31648c",
    "PostgreSQL, side table": "#7aa6c8",
    "PostgreSQL, LATERAL": "#1b2f4b",
    "NATS": "#2f9e5f",
    "Trio echo": "#9a6b00",
    "trio-websocket echo": "#d9a520",
}
_LIMIT: Final = "#999999"
_MET: Final = "#111111"
_MISSED: Final = "#e0359a"


class Dot(msgspec.Struct, frozen=True):
    """A contestant of a line, `speed` times as fast as recordd."""

    contestant: str
    speed: float


def dots_of(line: Line, figures: Figures) -> list[Dot]:
    """Return the peers of a line, by name; a rate that is twice ours, or half our time, is 2."""
    ours = median_of(figures, line.name, OURS)
    if not ours:
        return []
    return [
        Dot(peer, _speed_of(line, peer_figure, ours))
        for peer in sorted(figures[line.name])
        if peer not in (OURS, *LIMITS) and (peer_figure := median_of(figures, line.name, peer))
    ]


def limit_of(line: Line, figures: Figures) -> Dot | None:
    """Return the least server of a line."""
    ours, least = (median_of(figures, line.name, who) for who in (OURS, LEAST))
    return Dot(LEAST, _speed_of(line, least, ours)) if ours and least else None


def draw_plot(lines: Sequence[Line], figures: Figures) -> str:
    """Return an SVG of all lines that have a peer or a target."""
    shown = [line for line in lines if _marks_of(line, figures) or dots_of(line, figures)]
    limits = [limit for line in shown if (limit := limit_of(line, figures))]
    axis = _Axis([dot.speed for line in shown for dot in (*dots_of(line, figures), *limits)])
    height = _TOP + len(shown) * _ROW_HEIGHT + _BOTTOM
    width = _TITLES_WIDTH + _PLOT_WIDTH + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *_draw_legend(shown, figures),
        *_draw_axis(axis, height),
    ]
    for number, line in enumerate(shown):
        parts += _draw_line(line, figures, axis, _TOP + number * _ROW_HEIGHT + _ROW_HEIGHT / 2)
    return "\n".join([*parts, "</svg>\n"])


class _Axis:
    """A logarithmic axis on which all speeds have room, and 1."""

    def __init__(self, speeds: Sequence[float]) -> None:
        logs = [math.log10(speed) for speed in speeds]
        self.first: Final = math.floor(min([*logs, -1.0]))
        self.last: Final = math.ceil(max([*logs, 1.0]))

    def place(self, speed: float) -> float:
        """Return where a speed lies; what is off the axis lies at its end."""
        share = (math.log10(speed) - self.first) / (self.last - self.first)
        return _TITLES_WIDTH + _PLOT_WIDTH * min(1.0, max(0.0, share))


def _speed_of(line: Line, figure: float, ours: float) -> float:
    return figure / ours if line.unit.endswith("/s") else ours / figure


def _marks_of(line: Line, figures: Figures) -> list[tuple[float, bool]]:
    """Return the targets as speeds, and whether each is met."""
    ours = median_of(figures, line.name, OURS)
    marks = []
    for target in line.targets:
        bound = bound_of(target, line, figures)
        if ours and bound:
            marks.append((_speed_of(line, bound, ours), is_met(target, ours, bound)))
    return marks


def _draw_legend(lines: Sequence[Line], figures: Figures) -> Iterator[str]:
    yield _text(_MARGIN, 22, "Speed beside recordd: peers to the right of 1 are faster", size=15)
    there = {dot.contestant for line in lines for dot in dots_of(line, figures)}
    x = float(_MARGIN)
    for contestant in filter(there.__contains__, _COLOURS):
        yield _circle(x + 5, 42, _COLOURS[contestant])
        yield _text(x + 14, 46, contestant)
        x += 30 + 6.6 * len(contestant)
    x = float(_MARGIN)
    for colour, words in ((_MET, "target of recordd, met"), (_MISSED, "target of recordd, missed")):
        yield _bar(x + 5, 64, colour)
        yield _text(x + 14, 68, words)
        x += 30 + 6.6 * len(words)
    if any(limit_of(line, figures) for line in lines):
        yield _ring(x + 5, 64)
        yield _text(x + 14, 68, f"{LEAST}: what there is to reach")


def _draw_axis(axis: _Axis, height: float) -> Iterator[str]:
    for exponent in range(axis.first, axis.last + 1):
        x = axis.place(10.0**exponent)
        colour, width = ("#333333", 1.5) if exponent == 0 else ("#dddddd", 1)
        yield (
            f'<line x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{height - _BOTTOM}"'
            f' stroke="{colour}" stroke-width="{width}"/>'
        )
        label = "recordd = 1" if exponent == 0 else f"{10.0**exponent:g}"
        yield _text(x, _TOP - 14, label, anchor="middle")


def _draw_line(line: Line, figures: Figures, axis: _Axis, y: float) -> Iterator[str]:
    yield _text(_TITLES_WIDTH - 12, y + 4, line.title.replace("`", ""), anchor="end")
    for speed, met in _marks_of(line, figures):
        yield _bar(axis.place(speed), y, _MET if met else _MISSED)
    if (limit := limit_of(line, figures)) is not None:
        yield _ring(axis.place(limit.speed), y)
    for dot in dots_of(line, figures):
        yield _circle(axis.place(dot.speed), y, _COLOURS.get(dot.contestant, "#555555"))


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
        f' fill="#222222">{escape(words)}</text>'
    )


def _circle(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'


def _ring(x: float, y: float) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none"'
        f' stroke="{_LIMIT}" stroke-width="1.5"/>'
    )


def _bar(x: float, y: float, colour: str) -> str:
    return f'<rect x="{x - 2:.1f}" y="{y - 9:.1f}" width="4" height="18" fill="{colour}"/>'
