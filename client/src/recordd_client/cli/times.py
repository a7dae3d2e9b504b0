"""Times as people write and read them; on the wire they are Unix milliseconds."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

__all__ = ["format_time", "parse_time"]

_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_time(text: str, *, now_ms: int | None = None) -> int:
    """Return Unix ms of `now`, an age (`-2h`), Unix ms, or an ISO 8601 date or time.

    A date or time without an offset is in the local time zone.

    Raises:
        ValueError: where it is none of these, or before 1970.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    if text == "now":
        return now_ms
    if found := re.fullmatch(r"-(\d{1,9})(ms|s|m|h|d)", text):
        return max(0, now_ms - int(found[1]) * _UNITS_MS[found[2]])
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        if moment.timestamp() >= 0:
            return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{text!r} is no time: write -2h, now, 2013-01-31T12:00 or Unix milliseconds")


def format_time(ts_ms: int) -> str:
    """Write Unix ms in the local time zone, to the millisecond where there are any."""
    try:
        moment = datetime.fromtimestamp(ts_ms / 1000, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return str(ts_ms)  # beyond the year 9999
    spec = "milliseconds" if ts_ms % 1000 else "seconds"
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec=spec)
