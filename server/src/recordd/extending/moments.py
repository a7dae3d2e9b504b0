"""Moments: a reader shows what there was when its turn came, whenever it comes to read.

Theory of operation. A `Moment` is taken when a request's turn comes, without waiting. What
is committed later is kept out by `as_of`. Rows go in two ways. A record that is deleted
loses its name at once and its rows later: they wait for every reader whose moment is
older, so that such a reader finds all of them. Retention takes rows at once; a reader from
before who has not read them yet would lack them, and is refused.

Nobody holds a moment between two pages. The `next` of a page says when its rows were
known to be whole; the page behind it is refused when rows that it or a later one would
show have gone since. Retention takes the oldest rows of a record, mostly those that the
pages have passed: it refuses nobody it does not concern.

Each time that rows go, deletions too, is one `tick`. Of each record the register keeps
the last one, and the greatest (`ts`, `rev`) that ever went: enough to tell what a page
may lack. It forgets the oldest past `MAX_NAMES`, and takes their rows for anybody's.
"""

from __future__ import annotations

import collections
import weakref
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
import trio

from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import PatternSet

__all__ = ["MAX_NAMES", "Gone", "Moment", "Moments", "expired"]

MAX_NAMES: Final = 65_536
"""Records whose lost rows are known by name; some 20 MB where all of them lose rows."""

_MAX_MATCHES: Final = 8192
"""Names that are matched before a page is refused without a look: 80 ms at worst."""

_MAX_INT: Final = 2**64
_ANYBODY: Final = ""
"""What rows whose record is forgotten go by; no record is called that."""


class Moment:
    """When a reader's turn came. Whoever shows it holds it; rows deleted since wait for that."""

    __slots__ = ("__weakref__", "as_of", "tick")

    def __init__(self, as_of: int, tick: int) -> None:
        self.as_of: Final = as_of
        """The newest commit of the time; later ones are not there yet."""
        self.tick: Final = tick
        """How often rows had gone."""


class Gone(msgspec.Struct, frozen=True):
    """Rows of one record that went: the greatest (`ts`, `rev`), and the span of their revs."""

    name: str
    newest: tuple[int, int]
    oldest_rev: int
    newest_rev: int


class _Log:
    """What went, by name, least recent first; what is forgotten may have been anybody's."""

    def __init__(self, max_names: int, tick: int) -> None:
        self._max_names: Final = max_names
        self._by_name: Final[collections.OrderedDict[str, tuple[int, Gone]]] = (
            collections.OrderedDict()
        )
        self._forgotten_tick = tick
        self._forgotten: Gone | None = None if not tick else _anybodys((_MAX_INT, 0))

    def add(self, tick: int, gone: Gone) -> None:
        if (known := self._by_name.get(gone.name)) is not None:
            gone = _merge(known[1], gone)
        self._by_name[gone.name] = (tick, gone)
        self._by_name.move_to_end(gone.name)
        if len(self._by_name) > self._max_names:
            _, (self._forgotten_tick, oldest) = self._by_name.popitem(last=False)
            known_before = self._forgotten or oldest
            self._forgotten = _anybodys(max(known_before.newest, oldest.newest))

    def since(self, tick: int) -> Iterator[Gone]:
        """Yield what went after `tick`, most recent first; the nameless may be anybody's."""
        if self._forgotten is not None and self._forgotten_tick > tick:
            yield self._forgotten
        for changed, gone in reversed(self._by_name.values()):
            if changed <= tick:
                return
            yield gone


