"""The integers of the protocol: revs, times and limits fit 64 bits with a sign.

SQLite stores such integers, and most languages call them long.
"""

from __future__ import annotations

from typing import Final

from recordd_protocol.errors import Reason, RequestError

__all__ = ["MAX_INTEGER", "check_integer"]

MAX_INTEGER: Final = 2**63 - 1
"""The greatest rev, time or limit."""


def check_integer(name: str, value: int | None) -> None:
    """Refuse a parameter that can be no rev, time or limit; None is none that was given.

    No bound of the type: the decoder would refuse in words of its own.

    Raises:
        RequestError: `invalid_params`, naming the parameter.
    """
    if value is not None and not 0 <= value <= MAX_INTEGER:
        text = f"{name}: must be between 0 and 2^63 - 1"
        raise RequestError(Reason.INVALID_PARAMS, text)
