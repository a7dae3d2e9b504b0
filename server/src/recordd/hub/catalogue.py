"""The catalogue: every record with its latest value and metadata, in memory, as of one moment.

`rev` is the newest commit of that moment, within `epoch`. Every row, deletions too, is one
`tick`: the order of events, also for transient records, which have no rev.

Only the writer's task changes it, through the hub; everybody reads it without waiting. All of
it is synchronous, so whoever reads sees one moment. The counters are plain attributes, and nobody
is called for them.
"""

from __future__ import annotations

import bisect
import collections
import itertools
import secrets
from collections.abc import Callable, Iterator, KeysView, Sequence
from operator import attrgetter
from typing import Final, cast

from recordd.config.rules import Rule, RuleTable
from recordd.extending.backend import DamagedStorage, LoadedRecord
from recordd.extending.columns import RowColumns
from recordd.extending.commit import NewRows
from recordd.hub.records import BEFORE_ALL, BODY_BYTES, ROW_BYTES, RecordState, Unborn
from recordd.hub.topic import Topic
from recordd.hub.views import Views
from recordd.system.turns import Steps
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import Pattern, PatternSet
from recordd_protocol.rows import Row

__all__ = ["LAST_CHANGE", "Catalogue"]

LAST_CHANGE: Final = attrgetter("changed")
_LATEST_ORDER: Final = attrgetter("latest.order")
_ROW_ORDER: Final = attrgetter("row.order")
_RECORD_ID: Final = attrgetter("record_id")
_ROW_BYTES: Final = ROW_BYTES + BODY_BYTES
"""What `memory_of` counts beside name and values."""


