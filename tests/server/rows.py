"""Rows for tests, made by number."""

from __future__ import annotations

from collections.abc import Iterable

from recordd.backend import PageLimits
from recordd_protocol.rows import Row

PAGE = PageLimits(rows=10_000, bytes=1 << 20)


def row(rev: int, name: str = "a", ts: int | None = None, value: bytes | None = None) -> Row:
    """A row whose time and value follow from its rev unless given."""
    return Row(name, b"%d" % rev if value is None else value, rev * 10 if ts is None else ts, rev)


def revs(rows: Iterable[Row]) -> list[int | None]:
    return [row.rev for row in rows]
