"""Deletions that are remembered by name: who was away is told of them, or that some are forgotten.

They are bounded, of each name the newest. What is forgotten may have been of
any record, so up to it (`forgotten_tick`, `forgotten_rev`) nobody's history is known to be whole.
"""

from __future__ import annotations

import collections
from collections.abc import Container, Iterable
from typing import Final

from recordd_protocol.patterns import Pattern
from recordd_protocol.rows import Row, RowKind

__all__ = ["Tombstone", "Tombstones"]

_MAX_MATCHES: Final = 8192
"""Deleted names that are matched for one follower, in some 3 ms, at worst in 80. A follower that
missed more of them starts afresh, unless it follows one record by its name."""


class Tombstone:
    """A deletion, and the tick of it; there may be many, so it is small."""

    __slots__ = ("changed", "name", "rev", "ts")

    def __init__(self, name: str, ts: int, rev: int | None, changed: int) -> None:
        self.name: Final = name
        self.ts: Final = ts
        self.rev: Final = rev
        self.changed: Final = changed

    @property
    def row(self) -> Row:
        """The deletion as it is told."""
        return Row(self.name, b"null", self.ts, self.rev, RowKind.DELETED)


class Tombstones:
    """The deletions, oldest first."""

    def __init__(self, max_names: int) -> None:
        self._max_names: Final = max_names
        self.forgotten_tick = 0
        self.forgotten_rev = 0
        self._by_name: Final[collections.OrderedDict[str, Tombstone]] = collections.OrderedDict()

    def bury(self, tombstone: Tombstone) -> None:
        """Remember a deletion, the newest of its name; forget the oldest past the limit."""
        self._by_name[tombstone.name] = tombstone
        self._by_name.move_to_end(tombstone.name)
        if len(self._by_name) > self._max_names:
            _, forgotten = self._by_name.popitem(last=False)
            self.forgotten_tick = forgotten.changed
            self.forgotten_rev = max(self.forgotten_rev, forgotten.rev or 0)

    def deleted_after(
        self, tick: int, pattern: Pattern, *, living: Container[str], transient: bool = False
    ) -> list[Tombstone] | None:
        """Return the deletions after `tick` that match, less those whose name is living again.

        None where there are too many to match. Of `transient` records those alone.
        """
        found: list[Tombstone] = []
        matched = 0
        for tombstone in self._candidates(pattern):
            if tombstone.changed <= tick:
                break
            name = tombstone.name
            if name in living or (transient and tombstone.rev is not None):
                continue
            matched += 1
            if matched > _MAX_MATCHES:
                return None
            if pattern.matches(name):
                found.append(tombstone)
        return found

    def newest_rev(self, pattern: Pattern, after_rev: int) -> int:
        """Return the rev of the newest deletion above `after_rev` that may match, 0 for none."""
        matched = 0
        for tombstone in self._candidates(pattern):
            if tombstone.rev is None:
                continue
            if tombstone.rev <= after_rev:
                break
            matched += 1
            if matched > _MAX_MATCHES or pattern.matches(tombstone.name):
                return tombstone.rev
        return 0

    def _candidates(self, pattern: Pattern) -> Iterable[Tombstone]:
        """Return the deletions that may match, newest first."""
        if not pattern.is_exact:
            return reversed(self._by_name.values())
        known = self._by_name.get(pattern.text)
        return () if known is None else (known,)
