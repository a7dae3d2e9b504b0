"""Lines of the table: what a figure means, and the target that it is held against.

A target is a bound in the figure's unit, or a multiple of another figure of the same run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

__all__ = [
    "INDEXED",
    "LEAST",
    "LIMITS",
    "OURS",
    "Figures",
    "Line",
    "Target",
    "Unit",
    "at_least",
    "at_most",
]

OURS: Final = "recordd"
LEAST: Final = "least Python server"
INDEXED: Final = "SQLite alone, indexed"
LIMITS: Final = (LEAST, INDEXED)
"""Contestants that show what can be reached at all, and not what others have reached."""

Unit = Literal["µs", "s", "/s", "rows/s", "MiB", "KiB"]

Figures = Mapping[str, Mapping[str, Sequence[float]]]
"""Line, contestant: what each round gave."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """`factor` times what `peer` reached in `question`, or `factor` itself without a peer.

    `line` names the line of the peer's figure; empty: the target's own.
    """

    is_upper: bool
    factor: float
    peer: str = ""
    line: str = ""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table; `unit` is that of recordd's figure, its peers' and its targets."""

    name: str
    title: str
    unit: Unit
    targets: tuple[Target, ...] = ()


def at_most(factor: float, peer: str = "", line: str = "") -> Target:
    """Return an upper bound: for times and sizes."""
    return Target(is_upper=True, factor=factor, peer=peer, line=line)


def at_least(factor: float, peer: str = "", line: str = "") -> Target:
    """Return a lower bound: for rates."""
    return Target(is_upper=False, factor=factor, peer=peer, line=line)
