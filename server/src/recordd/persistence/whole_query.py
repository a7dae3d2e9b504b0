"""A query of the history in one answer: the newest rows that it has room for."""

from __future__ import annotations

from typing import Final

import msgspec
import trio

from recordd.extending.backend import PersistenceBackend, QueryParams
from recordd.extending.paging import NewestRows, PageLimits
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Page

__all__ = ["read_whole"]

_LARGE_PAGE: Final = PageLimits(rows=20_000, bytes=4 << 20)
"""Each page finds anew where every record's rows start: few large ones cost less. To add up
one of them holds the event loop for some 5 ms."""


async def read_whole(
    backend: PersistenceBackend,
    patterns: PatternSet,
    params: QueryParams,
    *,
    max_bytes: int,
    timeout_s: float,
) -> Page:
    """Return the newest rows of `max_bytes` together, and in `total` how many there are.

    Time follows the history, memory the answer. All pages show the moment of `params`,
    which is held until the last is read.

    Raises:
        RequestError: as `PersistenceBackend.query`; `timeout` for all pages together.
    """
    params = msgspec.structs.replace(params, page=_LARGE_PAGE)
    with trio.move_on_after(timeout_s):
        page = await backend.query(patterns, params)
        newest = NewestRows(max_bytes)
        newest.extend(page.rows)
        total = len(page.rows)
        while page.next is not None:
            page = await backend.query(
                patterns, msgspec.structs.replace(params, page_cursor=page.next)
            )
            total += len(page.rows)
            newest.extend(page.rows)
        return Page(list(newest.rows), rev=page.rev, epoch=page.epoch, total=total)
    raise RequestError(Reason.TIMEOUT, f"the query took longer than {timeout_s:g} s; ask for less")
