"""Answers with a row for every record: rendered in turns, so that they hold nobody up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from recordd.system.turns import TURN_S, Turns
from recordd_protocol.errors import Reason, RequestError

__all__ = ["Listing"]

_ROWS_AT_ONCE: Final = 64
"""Between two looks at the clock: some 0.3 ms."""

_encode: Final = msgspec.json.Encoder().encode


class Listing:
    """An array with a row for each item: which items, and in what order, is decided."""

    def __init__(
        self, items: Sequence[Any], render: Callable[[Any], object], *, min_row_bytes: int
    ) -> None:
        """Take what is to be listed; `render` makes a row of an item, of any kind.

        No row has fewer than `min_row_bytes`: what cannot fit is refused before it is built.
        """
        self._items: Final = items
        self._render: Final = render
        self._min_row_bytes: Final = min_row_bytes

    @property
    def is_short(self) -> bool:
        """Whether it is built in less than a turn."""
        return len(self._items) <= _ROWS_AT_ONCE

    def check_room(self, max_bytes: int) -> None:
        """Refuse what cannot fit into one answer.

        Raises:
            RequestError: `too_large`.
        """
        if len(self._items) * self._min_row_bytes > max_bytes:
            raise self._refuse()

    def build_nowait(self) -> bytes:
        """Return the array as JSON text at once: for a short one."""
        return _encode([self._render(item) for item in self._items])

    async def build(self, turns: Turns, max_bytes: int) -> bytes:
        """Return the array as JSON text, built in turns. Cancelled, there is none.

        Raises:
            RequestError: `too_large` as soon as there are more than `max_bytes`.
        """
        pieces = [b"["]
        size = 2
        turn_ends = time.perf_counter() + TURN_S
        for start in range(0, len(self._items), _ROWS_AT_ONCE):
            rows = [self._render(item) for item in self._items[start : start + _ROWS_AT_ONCE]]
            pieces += (_encode(rows)[1:-1], b",")
            size += len(pieces[-2]) + 1
            if size > max_bytes:
                raise self._refuse()
            if time.perf_counter() > turn_ends:
                turn_ends = await turns.next()
        pieces[-1] = b"]" if self._items else b"[]"
        return b"".join(pieces)  # once: each copy of some ten megabytes takes as many ms

    def _refuse(self) -> RequestError:
        rows = len(self._items)
        text = f"{rows} rows do not fit into one answer: ask for less, with name, limit and after"
        return RequestError(Reason.TOO_LARGE, text)
