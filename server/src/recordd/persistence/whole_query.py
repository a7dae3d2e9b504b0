"""A query of the history in one answer: the newest rows that it has room for."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import msgspec
import trio

from recordd.backend import PersistenceBackend, QueryParams
from recordd.pages import NewestRows, PageLimits
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Page

__all__ = ["WholeQuery"]

_LARGE_PAGE: Final = PageLimits(rows=100_000, bytes=16 << 20)
"""Each page finds anew where every record's rows start: few large ones cost less."""


class WholeQuery:
    """An awaitable of a `Page` with a `total`. Which moment it shows, its making decides."""

    def __init__(
        self,
        backend: PersistenceBackend,
        patterns: PatternSet,
        params: QueryParams,
        *,
        max_bytes: int,
        timeout_s: float,
    ) -> None:
        self._backend: Final = backend
        self._patterns: Final = patterns
        self._max_bytes: Final = max_bytes
        self._params: Final = msgspec.structs.replace(params, page=_LARGE_PAGE)
        self._timeout_s: Final = timeout_s
        self._first: Final = backend.query(patterns, self._params)

    def close(self) -> None:
        """Give it up before it was awaited."""
        self._first.close()

    def __await__(self) -> Generator[Any, Any, Page]:
        return self._read().__await__()

    async def _read(self) -> Page:
        """Read all pages and keep the newest rows: time follows the history, memory the answer."""
        with trio.move_on_after(self._timeout_s):
            page = await self._first
            newest = NewestRows(self._max_bytes)
            newest.extend(page.rows)
            total = len(page.rows)
            while page.next is not None:
                following = msgspec.structs.replace(self._params, after=page.next)
                page = await self._backend.query(self._patterns, following)
                total += len(page.rows)
                newest.extend(page.rows)
            return Page(list(newest.rows), rev=page.rev, epoch=page.epoch, total=total)
        refusal = f"the query took longer than {self._timeout_s:g} s; ask for less"
        raise RequestError(Reason.TIMEOUT, refusal)
