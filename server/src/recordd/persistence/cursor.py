"""The opaque `next` of a page, written and read in one place.

Each holds the epoch that it is from: a place in one database means nothing in another.
"""

from __future__ import annotations

import msgspec

from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import MAX_INTEGER

__all__ = ["Cursor", "LogCursor", "decode_cursor", "decode_log_cursor", "encode"]

_FORM = "history"
_LOG_FORM = "log"


class Cursor(msgspec.Struct, frozen=True):
    """The end of a page of a query, and the moment that its first page showed.

    `as_of` is the newest commit of that moment. No row behind the page has gone up to `tick`.
    """

    ts: int
    rev: int
    as_of: int
    tick: int


class LogCursor(msgspec.Struct, frozen=True):
    """The end of a page of the log."""

    rev: int


def encode(cursor: Cursor | LogCursor, epoch: str) -> str:
    """Write a cursor."""
    form = _FORM if isinstance(cursor, Cursor) else _LOG_FORM
    return ".".join([form, *map(str, msgspec.structs.astuple(cursor)), epoch])


def decode_cursor(text: str, *, epoch: str, newest_rev: int, tick: int) -> Cursor:
    """Read the cursor of a query; one from a commit or tick of the future is forged.

    Raises:
        RequestError: `invalid_params` where the daemon never made it, `expired` where its
            epoch is another.
    """
    numbers, its_epoch = _split(text, _FORM, 4)
    cursor = Cursor(*numbers)
    if its_epoch != epoch:
        text = "after: from another epoch of the database: ask for the first page again"
        raise RequestError(Reason.EXPIRED, text)
    if (
        cursor.ts > MAX_INTEGER
        or not cursor.rev <= cursor.as_of <= newest_rev
        or cursor.tick > tick
    ):
        raise _refusal()
    return cursor


def decode_log_cursor(text: str, *, epoch: str) -> LogCursor:
    """Read the cursor of the log; a plain number is a rev, of any epoch.

    Raises:
        RequestError: `invalid_params` where the daemon never made it, `conflict` where its
            epoch is another.
    """
    if _is_number(text):
        return LogCursor(int(text))
    (rev,), its_epoch = _split(text, _LOG_FORM, 1)
    if its_epoch != epoch:
        text = f"after: from epoch {its_epoch!r}; it is {epoch!r} now"
        raise RequestError(Reason.CONFLICT, text)
    return LogCursor(rev)


def _split(text: str, form: str, count: int) -> tuple[list[int], str]:
    """Return the numbers and the epoch of a cursor."""
    parts = text.split(".", count + 1) if len(text) <= 200 else []
    if len(parts) != count + 2 or parts[0] != form or not all(map(_is_number, parts[1:-1])):
        raise _refusal()
    return [int(part) for part in parts[1:-1]], parts[-1]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


def _refusal() -> RequestError:
    return RequestError(Reason.INVALID_PARAMS, "after: must be the 'next' of an earlier answer")
