"""The log of changes: the newest commits row by row, and what has changed since a tick.

Two depths. The backlog has every row of the newest commits, for who is a little behind. Past
it the records stand in the order of their latest change, and the deletions likewise: who is
far behind is told the newest row of each record that has changed, at a cost of what has
changed and not of what was written. A longer backlog instead was rejected: it would grow with
the slowest reader.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from typing import Final

from recordd.hub.backlog import Backlog
from recordd.hub.catalogue import LAST_CHANGE, Catalogue
from recordd.hub.records import RecordState
from recordd.hub.tombstones import Tombstone, Tombstones
from recordd.hub.topic import Topic
from recordd.hub.topic_index import TopicIndex
from recordd_protocol.rows import Row

__all__ = ["Change", "ChangeLog"]

_MANY_CHANGES: Final = 8192
"""Past so many, which were looked at in some 3 ms, all records that match are: in steps, before."""

Change = RecordState | Tombstone
"""A changed record or a deletion. The row is looked up at send time, so a pending change costs
one pointer."""


class ChangeLog:
    """What has changed, by the catalogue's tick."""

    def __init__(
        self,
        catalogue: Catalogue,
        tombstones: Tombstones,
        topics: TopicIndex,
        *,
        backlog_bytes: int,
    ) -> None:
        self.backlog: Final = Backlog(backlog_bytes)
        self.before_commit = (0, 0)
        """Tick and rev before the commit that is being published, or was last."""
        self._catalogue: Final = catalogue
        self._tombstones: Final = tombstones
        self._topics: Final = topics

    def begin_commit(self, rows: Sequence[Row]) -> None:
        """Take the rows of a commit, just before the catalogue does."""
        tick, rev = self.before_commit = (self._catalogue.tick, self._catalogue.rev)
        self.backlog.append(rows, tick_before=tick, rev_before=rev)

    def changes_after(self, tick: int, topic: Topic) -> list[Change] | None:
        """Return what matches and has changed after `tick`, oldest change first.

        None where `tick` is too long ago to know every deletion. Costs as much as has
        changed. `row_of` says what a change comes to.
        """
        if tick < self._tombstones.forgotten_tick:
            return None
        changes: list[Change] = list(self._changed_after(tick, topic))
        deletions = self._tombstones.deleted_after(
            tick, topic.pattern, living=self._catalogue.names()
        )
        return _merge(changes, deletions)

    def transients_after(self, tick: int, topic: Topic) -> list[Change] | None:
        """Return as `changes_after` what matches and is transient.

        With a `tick` below 0 all of it, and the deletions that are remembered.
        """
        catalogue = self._catalogue
        if 0 <= tick < self._tombstones.forgotten_tick:
            return None
        changes: list[Change] = []
        if catalogue.transients:
            states = catalogue.snapshot(topic)
            changes += [s for s in states if s.changed > tick and s.rev is None]
        deletions = self._tombstones.deleted_after(
            tick, topic.pattern, living=catalogue.names(), transient=True
        )
        return _merge(changes, deletions)

    def row_of(self, change: Change, as_of: int) -> Row | None:
        """Return the row that a change made, or None where more has changed after `as_of`."""
        if change.changed > as_of:
            return None
        if isinstance(change, Tombstone):
            return None if self._catalogue.find(change.name) else change.row
        return None if change.is_deleted else change.latest

    def _changed_after(self, tick: int, topic: Topic) -> list[RecordState]:
        """Return the records that match and have changed after `tick`, oldest change first."""
        catalogue = self._catalogue
        if not topic.pattern.is_exact and catalogue.tick - tick > _MANY_CHANGES:
            states = catalogue.snapshot(topic)  # which was prepared in steps
            return states[bisect.bisect_right(states, tick, key=LAST_CHANGE) :]
        changed: list[RecordState] = []
        for state in self._states_to_look_at(topic):
            if state.changed <= tick:
                break
            if topic.pattern.matches_all or self._topics.follows(topic, state):
                changed.append(state)
        changed.reverse()
        return changed

    def _states_to_look_at(self, topic: Topic) -> Iterable[RecordState]:
        """Return the records that may match, newest change first."""
        if topic.pattern.is_exact:
            state = self._catalogue.find(topic.pattern.text)
            return () if state is None else (state,)
        return reversed(self._catalogue.by_change.values())


def _merge(changes: list[Change], deletions: list[Tombstone] | None) -> list[Change] | None:
    if deletions is None:
        return None
    return sorted([*changes, *deletions], key=LAST_CHANGE) if deletions else changes