class Moments:
    """The register of a backend: who reads which moment, and what has gone since when."""

    def __init__(self, tick: int = 0, max_names: int = MAX_NAMES) -> None:
        """Begin at a `tick`; what went up to it is not known by name."""
        self.tick = tick
        self._held: Final[weakref.WeakSet[Moment]] = weakref.WeakSet()
        self._gone: Final = _Log(max_names, tick)
        self._purged: Final = _Log(max_names, tick)
        self._noted: Final = trio.lowlevel.ParkingLot()

    def take(self, as_of: int) -> Moment:
        """Return the present moment, of commits up to `as_of`."""
        moment = Moment(as_of, self.tick)
        self._held.add(moment)
        return moment

    @property
    def oldest_tick(self) -> int | None:
        """The `tick` of the oldest moment that is held, None where none is."""
        return min([moment.tick for moment in self._held], default=None)

    def note_deletion(self, gone: Gone, tick: int | None = None) -> None:
        """Take note that a record is deleted; its rows stay for those who hold a moment."""
        self._advance(tick)
        self._gone.add(self.tick, gone)

    def note_purge(self, all_gone: list[Gone], tick: int | None = None) -> None:
        """Take note of rows that are there for nobody any more."""
        self._advance(tick)
        for gone in all_gone:
            self._gone.add(self.tick, gone)
            self._purged.add(self.tick, gone)

    async def wait_noted(self, tick: int) -> None:
        """Wait until what went up to `tick` is known here: storage is ahead for a moment."""
        while self.tick < tick:
            await self._noted.park()

    def check_page(
        self,
        patterns: PatternSet,
        *,
        since: int,
        until: int,
        behind: tuple[int, int],
        end_ms: int | None,
        as_of: int,
    ) -> None:
        """Refuse to go on after a page: rows that were to come went in ticks `since` to `until`.

        `until` is the tick of the moment in hand: it shows what went later, and a page
        behind one of its own needs no look. Only rows behind a (`ts`, `rev`), up to
        `end_ms`, of commits up to `as_of` count.

        Raises:
            RequestError: `expired`.
        """
        if since < until and self._concerns(self._gone, patterns, since, behind, end_ms, as_of):
            raise expired("rows of this query were deleted after its first page")

    def check_read(
        self,
        patterns: PatternSet,
        moment: Moment,
        *,
        behind: tuple[int, int],
        end_ms: int | None,
        as_of: int,
    ) -> None:
        """Refuse rows that were read: retention may have taken some since the moment.

        Raises:
            RequestError: `expired`.
        """
        if self._concerns(self._purged, patterns, moment.tick, behind, end_ms, as_of):
            raise expired("retention deleted rows of this query while it waited")

    def check_log(
        self, patterns: PatternSet, moment: Moment, *, after_rev: int, up_to: int
    ) -> None:
        """Refuse rows of the log that were read, `after_rev` < `rev` <= `up_to`, likewise.

        Raises:
            RequestError: `expired`.
        """
        purged = self._purged.since(moment.tick)
        found = (g for g in purged if g.newest_rev > after_rev and g.oldest_rev <= up_to)
        if _may_match(patterns, found):
            raise expired("retention deleted rows of the log while this waited")

    def _concerns(
        self,
        log: _Log,
        patterns: PatternSet,
        since: int,
        behind: tuple[int, int],
        end_ms: int | None,
        as_of: int,
    ) -> bool:
        if end_ms is not None and behind[0] > end_ms:
            return False
        found = (g for g in log.since(since) if g.newest > behind and g.oldest_rev <= as_of)
        return _may_match(patterns, found)

    def _advance(self, tick: int | None) -> None:
        """Count up; `tick` is what storage counts itself."""
        self.tick = self.tick + 1 if tick is None else tick
        self._noted.unpark_all()


def expired(what: str) -> RequestError:
    """Return the refusal of an answer that would not be whole."""
    return RequestError(Reason.EXPIRED, f"{what}: ask for the first page again")


def _may_match(patterns: PatternSet, gone: Iterable[Gone]) -> bool:
    """Tell whether some of it matches; too many names to match are taken for that."""
    by_name = {one.name: one for one in gone}
    if _ANYBODY in by_name or (by_name and patterns.matches_all):
        return True
    if len(by_name) * patterns.wildcards > _MAX_MATCHES:
        return True
    return bool(patterns.select(by_name))


def _anybodys(newest: tuple[int, int]) -> Gone:
    return Gone(_ANYBODY, newest, 0, _MAX_INT)


def _merge(known: Gone, gone: Gone) -> Gone:
    return Gone(
        gone.name,
        max(known.newest, gone.newest),
        min(known.oldest_rev, gone.oldest_rev),
        max(known.newest_rev, gone.newest_rev),
    )
