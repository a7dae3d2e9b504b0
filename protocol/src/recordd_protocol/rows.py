"""Rows on their way out: rendered once, spliced into every message that carries them."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

__all__ = ["ROW_SEPARATOR", "Page", "Row", "RowKind", "join_rows", "order_of"]


ROW_SEPARATOR: Final = b"},{"
"""The bytes between two rows of an answer."""


def order_of(ts: int, rev: int) -> int:
    """Return the place of a row in (`ts`, `rev`) order; both fit 64 bits."""
    return ts << 64 | rev


class RowKind(enum.Enum):
    """The effect of a commit on its record: a new latest value, a late one, or its end."""

    LATEST = enum.auto()
    LATE = enum.auto()
    DELETED = enum.auto()


class Row:
    """One commit of a record.

    `value` is JSON text without line breaks, `ts` Unix milliseconds, `rev` the commit
    number (None for a transient record). `body` is the row as JSON-RPC messages show it,
    less its braces. `order` sorts rows by (`ts`, `rev`), as one integer
    because tuples compare three times slower; the latest row is the one with the
    greatest. `kind` is the effect of the commit when it happened. Immutable by agreement: all
    readers share a row.
    """

    __slots__ = ("body", "kind", "name", "order", "rev", "ts", "value")

    body: bytes

    def __init__(
        self, name: str, value: bytes, ts: int, rev: int | None, kind: RowKind = RowKind.LATEST
    ) -> None:
        self.name: Final = name
        self.value: Final = value
        self.ts: Final = ts
        self.rev: Final = rev
        self.kind: Final = kind
        self.order: Final = ts << 64 | (rev or 0)  # order_of, without a call for each row

    if not TYPE_CHECKING:  # or every misspelt attribute would have a type

        def __getattr__(self, name: str) -> bytes:
            """Render the body when it is asked for first; from then on it is there.

            To render it takes two thirds of what a row takes (0.5 of 0.8 µs), and of the rows
            of a large load hardly one is read before the next.
            """
            if name != "body":
                raise AttributeError(name)
            body = self.body = b'"name":"%b","value":%b,"ts":%d,"rev":%b' % (
                self.name.encode(),  # check_name lets nothing in that would need an escape
                self.value,
                self.ts,
                b"null" if self.rev is None else b"%d" % self.rev,
            )
            return body

    def __repr__(self) -> str:
        return f"Row({self.name!r}, ts={self.ts}, rev={self.rev}, {self.kind.name})"


class Page:
    """One answer's worth of rows, and the start of the next page.

    `rev` is the newest commit that the rows reflect, within `epoch`. `next` is an
    opaque string to pass back as `after`, or None on the last page. `total`, of an answer
    without pages, is the number of rows there are; the oldest are left out where it is more.
    `oldest_rev`, where rows of a log are gone, is the commit from which on none is missing.
    `text`, of a page of history that was asked for as text, are the bodies of its rows, joined by
    `ROW_SEPARATOR`; it stands instead of the rows. `texts`, of a page of latest values, are its
    rows as JSON text, some objects with commas between in each. They stay, where the rows of
    such a page change with the next commit: to copy those costs too much.
    """

    __slots__ = ("epoch", "next", "oldest_rev", "rev", "rows", "text", "texts", "total")

    def __init__(
        self,
        rows: list[Row],
        *,
        rev: int,
        epoch: str,
        next: str | None = None,
        total: int | None = None,
        oldest_rev: int | None = None,
        text: bytes | None = None,
        texts: list[bytes] | None = None,
    ) -> None:
        self.rows: Final = rows
        self.text: Final = text
        self.texts: Final = texts
        self.rev: Final = rev
        self.epoch: Final = epoch
        self.next: Final = next
        self.total: Final = total
        self.oldest_rev: Final = oldest_rev

    def __repr__(self) -> str:
        return f"Page({len(self.rows)} rows, rev={self.rev}, next={self.next!r})"


def join_rows(rows: Iterable[Row]) -> bytes:
    """Return the rows as a JSON array."""
    joined = ROW_SEPARATOR.join([row.body for row in rows])
    return b"[{%b}]" % joined if joined else b"[]"
