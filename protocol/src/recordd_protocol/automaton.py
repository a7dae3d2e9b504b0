"""A pattern as an automaton: one step for each character of a name, whatever the pattern.

Theory of operation. The pattern is a string of positions over the name with a `.` appended
(see `patterns.py`): one for each literal character, one for a `*`, which stays where it is
on any character but `.`, and two for a `#`: at the boundary of a segment, where it may also
be passed over, and inside a segment that it takes. The set of positions that some way of
reading the name has come to is a bit mask, and a step moves all of them at once (Baeza-Yates
and Gonnet's shift-and). Such a step costs about a microsecond, so masks that were met are
kept, with the step for each character, as the states of a deterministic automaton that is
built while it is used. The kept steps of all patterns together are bounded: past the bound all
are forgotten and built anew, and a hostile choice of names costs the microsecond a character.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_KEPT_STEPS", "Automaton", "StepCache"]

MAX_KEPT_STEPS: Final = 100_000
"""Of all patterns together; some 10 MB."""


class StepCache:
    """How many steps are kept, and how often all were forgotten."""

    def __init__(self, max_steps: int = MAX_KEPT_STEPS) -> None:
        self.generation = 0
        self._max_steps: Final = max_steps
        self._steps = 0

    def count(self) -> None:
        """Count one that is kept; past the limit, have everybody forget."""
        self._steps += 1
        if self._steps > self._max_steps:
            self._steps = 0
            self.generation += 1


_shared: Final = StepCache()


class Automaton:
    """One pattern. Adjacent wildcards of a kind must have been made one."""

    __slots__ = (
        "_accepting",
        "_boundary",
        "_cache",
        "_generation",
        "_inside",
        "_literal",
        "_star",
        "_start",
        "_states",
    )

    def __init__(self, text: str, cache: StepCache = _shared) -> None:
        self._cache: Final = cache
        self._literal: Final[dict[str, int]] = {}
        self._star = self._boundary = self._inside = 0
        self._accepting: Final = 1 << self._place(text)
        self._generation = -1
        self._states: dict[int, _State] = {}
        self._start = _State(self, 0)

    def matches(self, name: str) -> bool:
        """Tell whether the pattern covers `name`, in one step a character."""
        if self._generation != self._cache.generation:
            self._forget()
        state = self._start
        for character in name:
            state = state[character]
        return state["."].positions & self._accepting != 0

    def step(self, state: _State, character: str) -> _State:
        """Return the state that a character leads to; keep it."""
        mask = self._close(self._move(state.positions, character))
        following = self._states.get(mask)
        if following is None:
            following = self._states[mask] = _State(self, mask)
        state[character] = following
        self._cache.count()
        return following

    def _move(self, mask: int, character: str) -> int:
        moved = (mask & self._literal.get(character, 0)) << 1
        if character == ".":
            return moved | mask & self._boundary | (mask & self._inside) >> 1
        return moved | mask & (self._star | self._inside) | (mask & self._boundary) << 1

    def _close(self, mask: int) -> int:
        """Add the positions to which a wildcard that takes nothing leads."""
        mask |= (mask & self._boundary) << 2
        return mask | (mask & self._star) << 1

    def _forget(self) -> None:
        generation = self._cache.generation
        self._start = _State(self, self._close(1))
        self._states = {self._start.positions: self._start}
        # Last: readers match on threads of their own, and go by it without a lock. All else
        # that two of them do at once comes to the same states.
        self._generation = generation

    def _place(self, text: str) -> int:
        """Give each part of the pattern its position; return the number of positions."""
        position = 0
        for segment in text.split("."):
            if segment == "#":
                self._boundary |= 1 << position
                self._inside |= 2 << position
                position += 2
                continue
            for character in segment + ".":
                if character == "*":
                    self._star |= 1 << position
                else:
                    self._literal[character] = self._literal.get(character, 0) | 1 << position
                position += 1
        return position


class _State(dict[str, "_State"]):
    """The positions reached, and the next state of each character met there."""

    __slots__ = ("_automaton", "positions")

    def __init__(self, automaton: Automaton, positions: int) -> None:
        super().__init__()
        self._automaton: Final = automaton
        self.positions: Final = positions

    def __missing__(self, character: str) -> _State:
        return self._automaton.step(self, character)
