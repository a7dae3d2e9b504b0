"""Rows as a program gets them: values decoded, to plain Python or to a type of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import msgspec

from recordd_client.errors import InvalidValue
from recordd_protocol.methods import Record, Records

__all__ = ["Page", "Row", "decode_page", "decode_row"]

T = TypeVar("T")


class Row(msgspec.Struct, Generic[T], frozen=True):
    """One row: `ts` in Unix ms, `rev` the commit number (None: the record is transient)."""

    name: str
    value: T
    ts: int
    rev: int | None


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Rows of one answer, or of all pages of a query.

    `rev` within `epoch` is the newest commit that the rows reflect; `next` continues behind
    them (None: there are no more); `skipped` counts rows whose value did not fit the type that
    was asked for. `oldest_rev` says that rows of the log above `after` are gone: none is missing
    from this commit on (None: none is gone).
    """

    rows: list[Row[T]]
    rev: int
    epoch: str
    next: str | None
    skipped: int
    oldest_rev: int | None = None


def decode_row(record: Record, as_type: Any) -> Row[Any]:
    """Decode a row's value.

    Raises:
        InvalidValue: the value does not fit `as_type`.
    """
    try:
        value = msgspec.json.decode(record.value, type=as_type)
    except msgspec.ValidationError as error:
        raise InvalidValue(f"record {record.name!r} at rev {record.rev}: {error}") from None
    return Row(record.name, value, record.ts, record.rev)


def decode_page(pages: Iterable[Records], as_type: Any) -> Page[Any]:
    """Decode the rows of consecutive pages; skip and count rows that do not fit the type."""
    rows: list[Row[Any]] = []
    skipped = 0
    last = None
    for last in pages:
        for record in last.records:
            try:
                rows.append(decode_row(record, as_type))
            except InvalidValue:
                skipped += 1
    assert last is not None, "a query has at least one page"
    following = None if last.next is msgspec.UNSET else last.next
    oldest_rev = None if last.oldest_rev is msgspec.UNSET else last.oldest_rev
    return Page(rows, last.rev, last.epoch, following, skipped, oldest_rev)
