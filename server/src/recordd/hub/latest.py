"""Latest values by pattern: `record.query` where one row a record is asked for.

They are the hub's, so they are served for every record, transient ones too, and with or
without persistence. All pages show the moment of the first.
"""

from __future__ import annotations

import zlib
from typing import Final

from recordd.extending.paging import PageLimits, end_of_page, keep_newest
from recordd.hub.catalogue import Catalogue
from recordd.hub.rendered import RenderedAnswers
from recordd.hub.snapshots import Snapshots
from recordd.system.turns import Steps
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Page, Row

__all__ = ["LatestReader"]

_FORM: Final = "latest"


class LatestReader:
    """Answers from memory, by (`ts`, `rev`); where there is no rev, 0 counts for it."""

    def __init__(self, catalogue: Catalogue, limits: PageLimits, snapshots: Snapshots) -> None:
        self._catalogue: Final = catalogue
        self._limits: Final = limits
        self._snapshots: Final = snapshots
        self._rendered: Final = RenderedAnswers(catalogue, limits)

    def maybe_page(self, patterns: PatternSet) -> Page | None:
        """Return the first and only page where that takes little; None says nothing."""
        if self._catalogue.damaged:
            self._catalogue.check_readable(patterns.matches)
        return self._rendered.find_soon(patterns)

    def first_page(self, patterns: PatternSet, owner: object) -> Steps[Page]:
        """Return the first page; the rows of the others are kept for `owner`."""
        self._catalogue.check_readable(patterns.matches)
        if (page := self._rendered.find(patterns)) is not None:
            return page
        yield from self._catalogue.prepare_latest(patterns)
        rows, rev = self._catalogue.latest(patterns), self._catalogue.rev
        end = end_of_page(rows, 0, self._limits)
        if end == len(rows):
            return self._rendered.keep(patterns, rows)
        snapshot = yield from self._snapshots.keep(rows, owner, rev=rev)
        following = self._encode(snapshot.id, end, patterns)
        return Page(rows[:end], rev=rev, epoch=self._catalogue.epoch, next=following)

    def page_after(self, page_cursor: str, patterns: PatternSet) -> Page:
        """Return the page behind another, of the same moment.

        Raises:
            RequestError: `expired` where the rows of that moment are no longer kept,
                `invalid_params` for an `after` that is none, or of other patterns.
        """
        snapshot_id, start = self._decode(page_cursor, patterns)
        snapshot = self._snapshots.find(snapshot_id)
        if snapshot is None:
            refusal = "after: the values of that moment are no longer kept; ask for the first page"
            refusal = f"{refusal} again. Settings: {self._snapshots.describe_limits()}"
            raise RequestError(Reason.EXPIRED, refusal)
        rows: list[Row] = snapshot.rows
        if not 0 < start < len(rows):
            raise _invalid()
        end = end_of_page(rows, start, self._limits)
        following = self._encode(snapshot_id, end, patterns) if end < len(rows) else None
        return Page(rows[start:end], rev=snapshot.rev, epoch=self._catalogue.epoch, next=following)

    def newest(self, patterns: PatternSet, max_bytes: int) -> Steps[Page]:
        """Return one answer with the newest rows that it has room for."""
        self._catalogue.check_readable(patterns.matches)
        yield from self._catalogue.prepare_latest(patterns)
        rows = self._catalogue.latest(patterns)
        newest = keep_newest(rows, max_bytes)
        return Page(newest, rev=self._catalogue.rev, epoch=self._catalogue.epoch, total=len(rows))

    def _encode(self, snapshot_id: str, start: int, patterns: PatternSet) -> str:
        return f"{_FORM}.{snapshot_id}.{start}.{_sum(patterns)}.{self._catalogue.epoch}"

    def _decode(self, page_cursor: str, patterns: PatternSet) -> tuple[str, int]:
        form, snapshot_id, start, patterns_sum, epoch = (*page_cursor.split(".", 4), *[""] * 4)[:5]
        if form != _FORM or not (start.isascii() and start.isdecimal() and len(start) < 10):
            raise _invalid()
        if patterns_sum != _sum(patterns):
            raise _invalid()
        if epoch != self._catalogue.epoch:
            raise RequestError(
                Reason.EXPIRED, "after: from another epoch; ask for the first page again"
            )
        return snapshot_id, int(start)


def _sum(patterns: PatternSet) -> str:
    """Tell patterns apart, so that no page shows records of another query."""
    return f"{zlib.crc32(' '.join(patterns.key).encode()):08x}"


def _invalid() -> RequestError:
    return RequestError(
        Reason.INVALID_PARAMS, "after: must be the 'next' of an earlier answer to this query"
    )
