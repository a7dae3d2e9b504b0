"""The hub: what is true now. Latest value and metadata of every record, in memory.

Only the writer changes it, after COMMIT; everybody reads it without waiting. All of it
is synchronous, so whoever reads sees one moment.

Every row published, deletions too, is one `tick`: the order of what happened, also for
records that are not persisted and so have no rev.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final

from recordd.config.rules import RuleTable
from recordd.extending.backend import MAX_DELETIONS, DamagedStorage, Loaded, LoadedRecord, Purged
from recordd.hub.archive import Archive
from recordd.hub.backlog import Backlog
from recordd.hub.purge import Purge, Purges
from recordd.hub.records import ROW_BYTES, RecordState, Unborn, memory_of
from recordd.hub.statistics import HubStatistics
from recordd.hub.topic import Topic
from recordd.hub.topic_index import Delivery, Named, TopicIndex
from recordd.hub.views import LAST_CHANGE, LATEST_ORDER, Views
from recordd.system.turns import Steps
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import Pattern, PatternSet
from recordd_protocol.rows import Row, RowKind

__all__ = ["Change", "Hub", "Tombstone"]


DEFAULT_BACKLOG_BYTES: Final = 8 << 20

_RECORD_ID: Final = attrgetter("record_id")

_MAX_MATCHES: Final = 8192
"""Deleted names that are matched for one follower, in some 3 ms, at worst in 80: who missed more
of them starts afresh unless he follows one record by its name."""

_MANY_CHANGES: Final = 8192
"""Past so many, which were looked at in some 3 ms, all records that match are: in steps, before."""


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


Change = RecordState | Tombstone
"""What a record came to; it is looked up when it is told, so it takes a pointer till then."""


class Hub:
    """The records by name. `rev` is the newest commit, within `epoch`."""

    def __init__(
        self,
        rules: RuleTable,
        *,
        max_records: int,
        max_latest_bytes: int = 1 << 62,
        backlog_bytes: int = DEFAULT_BACKLOG_BYTES,
    ) -> None:
        self.rules: Final = rules
        self.max_records: Final = max_records
        self.max_latest_bytes: Final = max_latest_bytes
        self.rev = 0
        self.epoch = secrets.token_hex(8)  # storage, where there is one, brings its own
        self.rows = 0
        """Persisted rows of all records."""
        self.tick = 0
        self.latest_bytes = 0
        """Memory of the latest and the buffered rows of all records."""
        self.replaced_bytes = 0
        """Memory of all rows that were a latest one and are no more, since the start."""
        self.topics: Final = TopicIndex(rules.is_ring)
        self.backlog: Final = Backlog(backlog_bytes)
        self.before_commit = (0, 0)
        """Tick and rev before the commit that is being published, or was last."""
        self._states: Final[dict[str, RecordState]] = {}
        self.damaged: Final[dict[str, DamagedStorage]] = {}
        """Records whose latest value cannot be read: it is refused until there is another."""
        self.archive: Final = Archive()
        self._reset_tick = -1
        self._unborn: Final[dict[str, Unborn]] = {}
        self._next_id = 0
        self._transients = 0  # records that storage knows nothing of
        self._views: Final = Views(self._states)
        # Records by their latest change, oldest first; and deletions, likewise.
        self._changes: Final[collections.OrderedDict[str, RecordState]] = collections.OrderedDict()
        self._tombstones: Final[collections.OrderedDict[str, Tombstone]] = collections.OrderedDict()
        self._forgotten_tick = 0
        self._forgotten_rev = 0
        self._purged_rev = 0
        self._purges: Final = Purges()

    def __len__(self) -> int:
        return len(self._states)

    def statistics(self) -> HubStatistics:
        """Return how much there is now."""
        return HubStatistics(
            records=len(self._states),
            rows=self.rows,
            rev=self.rev,
            epoch=self.epoch,
            latest_bytes=self.latest_bytes,
            backlog_bytes=self.backlog.size_bytes,
            subscriptions=self.topics.subscriptions,
            topics=len(self.topics),
        )

    def restore(self, loaded: Loaded) -> None:
        """Take over what storage has at start.

        What a rule no longer persists is not taken for current: see `recordd.hub.archive`.
        """
        self.rev, self.epoch = loaded.rev, loaded.epoch
        self._forgotten_rev = loaded.deleted_rev
        for name, rev in loaded.deletions:
            self._bury(Tombstone(name, 0, rev, self.tick))
        for record in loaded.records:
            self._purged_rev = max(self._purged_rev, record.purged_rev)
            self.rows += record.rows
            if not self.rules.rule_for(record.latest.name).persist:
                self.archive.add(record)
            else:
                self._restore_record(record)
        for state in sorted(self._states.values(), key=lambda state: state.latest.rev or 0):
            self._note_change(state)
        self._forgotten_tick = self.tick
        self.before_commit = (self.tick, self.rev)

    def check_readable(self, names: Callable[[str], bool]) -> None:
        """Refuse to show latest values, where one that is meant cannot be read.

        Raises:
            RequestError: `unavailable`, with the record, the page and what to do.
        """
        for name, damage in self.damaged.items():
            if names(name):
                text = f"the latest value of record {name!r} cannot be read ({damage.message})"
                raise RequestError(Reason.UNAVAILABLE, f"{text}; 'recordctl set' gives a new one")

    def find(self, name: str) -> RecordState | None:
        """Return the record's state, or None where it does not exist."""
        return self._states.get(name)

    def names(self) -> Iterable[str]:
        """Return the names of all records, oldest first."""
        return self._states.keys()

    @property
    def departures(self) -> int:
        """How many records were deleted since the start."""
        return self._views.departures

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
        return self._views.prepare(patterns, LATEST_ORDER, -1)

    def prepare_latest(self, patterns: PatternSet) -> Iterator[None]:
        """Do in steps what `latest` would take long for."""
        return self._views.prepare(patterns, LATEST_ORDER, self.tick)

    def prepare_snapshot(self, pattern: Pattern) -> Iterator[None]:
        """Do in steps what `snapshot` of a topic would take long for."""
        if pattern.is_exact:
            return iter(())
        return self._views.prepare(PatternSet([pattern]), LAST_CHANGE, self.tick)

    def prepare_gap(self, pattern: Pattern, after: int) -> Iterator[None]:
        """Do in steps what `newest_gap` would take long for."""
        if pattern.matches_all or self._purged_rev <= after:
            return iter(())
        return self.prepare_match(PatternSet([pattern]))

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

    def latest(self, patterns: PatternSet) -> list[Row]:
        """Return the latest row of each record that matches, by (`ts`, `rev`).

        The list is shared, and stays as it is: callers do not change it.
        """
        view = self._views.view(patterns)
        if view.rows_tick != self.tick:
            # Sorting the states in place leaves the list nearly sorted for the next time.
            view.states.sort(key=LATEST_ORDER)
            view.rows = [state.latest for state in view.states]
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

    def changes_after(self, tick: int, topic: Topic) -> list[Change] | None:
        """Return what matches and has changed after `tick`, oldest change first.

        None where `tick` is too long ago to know every deletion. Costs as much as has
        changed. `row_of` says what a change comes to.
        """
        if tick < self._forgotten_tick:
            return None
        changes: list[Change] = list(self._changed_after(tick, topic))
        deletions = self._deletions_after(tick, topic)
        if deletions is None:
            return None
        return sorted([*changes, *deletions], key=LAST_CHANGE) if deletions else changes

    def transients_after(self, tick: int, topic: Topic) -> list[Change] | None:
        """Return as `changes_after` what matches and is not persisted.

        With a `tick` below 0 all of it, and the deletions that are remembered.
        """
        if 0 <= tick < self._forgotten_tick:
            return None
        changes: list[Change] = []
        if self._transients:
            states = self.snapshot(topic)
            changes += [s for s in states if s.changed > tick and s.latest.rev is None]
        deletions = self._deletions_after(tick, topic, transient=True)
        if deletions is None:
            return None
        return sorted([*changes, *deletions], key=LAST_CHANGE) if deletions else changes

    def row_of(self, change: Change, as_of: int) -> Row | None:
        """Return the row that a change made, or None where more has changed after `as_of`."""
        if change.changed > as_of:
            return None
        if isinstance(change, Tombstone):
            return None if change.name in self._states else change.row
        return change.latest if self._states.get(change.name) is change else None

    def newest_gap(self, pattern: Pattern, after: int) -> int:
        """Return the newest rev above `after` up to which the history may lack matching rows.

        0 where it lacks none: every row that was committed after `after` is still there.
        """
        newest = max(self._forgotten_rev, self._newest_deletion(pattern, after))
        if pattern.matches_all:  # it may be of a record that is deleted: then so since
            newest = max(newest, self._purged_rev)
        elif self._purged_rev > max(after, newest):
            purged = (state.purged_rev for state in self.match(PatternSet([pattern])))
            newest = max(newest, max(purged, default=0))
            newest = max(newest, self.archive.newest_purge(pattern, max(after, newest)))
        return newest if newest > after else 0

    def prepare(self, rows: Sequence[Row]) -> Delivery:
        """Return what `publish` will deliver of these rows, to be sorted in steps before."""
        self._unborn.clear()
        states, unborn = self._states, self._unborn
        records: list[Named] = []
        for row in rows:
            name = row.name
            record = states.get(name) or unborn.get(name)
            if record is None:
                record = unborn[name] = Unborn(name)
            records.append(record)
        return Delivery(self.topics, rows, records)

    def publish(self, rows: Sequence[Row], delivery: Delivery | None = None) -> None:
        """Make the rows of one commit visible, and tell who follows their records.

        A record comes to exist with its first row. `delivery` is what was prepared of them.
        """
        self._begin_commit(rows)
        if delivery is None and self.topics:
            delivery = self.prepare(rows)
        take = self._take
        for row in rows:
            take(row)
        if delivery is not None:
            self.topics.publish(delivery)
            for topic, delivered in delivery.by_topic.items():
                if topic.live:  # those who had no room are live no longer
                    self.note_consumed(delivered, len(topic.live))

    def note_consumed(self, rows: Sequence[Row], readers: int = 1) -> None:
        """Count rows that so many readers got."""
        states = self._states
        for row in rows:
            if (state := states.get(row.name)) is not None:
                state.consumed += readers

    def note_dropped(self, name: str, updates: int) -> None:
        """Count updates that a reader was told it did not get, with one of this record."""
        if (state := self._states.get(name)) is not None:
            state.dropped += updates

    def remove(self, deletion: Row) -> None:
        """Forget a record whose deletion is committed, and tell who follows it.

        A deletion without a `rev` is that of a live value alone: stored rows stay.
        """
        name = deletion.name
        if name not in self._states:
            assert deletion.rev is not None, "what is only stored is deleted by a commit"
            return self._remove_history(name, deletion.rev)
        self._begin_commit((deletion,))
        state = self._states[name]
        self.rows -= state.rows
        if deletion.rev is not None:
            self.rev = deletion.rev
            self.rows -= self.archive.remove(name)
        self.tick += 1
        self.replaced_bytes += memory_of(state.latest)
        self.latest_bytes -= state.memory
        if self.topics:
            self.topics.publish(Delivery(self.topics, (deletion,), (state,)))
        del self._states[name], self._changes[name]
        self.damaged.pop(name, None)
        self._transients -= state.latest.rev is None
        state.is_deleted = True
        self._views.departures += 1
        self._bury(Tombstone(name, deletion.ts, deletion.rev, self.tick))
        return None

    def end_history(self, deletion: Row) -> None:
        """Forget a record whose last stored row has gone; inside `purge` alone.

        Archived rows are beside a value that is set anew, if there is one: that stays.
        """
        if deletion.name in self.archive:
            assert deletion.rev is not None, "stored rows go with a commit"
            self._remove_history(deletion.name, deletion.rev)
        else:
            self.remove(deletion)

    def _remove_history(self, name: str, rev: int) -> None:
        """Forget the archived rows of a record, which commit `rev` has deleted.

        There is nobody to tell: to who follows the record they were not there.
        """
        self._begin_commit(())
        self.rev = rev
        self.rows -= self.archive.remove(name)
        self._bury(Tombstone(name, 0, rev, self.tick))

    def forget_rows(self, name: str, purged: Purged) -> None:
        """Count rows that storage has deleted; inside `purge` alone."""
        self._purged_rev = max(self._purged_rev, purged.newest_rev)
        self.rows -= purged.rows
        if name in self.archive:
            self.archive.forget_rows(name, purged)
        else:
            state = self._states[name]
            state.rows -= purged.rows
            state.purged_rev = max(state.purged_rev, purged.newest_rev)

    @contextlib.contextmanager
    def purge(self) -> Iterator[Purge]:
        """Delete rows from storage inside this block, and note there what went.

        Nothing else tells the hub of rows that storage has no longer.
        """
        with self._purges.hold():
            yield Purge(self)

    async def wait_purged(self) -> None:
        """Wait until the hub knows of every deletion that a look at storage can have seen."""
        await self._purges.wait()

    def _deletions_after(
        self, tick: int, topic: Topic, *, transient: bool = False
    ) -> list[Tombstone] | None:
        """Return the deletions after `tick` of records that match and did not come again.

        None where there are too many to match. Of `transient` ones those alone.
        """
        found: list[Tombstone] = []
        matched = 0
        for tombstone in self._tombstones_of(topic.pattern):
            if tombstone.changed <= tick:
                break
            name = tombstone.name
            if name in self._states or (transient and tombstone.rev is not None):
                continue
            matched += 1
            if matched > _MAX_MATCHES:
                return None
            if topic.pattern.matches(name):
                found.append(tombstone)
        return found

    def _newest_deletion(self, pattern: Pattern, after: int) -> int:
        """Return the rev of the newest deletion above `after` that may match, 0 for none."""
        matched = 0
        for tombstone in self._tombstones_of(pattern):
            if tombstone.rev is None:
                continue
            if tombstone.rev <= after:
                break
            matched += 1
            if matched > _MAX_MATCHES or pattern.matches(tombstone.name):
                return tombstone.rev
        return 0

    def _tombstones_of(self, pattern: Pattern) -> Iterable[Tombstone]:
        """Return the deletions that may match, newest first."""
        if not pattern.is_exact:
            return reversed(self._tombstones.values())
        known = self._tombstones.get(pattern.text)
        return () if known is None else (known,)

    def _bury(self, tombstone: Tombstone) -> None:
        """Remember a deletion, the newest of its name; forget the oldest past the limit."""
        self._tombstones[tombstone.name] = tombstone
        self._tombstones.move_to_end(tombstone.name)
        if len(self._tombstones) > MAX_DELETIONS:
            _, forgotten = self._tombstones.popitem(last=False)
            self._forgotten_tick = forgotten.changed
            self._forgotten_rev = max(self._forgotten_rev, forgotten.rev or 0)

    def _begin_commit(self, rows: Sequence[Row]) -> None:
        self.before_commit = (self.tick, self.rev)
        self.backlog.append(rows, tick_before=self.tick, rev_before=self.rev)

    def _take(self, row: Row) -> None:
        self.tick += 1
        if row.rev is not None:
            self.rev = row.rev
            self.rows += 1
        state = self._states.get(row.name)
        if state is None:
            state = self._add(row, 0 if row.rev is None else 1)
            state.changed = self.tick
        else:
            previous, memory = state.latest, state.memory
            state.take(row)
            self.latest_bytes += state.memory - memory
            if state.latest is row:
                if self.damaged:
                    self.damaged.pop(row.name, None)
                self.replaced_bytes += ROW_BYTES + len(previous.value) + len(previous.body)
                state.changed = self.tick
                self._changes.move_to_end(row.name)

    def _restore_record(self, record: LoadedRecord) -> None:
        state = self._add(record.latest, record.rows)
        state.purged_rev = record.purged_rev
        if record.damage is not None:
            self.damaged[state.name] = record.damage
            self.latest_bytes -= state.memory
            state.forget_buffered()

    def _add(self, latest: Row, rows: int) -> RecordState:
        rule = self.rules.rule_for(latest.name)
        state = RecordState(self._next_id, latest.name, rule, latest, rows)
        if (unborn := self._unborn.pop(latest.name, None)) is not None:
            state.topics, state.topics_version = unborn.topics, unborn.topics_version
        self._states[latest.name] = self._changes[latest.name] = state
        self.latest_bytes += state.memory
        self._next_id += 1
        self._transients += latest.rev is None
        return state

    def _note_change(self, state: RecordState) -> None:
        self.tick += 1
        state.changed = self.tick
        self._changes.move_to_end(state.name)

    def _changed_after(self, tick: int, topic: Topic) -> list[RecordState]:
        """Return the records that match and have changed after `tick`, oldest change first."""
        if not topic.pattern.is_exact and self.tick - tick > _MANY_CHANGES:
            states = self.snapshot(topic)  # which was prepared in steps
            return states[bisect.bisect_right(states, tick, key=LAST_CHANGE) :]
        changed: list[RecordState] = []
        for state in self._states_to_look_at(topic):
            if state.changed <= tick:
                break
            if topic.pattern.matches_all or self.topics.follows(topic, state):
                changed.append(state)
        changed.reverse()
        return changed

    def _states_to_look_at(self, topic: Topic) -> Iterable[RecordState]:
        """Return the records that may match, newest change first."""
        if topic.pattern.is_exact:
            state = self._states.get(topic.pattern.text)
            return () if state is None else (state,)
        return reversed(self._changes.values())