class Catalogue:
    """The records by name and by id, their counts, and views of those that match patterns."""

    def __init__(self, rules: RuleTable, *, max_records: int, max_latest_bytes: int) -> None:
        self.rules: Final = rules
        self.max_records: Final = max_records
        self.max_latest_bytes: Final = max_latest_bytes
        self.tick = 0
        self.rev = 0
        self.epoch = secrets.token_hex(8)  # storage, where there is one, brings its own
        self.next_record_id = 0
        """Greater than the id of every record that there ever was."""
        self.rows = 0
        """Persisted rows of all records."""
        self.transients = 0
        """Transient records: those whose latest row has no rev."""
        self.latest_bytes = 0
        """Memory of the latest and the buffered rows of all records."""
        self.replaced_bytes = 0
        """Memory of all rows that were a latest one and are no more, since the start."""
        self.updates_skipped = 0
        """Updates that readers were told they did not get, since the start."""
        self.resyncs = 0
        """How often a reader was told to begin anew."""
        self.by_change: Final[collections.OrderedDict[str, RecordState]] = collections.OrderedDict()
        """The records that have changed since the start, by their latest change, oldest first."""
        self.damaged: Final[dict[str, DamagedStorage]] = {}
        """Records whose latest value cannot be read: it is refused until there is another."""
        self._states: Final[dict[str, RecordState]] = {}
        self.find: Final = self._states.get
        """Return the state of the record of a name, or None where it does not exist.

        The dictionary's own: to call it takes 0.02 µs, and a method around it 0.06.
        """
        self._views: Final = Views(self._states)
        self._reset_tick = -1

    def __len__(self) -> int:
        return len(self._states)

    def get(self, name: str) -> RecordState:
        """Return the state of a record that exists."""
        return self._states[name]

    def names(self) -> KeysView[str]:
        """Return the names of all records, oldest first."""
        return self._states.keys()

    @property
    def departures(self) -> int:
        """How many records were deleted since the start."""
        return self._views.departures

    def check_readable(self, names: Callable[[str], bool]) -> None:
        """Refuse to show latest values, where one that is meant cannot be read.

        Raises:
            RequestError: `unavailable`, with the record, the page and what to do.
        """
        for name, damage in self.damaged.items():
            if names(name):
                text = f"the latest value of record {name!r} cannot be read ({damage.message})"
                raise RequestError(Reason.UNAVAILABLE, f"{text}; 'recordctl set' gives a new one")

    def states_after(self, record_id: int) -> list[RecordState]:
        """Return the records with a greater id, by id."""
        states = list(self._states.values())
        first = bisect.bisect_right(states, record_id, key=_RECORD_ID)
        return states[first:] if first else states

    def match(self, patterns: PatternSet) -> list[RecordState]:
        """Return the records that match, in no particular order; not to be changed."""
        return self._views.view(patterns).states

    def prematch(self, patterns: PatternSet) -> Steps[PatternSet]:
        """Match in steps; return patterns that know of every record there is now."""
        if patterns.matches_all or not patterns.wildcards:
            return patterns
        yield from self.prepare_match(patterns)
        return patterns.with_known(self._views.names(patterns), self._states)

    def match_after(self, patterns: PatternSet, record_id: int) -> list[RecordState]:
        """Return the records with a greater id that match, by id."""
        if patterns.matches_all:
            return self.states_after(record_id)
        matching = set(self.match(patterns))
        if len(matching) < len(self) // 16:
            return sorted([s for s in matching if s.record_id > record_id], key=_RECORD_ID)
        return [state for state in self.states_after(record_id) if state in matching]

    def prepare_match(self, patterns: PatternSet) -> Iterator[None]:
        """Do in steps what `match` would take long for."""
        return self._views.prepare(patterns, _LATEST_ORDER, -1)

    def prepare_latest(self, patterns: PatternSet) -> Iterator[None]:
        """Do in steps what `latest` would take long for."""
        return self._views.prepare(patterns, _LATEST_ORDER, self.tick)

    def prepare_snapshot(self, pattern: Pattern) -> Iterator[None]:
        """Do in steps what `snapshot` of a topic would take long for."""
        if pattern.is_exact:
            return iter(())
        return self._views.prepare(PatternSet([pattern]), LAST_CHANGE, self.tick)

    def latest(self, patterns: PatternSet) -> list[Row]:
        """Return the latest row of each record that matches, by (`ts`, `rev`).

        The list is shared, and stays as it is: callers do not change it.
        """
        view = self._views.view(patterns)
        if view.rows_tick != self.tick:
            for state in view.states:
                if state.row is None:
                    state.make_row()  # so that sorting needs no call for each
            # Sorting the states in place leaves the list nearly sorted for the next time.
            view.states.sort(key=_ROW_ORDER)
            view.rows = [state.row or state.latest for state in view.states]
            view.rows_tick = view.sorted_tick = self.tick
        return view.rows

    def snapshot(self, topic: Topic) -> list[RecordState]:
        """Return the records that match, oldest change first; shared."""
        if topic.pattern.is_exact:
            state = self._states.get(topic.pattern.text)
            return [] if state is None else [state]
        view = self._views.view(topic.patterns)
        if view.snapshot_tick != self.tick:
            view.snapshot = sorted(view.states, key=LAST_CHANGE)
            view.snapshot_tick = self.tick
        return view.snapshot

    def reset_produced(self) -> Iterator[None]:
        """Count from zero, in steps, what each record was given; nothing came, nothing to do."""
        tick = self.tick
        if tick == self._reset_tick:
            return
        for number, state in enumerate(self.states_after(-1)):
            state.reset_counts()
            if number % 256 == 255:
                yield
        self._reset_tick = tick

    def note_consumed(self, rows: Sequence[Row], readers: int = 1) -> None:
        """Count rows that so many readers got."""
        states = self._states
        for row in rows:
            if (state := states.get(row.name)) is not None:
                state.consumed += readers

    def note_dropped(self, name: str, updates: int) -> None:
        """Count updates that a reader was told it did not get, with one of this record."""
        self.updates_skipped += updates
        if (state := self._states.get(name)) is not None:
            state.dropped += updates

    def note_resync(self) -> None:
        """Count a reader that was told to begin anew with the current values."""
        self.resyncs += 1

    def find_records(self, commit: NewRows) -> list[RecordState | Unborn]:
        """Return the record of each row of a commit, those that are new with it too."""
        states, rule_for = self._states, self.rules.rule_for
        unborn = {
            name: Unborn(record_id, name, rule_for(name)) for record_id, name, _ in commit.created
        }
        names = RowColumns.of(commit.rows).names
        return [unborn.get(name) or states[name] for name in names]

    def take(self, rows: Sequence[Row], records: Sequence[RecordState | Unborn]) -> None:
        """Make committed rows visible, each of its record, which comes to exist with its first.

        One loop for all: with calls for each row it took 1.3 µs a row. A row that just takes the
        place of the latest one is not needed as an object, which takes as long as all this.
        """
        columns = RowColumns.of(rows)
        states = self._bear_new(records, columns.revs)
        before = tick = self.tick
        late = {before + 1 + place for place in columns.late}
        by_change, gone, apart = self.by_change, 0, 0
        made = columns.made or itertools.repeat(None)
        changes = zip(states, columns.values, columns.times, columns.revs, made, strict=False)
        for state, value, ts, rev, row in changes:
            tick += 1
            state.produced += 1
            if rev is not None:
                state.rows += 1
            if state.holds_one and tick not in late:
                gone += len(state.value)
                state.buffered += 1
            elif tick in late:
                apart += self._keep_late(state, columns, tick - before - 1)
                continue
            else:
                row = columns.row(tick - before - 1)
                apart += self._keep_apart(state, row)
            state.value, state.ts, state.rev, state.row = value, ts, rev, row
            state.changed = tick
            try:
                by_change.move_to_end(state.name)
            except KeyError:  # its first change since the start
                by_change[state.name] = state
        self.tick = tick
        self._count(columns)
        self.latest_bytes += 2 * (sum(map(len, columns.values)) - gone) + apart
        self.replaced_bytes += 2 * gone
        if self.damaged:
            self._heal(columns)

    def _keep_apart(self, state: RecordState, row: Row) -> int:
        """Keep a row that does not just take the place of the latest: see `RecordState.keep`.

        Returns:
            By how many bytes `latest_bytes` grows, beside what is counted of each value.
        """
        if state.ts == BEFORE_ALL:
            self.replaced_bytes -= _ROW_BYTES + len(row.name)  # which is counted of each row
        else:
            self.replaced_bytes += 2 * len(state.value)
        return state.keep(row) - 2 * len(row.value)

    def _keep_late(self, state: RecordState, columns: RowColumns, place: int) -> int:
        """Do as `_keep_apart` for a late row, which is history to all but rings."""
        self.replaced_bytes -= _ROW_BYTES + len(state.name)
        grown = state.keep(columns.row(place)) if state.is_ring else 0
        return grown - 2 * len(columns.values[place])

    def _count(self, columns: RowColumns) -> None:
        """Count rows that were taken, as far as it needs no look at each."""
        revs = columns.revs
        stored = revs if columns.are_stored else [rev for rev in revs if rev is not None]
        self.rows += len(stored)
        self.rev = (stored[-1] if stored else None) or self.rev
        self.replaced_bytes += _ROW_BYTES * len(columns) + sum(map(len, columns.names))

    def _heal(self, columns: RowColumns) -> None:
        """Have the records that got a new latest value be damaged no more."""
        for place, name in enumerate(columns.names):
            if place not in columns.late:
                self.damaged.pop(name, None)

    def remove(self, state: RecordState, rev: int | None) -> None:
        """Forget a record, which commit `rev` has deleted; None where storage does not know it."""
        name = state.name
        self.tick += 1
        if rev is not None:
            self.rev = rev
        self.rows -= state.rows
        self.replaced_bytes += _ROW_BYTES + len(name) + 2 * len(state.value)
        self.latest_bytes -= state.memory
        self.transients -= state.rev is None
        del self._states[name]
        self.by_change.pop(name, None)
        self.damaged.pop(name, None)
        state.is_deleted = True
        self._views.departures += 1

    def forget_rows(self, state: RecordState, rows: int, newest_rev: int) -> None:
        """Count rows of a record that storage has deleted."""
        self.rows -= rows
        state.rows -= rows
        state.purged_rev = max(state.purged_rev, newest_rev)

    def restore(self, record: LoadedRecord, rule: Rule) -> None:
        """Take a record as it was found at start."""
        latest = record.latest
        state = RecordState(record.record_id, latest.name, rule)
        self.latest_bytes += state.keep(latest)
        state.show(latest)
        state.row = None  # it is made again where somebody asks for it, and of most nobody does
        state.rows, state.produced = record.rows, 1
        state.changed = latest.rev or 0
        state.purged_rev = record.purged_rev
        self._states[state.name] = state
        self.rows += record.rows
        self.transients += latest.rev is None
        if record.damage is not None:
            self.damaged[latest.name] = record.damage
            self.latest_bytes -= state.memory
            state.forget_buffered()

    def _bear_new(
        self, records: Sequence[RecordState | Unborn], revs: Sequence[int | None]
    ) -> Sequence[RecordState]:
        """Return the records; those that are new come to exist."""
        if Unborn not in set(map(type, records)):  # 20 ns a row; to ask each takes 35
            return cast("Sequence[RecordState]", records)
        return [
            self._bear(record, rev) if isinstance(record, Unborn) else record
            for record, rev in zip(records, revs, strict=True)
        ]

    def _bear(self, unborn: Unborn, rev: int | None) -> RecordState:
        """Return a record, which is made where it is not there yet; its first row is of `rev`."""
        if (state := unborn.state) is None:
            state = unborn.state = RecordState(unborn.record_id, unborn.name, unborn.rule)
            state.topics, state.topics_version = unborn.topics, unborn.topics_version
            self._states[state.name] = state
            self.transients += rev is None
            self.next_record_id = max(self.next_record_id, unborn.record_id + 1)
        return state
