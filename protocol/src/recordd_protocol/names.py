"""Record names: the rules that a name keeps, with their reasons."""

from __future__ import annotations

import re
from typing import Final

from recordd_protocol.errors import Reason, RequestError

__all__ = ["MAX_NAME_BYTES", "UNWRITABLE", "check_name", "entity_of", "refuse_character"]

MAX_NAME_BYTES: Final = 255
"""Longest record name in bytes of UTF-8: one length byte, as in file systems."""

UNWRITABLE: Final = r'\x00-\x20\x7f-\x9f"\\\s'
"""The characters that neither a name nor a pattern may hold, as a regular expression has them.

C0 and C1 controls, line and paragraph separators and every other white space would break
terminals and line tools; `"` and `\\` would need an escape, which AimDB's decoder cannot read
in a topic.
"""

_FORBIDDEN: Final = re.compile(f"[{UNWRITABLE}*#]")  # the wildcards belong to patterns


def check_name(name: str) -> str:
    """Return `name` unchanged if it may name a record.

    Raises:
        RequestError: `invalid_params`, naming the rule that the name breaks.
    """
    if not name:
        raise RequestError(Reason.INVALID_PARAMS, "name: a record name must not be empty")
    if len(name) > MAX_NAME_BYTES or len(name.encode()) > MAX_NAME_BYTES:
        raise RequestError(
            Reason.INVALID_PARAMS, f"name: longer than {MAX_NAME_BYTES} bytes of UTF-8"
        )
    if found := _FORBIDDEN.search(name):
        raise refuse_character(found)
    return name


def refuse_character(found: re.Match[str]) -> RequestError:
    """Return the refusal of a name or a pattern for one character."""
    return RequestError(
        Reason.INVALID_PARAMS,
        f"name: character {found.group()!a} at position {found.start()} is not allowed",
    )


def entity_of(name: str) -> str:
    """Return the last part of a name, behind its last `.` or `/`, as AimDB's `topic_leaf` does."""
    return re.split(r"[./]", name)[-1]
