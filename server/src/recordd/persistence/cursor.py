"""The opaque `next` of a query's page, written and read in one place."""

from __future__ import annotations

from recordd_protocol.errors import Reason, RequestError

__all__ = ["decode_cursor", "encode_cursor"]


def encode_cursor(ts: int, rev: int, as_of: int) -> str:
    """Write where a page of `query` ended, and the commit that its first page saw."""
    return f"{ts}.{rev}.{as_of}"


def decode_cursor(text: str, newest_rev: int) -> tuple[int, int, int]:
    """Read a cursor back; no honest one comes from a commit after `newest_rev`.

    Raises:
        RequestError: `invalid_params` where it is none of ours.
    """
    parts = text.split(".")
    refusal = RequestError(Reason.INVALID_PARAMS, "after: must be the 'next' of an earlier answer")
    if (
        len(text) > 60
        or len(parts) != 3
        or not all(part.isascii() and part.isdecimal() for part in parts)
    ):
        raise refusal
    ts, rev, as_of = map(int, parts)
    if ts >= 2**63 or rev > as_of or as_of > newest_rev:
        raise refusal
    return ts, rev, as_of
