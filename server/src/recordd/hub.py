"""The hub: what is true now. Latest value and metadata of every record, in memory.

Only the writer changes it, after COMMIT; everybody reads it without waiting. All of it
is synchronous, so whoever reads sees one moment.
"""

from __future__ import annotations

import collections
import secrets
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

import msgspec

from recordd.rules import Rule, RuleTable
from recordd_protocol.methods import RecordInfo
from recordd_protocol.names import entity_of
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Row

__all__ = ["Hub", "RecordState"]

_MAX_VIEWS: Final = 32
"""Patterns whose matches are kept: dashboards ask for the same few again and again."""


class RecordState:
    """One record: its rule, its latest row, and its buffer of recent values."""

    __slots__ = ("buffer", "buffered", "latest", "name", "produced", "record_id", "rows", "rule")

    def __init__(self, record_id: int, name: str, rule: Rule, latest: Row, rows: int) -> None:
        self.record_id: Final = record_id
        self.name: Final = name
        self.rule: Final = rule
        self.latest = latest
        self.rows = rows
        self.produced = 1
        self.buffered = 1  # rows that ever came into the buffer: a drain's position
        self.buffer: Final = collections.deque([latest], maxlen=rule.capacity)

    def take(self, row: Row) -> None:
        """Count a committed row; keep it as the latest if it is."""
        self.produced += 1
        if row.rev is not None:
            self.rows += 1
        # Rows without rev come in the order of their commits: a tie goes to the later.
        if row.order >= self.latest.order:
            self.latest = row
        elif self.rule.buffer != "spmc_ring":
            return  # a late row is history; only a ring shows every row that came
        self.buffer.append(row)
        self.buffered += 1

    def drain(self, seen: int, limit: int | None, max_bytes: int) -> tuple[list[Row], int]:
        """Return the buffered rows after the first `seen`, oldest first, and the new `seen`.

        At most `limit` rows, and not many more bytes than `max_bytes`: the rest is left.
        """
        unseen = min(self.buffered - seen, len(self.buffer))
        seen = self.buffered - unseen
        rows: list[Row] = []
        size = 0
        for row in list(self.buffer)[len(self.buffer) - unseen :][:limit]:
            size += len(row.value) + 1
            if rows and size > max_bytes:
                break
            rows.append(row)
        return rows, seen + len(rows)

    def as_info(self) -> RecordInfo:
        """Return the metadata row of `record.list`."""
        rule = self.rule
        info = RecordInfo(
            record_id=self.record_id,
            record_key=self.name,
            name=self.name,
            type_id="application/json",
            origin="passive",
            buffer_type=rule.buffer,
            producer_count=0,
            consumer_count=0,
            writable=rule.writable,
            outbound_connector_count=0,
            produced_count=self.produced,
            entity=entity_of(self.name),
            ts=self.latest.ts,
            rev=self.latest.rev,
        )
        if rule.buffer == "spmc_ring":
            return msgspec.structs.replace(info, buffer_capacity=rule.capacity)
        return info


class _View:
    """The records that match some patterns, and their latest rows in order."""

    __slots__ = ("generation", "rows", "states", "version")

    def __init__(self, states: list[RecordState], generation: int) -> None:
        self.states: Final = states
        self.generation: Final = generation
        self.rows: list[Row] = []
        self.version = -1


class Hub:
    """The records by name. `rev` is the newest commit, within `epoch`."""

    def __init__(self, rules: RuleTable, *, max_records: int) -> None:
        self.rules: Final = rules
        self.max_records: Final = max_records
        self.rev = 0
        self.epoch = secrets.token_hex(8)  # storage, where there is one, brings its own
        self.rows = 0
        """Persisted rows of all records."""
        self._states: Final[dict[str, RecordState]] = {}
        self._next_id = 0
        # `generation` counts changes to the set of records, `version` any change.
        self._generation = 0
        self._version = 0
        self._views: Final[collections.OrderedDict[tuple[str, ...], _View]] = (
            collections.OrderedDict()
        )

    def __len__(self) -> int:
        return len(self._states)

    def load(self, latest: Row, rows: int) -> None:
        """Take over a record as storage has it at start.

        What a rule no longer persists stays in the history and is not taken for current.
        """
        if self.rules.rule_for(latest.name).persist:
            self.rows += rows
            self._add(latest, rows)

    def find(self, name: str) -> RecordState | None:
        """Return the record's state, or None where it does not exist."""
        return self._states.get(name)

    def names(self) -> Iterable[str]:
        """Return the names of all records, oldest first."""
        return self._states.keys()

    def match(self, patterns: PatternSet) -> list[RecordState]:
        """Return the records that match, in no particular order; not to be changed."""
        return self._view(patterns).states

    def latest(self, patterns: PatternSet) -> list[Row]:
        """Return the latest persisted row of each record that matches, by (`ts`, `rev`).

        The list is shared: callers do not change it.
        """
        view = self._view(patterns)
        if view.version != self._version:
            # Sorting the states in place leaves the list nearly sorted for the next time.
            view.states.sort(key=_latest_order)
            view.rows = [state.latest for state in view.states if state.rule.persist]
            view.version = self._version
        return view.rows

    def publish(self, row: Row) -> None:
        """Make a committed row visible; a record comes to exist with its first."""
        self._version += 1
        if row.rev is not None:
            self.rev = row.rev
            self.rows += 1
        state = self._states.get(row.name)
        if state is None:
            self._add(row, 0 if row.rev is None else 1)
        else:
            state.take(row)

    def remove(self, name: str) -> None:
        """Forget a record whose deletion is committed."""
        self.rows -= self._states.pop(name).rows
        self._generation += 1
        self._version += 1

    def forget_rows(self, name: str, count: int) -> None:
        """Count rows that retention has deleted; a record without rows is gone."""
        state = self._states.get(name)
        if state is not None:
            state.rows -= count
            self.rows -= count
            if state.rows == 0 and state.rule.persist:
                self.remove(name)

    def _add(self, latest: Row, rows: int) -> None:
        rule = self.rules.rule_for(latest.name)
        self._states[latest.name] = RecordState(self._next_id, latest.name, rule, latest, rows)
        self._next_id += 1
        self._generation += 1
        self._version += 1

    def _view(self, patterns: PatternSet) -> _View:
        view = self._views.get(patterns.key)
        if view is None or view.generation != self._generation:
            view = _View(patterns.select(self._states), self._generation)
            self._views[patterns.key] = view
            if len(self._views) > _MAX_VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(patterns.key)
        return view


_latest_order: Final = attrgetter("latest.order")
