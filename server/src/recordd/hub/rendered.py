"""Rendered answers: the latest values of some patterns as one text, kept until one changes.

Theory of operation. An answer of a thousand rows costs a look at each of them: its size, its
place, its text. Somebody who asks again mostly finds the same rows, all but a few. So the text
is kept, in pieces, and with it the catalogue's tick that it shows. The records that changed
since are at the end of `by_change`: their old rows are taken out of the order, their new ones
put in, and the pieces that they are in are joined anew (10 µs, where to sort a thousand rows
and to look at each took 120). A row of another record changes nothing here: the `rev` of an
answer stands beside the text.

Where a record was deleted, or more changed than is worth it, the answer is forgotten, and made
anew by who asks. This is the one rule of invalidation: `_Answer.follow`.

What is kept is bounded in bytes, and least recently asked for goes first.
"""

from __future__ import annotations

import collections
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

from recordd.config.memory_budget import RENDERED_BYTES
from recordd.extending.paging import PageLimits
from recordd.hub.catalogue import Catalogue
from recordd.hub.joined_bodies import JoinedBodies
from recordd.hub.records import ROW_BYTES, RecordState
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Page, Row

__all__ = ["RenderedAnswers"]

_FEW_ROWS: Final = 1024
"""Rows that are brought up to date at once: 0.1 ms at most, also where a hundred ask."""

_FEW_CHANGES: Final = 16
"""And an eighth of the rows: to take one out and put one in costs as much as to sort ten."""


class _Answer:
    """The rows of an answer in their order, and their text, as of a tick."""

    __slots__ = (
        "_bodies",
        "_departures",
        "_next_record_id",
        "_orders",
        "_page",
        "_shown",
        "_texts",
        "page_bytes",
        "rows",
        "tick",
    )

    def __init__(self, rows: list[Row], catalogue: Catalogue) -> None:
        self.rows = rows
        self._bodies: Final = JoinedBodies([row.body for row in rows])
        self._texts: list[bytes] = []
        self._page: Page | None = None
        self.page_bytes = 0
        self._take_texts()
        self.tick = catalogue.tick
        self._next_record_id = catalogue.next_record_id
        self._departures: Final = catalogue.departures
        # Most answers are asked for once: what finds a row again is made with the first change.
        self._orders: list[int] = []
        self._shown: dict[str, Row] = {}

    @property
    def memory(self) -> int:
        """Bytes that it takes, about, with the rows that nobody else may hold any more."""
        return 3 * self.page_bytes + (ROW_BYTES + 256) * len(self.rows)

    def page(self, catalogue: Catalogue) -> Page:
        """Return the page that this is; nothing it shows has changed since its tick."""
        page = self._page
        if page is None or page.rev != catalogue.rev:
            page = self._page = Page(
                self.rows,
                rev=catalogue.rev,
                epoch=catalogue.epoch,
                texts=self._texts,
            )
        return page

    def follow(self, patterns: PatternSet, catalogue: Catalogue) -> bool:
        """Show what is true now; return False where it is to be made anew."""
        if catalogue.departures != self._departures:
            return False
        changed = self._find_changed(patterns, catalogue)
        if changed is None:
            return False
        if changed:
            self._replace(changed)
        self.tick, self._next_record_id = catalogue.tick, catalogue.next_record_id
        return True

    def _find_changed(self, patterns: PatternSet, catalogue: Catalogue) -> list[Row] | None:
        """Return the new rows of what changed since, oldest change first; None for too many."""
        if not self._orders:
            self._orders = [row.order for row in self.rows]
            self._shown = {row.name: row for row in self.rows}
        found: list[Row] = []
        looks = _FEW_CHANGES + len(self.rows) // 8
        for state in _changed_since(catalogue.by_change, self.tick):
            if not looks:
                return None
            looks -= 1
            if state.name in self._shown or (
                state.record_id >= self._next_record_id and patterns.matches(state.name)
            ):
                found.append(state.latest)
        found.reverse()
        return found

    def _replace(self, changed: list[Row]) -> None:
        # A copy: pages that were given show their moment, whenever they are read.
        rows = self.rows = self.rows.copy()
        orders, bodies, shown = self._orders, self._bodies, self._shown
        for row in changed:
            if (old := shown.get(row.name)) is not None:
                # Records that are not persisted may share an order, and keep their places then.
                place = rows.index(old, bisect_left(orders, old.order))
                del rows[place], orders[place]
                bodies.remove(place)
            if old is None or row.order != old.order:
                place = bisect_right(orders, row.order)
            rows.insert(place, row)
            orders.insert(place, row.order)
            bodies.insert(place, row.body)
            shown[row.name] = row
        self._take_texts()

    def _take_texts(self) -> None:
        self._texts = self._bodies.texts()
        self._page = None
        self.page_bytes = sum(map(len, self._texts)) + len(self._texts)


class RenderedAnswers:
    """Answers that fit one page, by their patterns, least recently asked for first."""

    def __init__(
        self, catalogue: Catalogue, limits: PageLimits, max_bytes: int = RENDERED_BYTES
    ) -> None:
        self._catalogue: Final = catalogue
        self._limits: Final = limits
        self._max_bytes: Final = max_bytes
        self._answers: Final[collections.OrderedDict[tuple[str, ...], _Answer]] = (
            collections.OrderedDict()
        )
        self._memory = 0

    def find_soon(self, patterns: PatternSet) -> Page | None:
        """Return the answer of now where that takes little; None says no more than that."""
        answer = self._answers.get(patterns.key)
        if answer is None:
            return None
        if answer.tick == self._catalogue.tick:
            self._answers.move_to_end(patterns.key)
            return answer.page(self._catalogue)
        return self.find(patterns) if len(answer.rows) <= _FEW_ROWS else None

    def find(self, patterns: PatternSet) -> Page | None:
        """Return the answer of now; None where it has to be made, and may be kept."""
        answer = self._answers.get(patterns.key)
        if answer is None:
            return None
        self._answers.move_to_end(patterns.key)
        if answer.tick != self._catalogue.tick and not self._bring_up_to_date(answer, patterns):
            return None
        return answer.page(self._catalogue)

    def keep(self, patterns: PatternSet, rows: list[Row]) -> Page:
        """Keep what is the answer now, all of it on one page; `rows` stay as they are."""
        answer = _Answer(rows, self._catalogue)
        if rows and answer.memory <= self._max_bytes // 2:
            self._forget(patterns.key)
            self._answers[patterns.key] = answer
            self._memory += answer.memory
            self._make_room()
        return answer.page(self._catalogue)

    def _bring_up_to_date(self, answer: _Answer, patterns: PatternSet) -> bool:
        before = answer.memory
        is_whole = (
            answer.follow(patterns, self._catalogue)
            and answer.page_bytes <= self._limits.bytes
            and len(answer.rows) <= self._limits.rows
        )
        self._memory += answer.memory - before
        if not is_whole:
            self._forget(patterns.key)
        self._make_room()
        return is_whole

    def _forget(self, key: tuple[str, ...]) -> None:
        if (answer := self._answers.pop(key, None)) is not None:
            self._memory -= answer.memory

    def _make_room(self) -> None:
        while self._memory > self._max_bytes:
            self._forget(next(iter(self._answers)))


def _changed_since(
    by_change: collections.OrderedDict[str, RecordState], tick: int
) -> Iterator[RecordState]:
    """Yield the records that changed after `tick`, most recent first."""
    for state in reversed(by_change.values()):
        if state.changed <= tick:
            return
        yield state
