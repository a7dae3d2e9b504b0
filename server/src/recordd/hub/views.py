"""Views: which records match some patterns, kept for those who ask for the same again.

A view is brought up to date, not made anew, when records come and go: only new names are
matched. Where that takes long, as with a new pattern over many names, it is done in steps
(`Views.prepare`), with others between them; what is left for the moment of the answer, with
nobody between, is to sort what is nearly sorted.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Row

__all__ = ["View", "Viewed", "Views"]

_MAX_VIEWS: Final = 256
_MAX_POINTERS: Final = 2_000_000
"""Records in all views together: 48 MB with the two lists beside them."""

_NAMES_A_STEP: Final = 32
"""Matched between two steps: a name and a pattern take 10 µs at most."""

_RUN: Final = 8192
"""Sorted between two steps, in some 3 ms; a list of such runs is merged in a quarter of the time
that it would take to sort it."""


class Viewed(Protocol):
    """A record as views see it. Ids are given in ascending order."""

    @property
    def name(self) -> str:
        """The record's name."""

    @property
    def record_id(self) -> int:
        """A number that no other record has had since the start."""

    @property
    def is_deleted(self) -> bool:
        """Whether it is none of the records any more."""


R = TypeVar("R", bound=Viewed)


class View(Generic[R]):
    """The records that match some patterns, and their latest rows in two orders."""

    __slots__ = (
        "departures",
        "names",
        "names_of",
        "rows",
        "rows_tick",
        "seen",
        "snapshot",
        "snapshot_tick",
        "sorted_tick",
        "states",
    )

    def __init__(self) -> None:
        self.states: list[R] = []
        self.seen = -1  # records up to this id were matched
        self.departures = 0
        self.sorted_tick = -1
        self.names: frozenset[str] = frozenset()
        self.names_of = (-1, -1)  # as of which `seen` and `departures`
        self.rows: list[Row] = []
        self.rows_tick = -1
        self.snapshot: list[R] = []
        self.snapshot_tick = -1


class Views(Generic[R]):
    """The views of a hub's records, which are given by name, oldest first."""

    def __init__(self, states: dict[str, R]) -> None:
        self.departures = 0
        """Counts records that were deleted."""
        self._states: Final = states
        self._views: Final[collections.OrderedDict[tuple[str, ...], View[R]]] = (
            collections.OrderedDict()
        )

    def view(self, patterns: PatternSet) -> View[R]:
        """Return the view, brought up to date."""
        view = self._find(patterns)
        for _ in self._catch_up(view, patterns):
            pass
        return view

    def names(self, patterns: PatternSet) -> frozenset[str]:
        """Return the names of the records that match; shared as long as none comes or goes."""
        view = self.view(patterns)
        if view.names_of != (view.seen, view.departures):
            view.names = frozenset([state.name for state in view.states])
            view.names_of = (view.seen, view.departures)
        return view.names

    def prepare(self, patterns: PatternSet, order: Callable[[R], int], tick: int) -> Iterator[None]:
        """Do in steps what `view` and sorting it would take long for."""
        view = self._find(patterns)
        yield from self._catch_up(view, patterns)
        # Lists that few changes were made to since are nearly sorted.
        if len(view.states) > _RUN and tick - view.sorted_tick > len(view.states) // 16:
            yield from self._presort(view, order)
            view.sorted_tick = tick
        self._views[patterns.key] = view  # where it had to give way meanwhile
        self._views.move_to_end(patterns.key)

    def _find(self, patterns: PatternSet) -> View[R]:
        view = self._views.get(patterns.key)
        if view is None:
            view = self._views[patterns.key] = View()
            self._let_go()
        else:
            self._views.move_to_end(patterns.key)
        return view

    def _let_go(self) -> None:
        """Keep the bounds; the newest stays in any case."""
        pointers = sum([len(view.states) for view in self._views.values()])
        while len(self._views) > 1 and (len(self._views) > _MAX_VIEWS or pointers > _MAX_POINTERS):
            _, view = self._views.popitem(last=False)
            pointers -= len(view.states)

    def _catch_up(self, view: View[R], patterns: PatternSet) -> Iterator[None]:
        if not patterns.wildcards:
            self._look_up(view, patterns)
            return
        while (newest := self._newest_id()) > view.seen:
            seen, departures = view.seen, self.departures
            matched: list[R] = []
            born = self._born_after(seen)
            if patterns.matches_all:
                matched = born
            else:
                for start in range(0, len(born), _NAMES_A_STEP):
                    chunk = born[start : start + _NAMES_A_STEP]
                    matched += [state for state in chunk if patterns.matches(state.name)]
                    yield
            if view.seen != seen:
                continue  # somebody else was faster
            if not view.states:
                view.departures = departures
            view.states += matched
            view.seen = newest
        if view.departures != self.departures:
            view.states = [state for state in view.states if not state.is_deleted]
            view.departures = self.departures

    def _look_up(self, view: View[R], patterns: PatternSet) -> None:
        newest = self._newest_id()
        if view.seen != newest or view.departures != self.departures:
            view.states = patterns.select(self._states)
            view.seen, view.departures = newest, self.departures
            view.rows_tick = view.snapshot_tick = -1

    def _presort(self, view: View[R], order: Callable[[R], int]) -> Iterator[None]:
        """Sort runs of a list; to merge them, as a sort of it all does, is quick."""
        states, ordered = view.states, []
        taken = list(states)  # others may sort it meanwhile: then a run would not be the next
        for start in range(0, len(taken), _RUN):
            ordered += sorted(taken[start : start + _RUN], key=order)
            yield
        # Others may have added records or dropped some.
        if view.states is states and len(states) == len(ordered):
            view.states = ordered

    def _newest_id(self) -> int:
        newest = next(reversed(self._states.values()), None)
        return -1 if newest is None else newest.record_id

    def _born_after(self, seen: int) -> list[R]:
        """Return the records with a greater id, which are the last ones."""
        if seen < 0:
            return list(self._states.values())
        born = []
        for state in reversed(self._states.values()):
            if state.record_id <= seen:
                break
            born.append(state)
        return born
