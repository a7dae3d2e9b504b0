"""Which times a write may state: a `ts` in seconds or microseconds is a mistake, not a date."""

from __future__ import annotations

import time
from typing import Final

from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import MAX_INTEGER

__all__ = ["check_ts"]

_UNITS: Final = (("seconds", 1000, 1), ("microseconds", 1, 1000), ("nanoseconds", 1, 1_000_000))
"""Units that clients take for milliseconds, and what makes milliseconds of them."""

_LAST_DATED_MS: Final = 253_402_300_800_000
"""The year 10,000, which dates are not written for."""

_YEAR_MS: Final = 31_556_952_000


def check_ts(ts: int, *, now_ms: int, min_ts: int, max_future_ms: int) -> None:
    """Refuse a time before `min_ts` or too far ahead of the clock.

    Raises:
        RequestError: `invalid_params`; the text names the setting, and the unit that would
            bring the time into the window, if there is one.
    """
    if not 0 <= ts <= MAX_INTEGER:
        raise _refusal(f"{ts} is not between 0 and 2^63 - 1")
    latest = now_ms + max_future_ms
    if ts < min_ts:
        bound = f"before min_ts ({_format_day(min_ts)})"
    elif ts > latest:
        bound = f"more than max_future ({max_future_ms} ms) ahead of the daemon's clock"
    else:
        return
    text = f"{ts} is {_format_day(ts)} in milliseconds, {bound}"
    for unit, factor, divisor in _UNITS:
        if min_ts <= ts * factor // divisor <= latest:
            raise _refusal(f"looks like {unit}: {text}")
    raise _refusal(text)


def _format_day(ts: int) -> str:
    if ts >= _LAST_DATED_MS:
        return f"in the year {1970 + ts // _YEAR_MS}"
    return time.strftime("%Y-%m-%d", time.gmtime(ts // 1000))


def _refusal(text: str) -> RequestError:
    return RequestError(Reason.INVALID_PARAMS, f"ts: {text}")
