"""Results as JSON text: rows are spliced as they were rendered once, never encoded again.

Dialects put it into their envelopes; a transport without one, such as HTTP, sends it as it is.
"""

from __future__ import annotations

from typing import Final

import msgspec

from recordd_protocol.dialect import Result
from recordd_protocol.rows import Page, Row, join_rows

__all__ = [
    "render_page",
    "render_page_end",
    "render_result",
    "render_row",
    "render_topics",
]

_encode: Final = msgspec.json.Encoder().encode


def render_result(result: Result) -> bytes:
    """Return any method's result, as its type in `recordd_protocol.methods` says."""
    if isinstance(result, msgspec.Struct):  # what a write is answered with, above all
        return _encode(result)
    if isinstance(result, bytes):  # JSON text already
        return result
    if isinstance(result, Row):
        return render_row(result)
    if isinstance(result, Page):
        return render_page(result)
    return _encode(result)


def render_row(row: Row) -> bytes:
    """Return a row as a `Record`."""
    return b"{%b}" % row.body


def render_page(page: Page) -> bytes:
    """Return a page as `Records`."""
    if page.texts is not None:
        return b'{"records":[%b]%b' % (b",".join(page.texts), render_page_end(page))
    if page.text is not None:
        return b'{"records":[{%b}]%b' % (page.text, render_page_end(page))
    return b'{"records":%b%b' % (join_rows(page.rows), render_page_end(page))


def render_page_end(page: Page) -> bytes:
    """Return what follows the rows of a page, to the end of its `Records`."""
    following = b"" if page.next is None else b',"next":%b' % _encode(page.next)
    if page.total is not None:
        following = b',"total":%d%b' % (page.total, _mark_truncated(page))
    if page.oldest_rev is not None:
        following += b',"gap":true,"oldest_rev":%d' % page.oldest_rev
    return b',"rev":%d,"epoch":%b%b}' % (page.rev, _encode(page.epoch), following)


def render_topics(page: Page) -> bytes:
    """Return a page as AimDB's clients read one: topics, without revs."""
    rows = b",".join(
        [
            b'{"topic":"%b","payload":%b,"ts":%d}' % (row.name.encode(), row.value, row.ts)
            for row in page.rows
        ]
    )
    total = len(page.rows) if page.total is None else page.total
    return b'{"records":[%b],"total":%d%b}' % (rows, total, _mark_truncated(page))


def _mark_truncated(page: Page) -> bytes:
    is_truncated = page.total is not None and page.total > len(page.rows)
    return b',"truncated":true' if is_truncated else b""
