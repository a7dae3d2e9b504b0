"""One subscription: where it stands, and how it comes from there to the live stream.

Theory of operation. A subscription passes through these phases:

    OPENING ──► REPLAYING ◄──► READING       resync: back to OPENING
       PATCHING ◄─┤    └────► CONFLATING     past the room: from LIVE back to REPLAYING
                  └──► LIVE ◄──┘             (delivery "every") or CONFLATING ("latest")

OPENING puts the current values of one moment. REPLAYING puts exactly what was
committed since, from the hub's backlog; READING does so from storage, further back than
the backlog goes. Storage knows nothing of records that are not persisted: PATCHING puts
their newest rows, where the backlog has outrun them, and tells how many updates that
leaves out. CONFLATING, where exactness is not owed, puts only the newest row of each
record that has changed, and tells how many updates that leaves out. Each puts as much as
the outbox has room for; when nothing is left the subscription is LIVE, and commits are
pushed to it. All steps but the reading itself are synchronous: no commit falls between.

What is to be put is captured as the records, not as their rows, which a slow reader would
keep from being forgotten. A record that has changed again when its turn comes is passed
over: that change is yet to be told.

The position is a tick of the hub, or, further back than the backlog, a rev. What is left
out is known without having been looked at: the topic counts what was published since the
`_Base`, the subscription what of that it got or was told of. Updates that no storage has
are counted by themselves too, since their loss is known before the rest is read. What asked
for every update goes live with nothing untold: with what no update is left to tell of, as
late rows of records that are not persisted, it resyncs.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from recordd.hub.hub import Change, Hub, Tombstone
from recordd.hub.topic import Burst
from recordd.outgoing.outbox import Outbox, Room
from recordd.system.counters import Counters
from recordd_protocol.dialect import EventEncoder
from recordd_protocol.methods import Subscribed
from recordd_protocol.patterns import Pattern
from recordd_protocol.rows import Page, Row

__all__ = ["Opening", "Subscription"]

_MANY_UPDATES: Final = 64
"""To put so many takes some 0.2 ms."""

_MIN_PAGE_ROWS: Final = 16
_MAX_PAGE_ROWS: Final = 1024

_EVENT_BYTES: Final = 128
"""What an event has beside its row, about: it decides how many are put at once."""


class Opening(msgspec.Struct, frozen=True):
    """What is to be followed, from where, and whether every update has to come.

    Without `late` no late row comes, but of rings.
    """

    pattern: Pattern
    snapshot: bool
    after: int | None
    epoch: str | None
    every: bool
    late: bool = True


class _Phase(enum.Enum):
    OPENING = enum.auto()
    REPLAYING = enum.auto()
    READING = enum.auto()
    PATCHING = enum.auto()
    CONFLATING = enum.auto()
    LIVE = enum.auto()
    CLOSED = enum.auto()


class _Base(msgspec.Struct, frozen=True):
    """The moment from which on updates are accounted for."""

    tick: int
    rev: int


class Subscription:
    """A `LiveSubscription` of one topic, sending to one outbox."""

    __slots__ = (
        "_accounted",
        "_after",
        "_as_of",
        "_base",
        "_captured",
        "_counters",
        "_every",
        "_exact_until",
        "_held",
        "_hub",
        "_missed",
        "_next",
        "_on_behind",
        "_outbox",
        "_phase",
        "_rev",
        "_tick",
        "_transients_accounted",
        "_transients_until",
        "encoder",
        "is_resync",
        "page_rows",
        "topic",
        "unreported",
    )

    def __init__(
        self,
        hub: Hub,
        outbox: Outbox,
        encoder: EventEncoder,
        opening: Opening,
        *,
        counters: Counters,
        on_behind: Callable[[Subscription], None],
    ) -> None:
        """Take up the position; nothing is put before the first `feed_nowait`.

        `on_behind` is called when it is not live any more: somebody has to feed it.
        """
        self.encoder: Final = encoder
        self.topic: Final = hub.topics.follow(opening.pattern, late=opening.late)
        self.unreported = 0
        self._hub: Final = hub
        self._outbox: Final = outbox
        self._counters: Final = counters
        self._on_behind: Final = on_behind
        self._every: Final = opening.every
        self._phase = _Phase.REPLAYING
        self._captured: Sequence[Change] = ()
        self._next = 0  # of what is captured
        self._as_of = hub.tick  # when it was
        self._held: Row | None = None
        self._missed = 0  # updates left out, to be told with the next that is put
        self._base = _Base(hub.tick, hub.rev)
        self._accounted = self.topic.published
        self._tick: int | None = hub.tick
        self._rev = hub.rev
        self._after: int | str = hub.rev  # where to go on reading storage
        self._exact_until = 0
        # Updates without rev that it got or was told of: up to this tick, so many.
        self._transients_until = hub.tick
        self._transients_accounted = self.topic.transients
        self.is_resync = False
        self.page_rows = _MAX_PAGE_ROWS
        """How many rows to ask storage for: with little room, most would be read for nothing."""
        self._choose_start(opening)

    @property
    def is_opening(self) -> bool:
        """Whether current values are still to be put."""
        return self._phase is _Phase.OPENING

    @property
    def is_reading(self) -> bool:
        """Whether storage has to be asked for what follows `after`: see `take_page`."""
        return self._phase is _Phase.READING

    @property
    def is_looking(self) -> bool:
        """Whether it is to look for what has changed: see `Hub.prepare_snapshot`."""
        if self._phase is _Phase.REPLAYING:
            return self._tick is None
        return self._phase is _Phase.CONFLATING and self._next == len(self._captured)

    @property
    def is_long(self) -> bool:
        """Whether much may be put with one feed; a hundred others may be fed in the same pass."""
        if self._tick is not None and self._phase is _Phase.REPLAYING:
            return self._hub.tick - self._tick > _MANY_UPDATES
        return self.is_looking or len(self._captured) - self._next > _MANY_UPDATES

    @property
    def has_gap(self) -> bool:
        """Whether storage may lack what it is to read: it is to start afresh."""
        return bool(self._hub.newest_gap(self.topic.pattern, self._rev))

    @property
    def is_behind(self) -> bool:
        """Whether it has to be fed: it is neither live nor closed."""
        return self._phase not in (_Phase.LIVE, _Phase.CLOSED)

    @property
    def after(self) -> int | str:
        """Where to go on reading storage: a rev, or the `next` of the last page."""
        return self._after

    def describe(self, subscription_id: str) -> Subscribed:
        """Return the answer to the call that opened it, as of the same moment."""
        answer = Subscribed(
            subscription=subscription_id,
            rev=self._hub.rev,
            epoch=self._hub.epoch,
            values=len(self._captured),
        )
        if self.is_resync:
            return msgspec.structs.replace(answer, resync=True, oldest_rev=self._oldest_rev())
        return answer

    def has_room(self, updates: int) -> bool:
        """Leave the live stream where so many find none; see `LiveSubscription.has_room`."""
        if updates <= self._outbox.room.updates:
            return True
        self._fall_behind(updates)
        return False

    def push(self, rows: Sequence[Row], burst: Burst) -> Outbox | None:
        """Take the events of a commit; see `LiveSubscription.push`."""
        outbox = self._outbox
        if not outbox.try_put_updates(burst.messages, burst.updates, burst.size):
            self._fall_behind(burst.updates)
            return None
        if self.unreported:
            self._report(rows[0].name, self.unreported)
            self.unreported = 0
        self.encoder.advance(burst.updates)
        return outbox

    def feed_nowait(self) -> bool:
        """Send what memory holds and the outbox has room for; return whether it came further.

        Afterwards it is live, or `is_reading`, or waits for room. Where the peer is gone there
        would be room for everything.
        """
        has_come_further = False
        while not self._outbox.is_closed and self._phase in _FEEDERS:
            if not _FEEDERS[self._phase](self):
                break
            has_come_further = True
        self._outbox.flush_nowait()
        return has_come_further

    def take_page(self, page: Page) -> None:
        """Send rows that storage has after `after`, and go on from there.

        As many as there is room for, at least one; the others are asked for again.
        """
        if not self.is_reading:
            return None  # closed meanwhile
        if self.has_gap:
            return self.start_afresh()
        rows = page.rows[: max(1, self._count_fitting(page.rows))]
        self.page_rows = min(max(2 * len(rows), _MIN_PAGE_ROWS), _MAX_PAGE_ROWS)
        self._put(rows)
        self._accounted += sum([row.rev is not None and row.rev > self._base.rev for row in rows])
        if len(rows) < len(page.rows) or page.next is not None:
            if rows:
                self._rev = rows[-1].rev or self._rev
            self._after = self._rev if len(rows) < len(page.rows) else page.next or self._rev
        else:
            self._after = self._rev = page.rev
        self._phase = _Phase.REPLAYING
        self._outbox.flush_nowait()
        return None

    def start_afresh(self) -> None:
        """Tell that updates are lost, and begin with the current values."""
        if self._phase is not _Phase.CLOSED:
            self._resync()
            # At once: the values that were announced may all have changed a moment later.
            self.feed_nowait()

    def _resync(self) -> None:
        hub = self._hub
        states = hub.snapshot(self.topic)
        messages = self.encoder.encode_resync(
            rev=hub.rev, epoch=hub.epoch, oldest_rev=self._oldest_rev(), values=len(states)
        )
        self._outbox.put_updates(messages, len(messages), sum(map(len, messages)))
        self.encoder.advance(1)
        self._counters.resyncs += 1
        self._take_position(hub.tick, hub.rev)
        self._transients_until = hub.tick
        self._transients_accounted = self.topic.transients
        self._accounted = self.topic.published
        self.unreported = self._missed = 0
        self._exact_until = 0
        self._capture(states)

    def close(self) -> None:
        """End it: it holds nothing any more, and is told nothing."""
        if self._phase is not _Phase.CLOSED:
            self._phase = _Phase.CLOSED
            self.topic.live.pop(self, None)
            self._hub.topics.leave(self.topic)
            self._captured, self._held = (), None

    def _choose_start(self, opening: Opening) -> None:
        hub = self._hub
        after = opening.after
        if after is None:
            if opening.snapshot:
                self._capture(hub.snapshot(self.topic))
            return
        is_foreign = opening.epoch not in (None, hub.epoch) or after > hub.rev
        if is_foreign or hub.newest_gap(opening.pattern, after):
            self.is_resync = True
            self._counters.resyncs += 1
            self._capture(hub.snapshot(self.topic))
            return
        self._exact_until = hub.rev
        self._tick, self._rev, self._after = None, after, after
        # They have no history: what is current opens the stream, and is followed from here.
        self._capture(hub.transients_after(-1, self.topic) or ())

    def _oldest_rev(self) -> int:
        return self._hub.newest_gap(self.topic.pattern, 0) + 1

    def _capture(self, changes: Sequence[Change]) -> None:
        """Have these put as current values, and go on with what comes after."""
        self._captured, self._next, self._as_of = changes, 0, self._hub.tick
        self._phase = _Phase.OPENING if changes else _Phase.REPLAYING

    def _take_position(self, tick: int, rev: int) -> None:
        self._tick, self._rev, self._after = tick, rev, rev
        self._base = _Base(tick, rev)

    def _fall_behind(self, updates: int) -> None:
        """Leave the live stream, just before a commit with so many updates."""
        del self.topic.live[self]
        self._take_position(*self._hub.before_commit)
        self._transients_until = self._base.tick
        self._transients_accounted = self.topic.transients_before
        self._accounted = self.topic.published - updates
        self._missed, self.unreported = self.unreported, 0
        # One large commit does not make a slow reader: who had taken all gets all of it.
        is_slow = self._outbox.is_behind
        self._phase = _Phase.CONFLATING if is_slow and not self._every else _Phase.REPLAYING
        self._on_behind(self)

    def _put_snapshot(self) -> bool:
        rows: list[Row] = []
        size = 0
        room = self._outbox.room
        while (row := self._held or self._take_captured()) is not None:
            size += len(row.body) + _EVENT_BYTES
            # Held, it is there to be marked as the last, whatever becomes of those behind it.
            self._held = row
            if not self._fits(len(rows) + 1, size, room):
                break
            rows.append(row)
            self._held = None
        is_last = self._held is None
        if rows:
            messages = self.encoder.encode_snapshot(rows, is_last=is_last)
            self._outbox.put_updates(messages, len(rows), sum(map(len, messages)))
            self.encoder.advance(len(rows))
            self._hub.note_consumed(rows)
        if is_last:
            self._captured, self._next = (), 0
            self._phase = _Phase.REPLAYING
        return bool(rows) or is_last

    def _take_captured(self) -> Row | None:
        """Return the next row of what was captured and has not changed since; None at the end."""
        while self._next < len(self._captured):
            change = self._captured[self._next]
            self._next += 1
            if (row := self._hub.row_of(change, self._as_of)) is not None:
                return row
        return None

    def _put_backlog(self) -> bool:
        if self._tick is None:
            return self._enter_backlog()
        if self._tick == self._hub.tick:
            return self._go_live()
        rows = self._hub.backlog.rows_after(self._tick)
        if rows is None:
            self._leave_backlog()
            return True
        matches, takes = self.topic.pattern.matches, self._hub.topics.takes
        room = self._outbox.room
        taken: list[Row] = []
        tick, rev, size = self._tick, self._rev, 0
        for row in rows:
            # What it got before its position came to be a tick is passed over.
            is_new = tick >= self._transients_until if row.rev is None else row.rev > rev
            if is_new and matches(row.name) and takes(self.topic, row):
                size += len(row.body) + _EVENT_BYTES
                if not self._fits(len(taken) + 1, size, room):
                    break
                taken.append(row)
                self._accounted += tick >= self._base.tick
                self._transients_accounted += row.rev is None
            tick += 1
            rev = max(rev, row.rev or 0)
        has_moved = tick > self._tick
        self._tick, self._rev, self._after = tick, rev, rev
        self._put(taken)
        return has_moved

    def _enter_backlog(self) -> bool:
        """Turn a position by rev into one by tick; or read on, or conflate."""
        hub = self._hub
        tick = hub.tick if self._rev >= hub.rev else hub.backlog.find_tick(self._rev)
        if tick is None:
            self._leave_backlog()
        elif self.topic.transients == self._transients_accounted:
            self._tick, self._transients_until = tick, hub.tick
        elif hub.backlog.covers(self._transients_until):
            self._tick = min(tick, self._transients_until)
        else:
            self._tick = tick
            self._capture_transients()
        return True

    def _capture_transients(self) -> None:
        """Have the newest rows put of which the backlog lacks the older ones, as has storage."""
        hub = self._hub
        changes = hub.transients_after(self._transients_until, self.topic)
        if changes is None:
            return self._resync()
        updates = self.topic.transients - self._transients_accounted
        self._missed += updates - len(changes)
        self._accounted += updates
        self._transients_until, self._transients_accounted = hub.tick, self.topic.transients
        self._captured, self._next, self._as_of = changes, 0, hub.tick
        self._phase = _Phase.PATCHING
        return None

    def _put_transients(self) -> bool:
        if self._next == len(self._captured):
            self._captured, self._next = (), 0
            self._phase = _Phase.REPLAYING
            return True
        return self._put_captured()

    def _leave_backlog(self) -> None:
        """Go on where the backlog does not reach."""
        if self._every or self._rev < self._exact_until:
            # What comes from storage is what has a rev; beyond the newest there is nothing.
            is_stored = self._rev < self._hub.rev
            self._phase = _Phase.READING if is_stored else _Phase.REPLAYING
            if self._tick is not None:
                self._transients_until = max(self._transients_until, self._tick)
                self._tick = None
            return
        self._phase = _Phase.CONFLATING
        if self._tick is None:
            self._tick = self._base.tick

    def _put_changes(self) -> bool:
        if self._next == len(self._captured):
            return self._capture_changes()
        return self._put_captured()

    def _put_captured(self) -> bool:
        """Put the newest rows of what was captured; return whether it came further."""
        rows: list[Row] = []
        size = 0
        room = self._outbox.room
        start = self._next
        while self._next < len(self._captured):
            row = self._hub.row_of(self._captured[self._next], self._as_of)
            if row is None:
                self._missed += 1
            else:
                size += len(row.body) + _EVENT_BYTES
                if not self._fits(len(rows) + 1, size, room):
                    break
                rows.append(row)
            self._next += 1
        if rows:
            self._rev = self._after = rows[-1].rev or self._rev
            self._put(rows)
        return self._next > start

    def _capture_changes(self) -> bool:
        """Note which records have changed; where none has, it has caught up."""
        assert self._tick is not None, "conflating starts from a tick"
        found = self._hub.changes_after(self._tick, self.topic)
        if found is None:
            self._resync()
            return True
        changes = [change for change in found if not self._was_told(change)]
        self._missed += self.topic.published - self._accounted - len(changes)
        self._accounted = self.topic.published
        if not changes:
            return self._go_live()
        self._captured, self._next = changes, 0
        self._as_of = self._tick = self._hub.tick
        return True

    def _was_told(self, change: Change) -> bool:
        row = change.row if isinstance(change, Tombstone) else change.latest
        return change.changed <= self._transients_until if row.rev is None else row.rev <= self._rev

    def _go_live(self) -> bool:
        missed = self._missed + self.topic.published - self._accounted
        if missed and self._every:
            self._resync()  # there may be no next update to tell it with
            return True
        self._phase = _Phase.LIVE
        self._captured, self._next = (), 0
        self.unreported += missed
        self._missed = 0
        self.topic.live[self] = None
        return True

    def _put(self, rows: Sequence[Row]) -> None:
        """Put rows, the first with how many updates were left out before it."""
        if rows:
            messages = self.encoder.encode(rows, self._missed)
            self._outbox.put_updates(messages, len(rows), sum(map(len, messages)))
            if self._missed:
                self._report(rows[0].name, self._missed)
                self._missed = 0
            self.encoder.advance(len(rows))
            self._hub.note_consumed(rows)

    def _report(self, name: str, skipped: int) -> None:
        self.encoder.advance(skipped)
        self._hub.note_dropped(name, skipped)
        self._counters.updates_skipped += skipped

    def _count_fitting(self, rows: Sequence[Row]) -> int:
        """Return how many of the rows, from the first, there is room for."""
        room = self._outbox.room
        size = 0
        for number, row in enumerate(rows, 1):
            size += len(row.body) + _EVENT_BYTES
            if not self._fits(number, size, room):
                return number - 1
        return len(rows)

    def _fits(self, updates: int, size: int, room: Room) -> bool:
        if updates == 1 and self._outbox.is_empty:
            return True  # one of any size
        return updates <= room.updates and size <= room.bytes


_FEEDERS: Final[dict[_Phase, Callable[[Subscription], bool]]] = {
    _Phase.OPENING: Subscription._put_snapshot,
    _Phase.REPLAYING: Subscription._put_backlog,
    _Phase.PATCHING: Subscription._put_transients,
    _Phase.CONFLATING: Subscription._put_changes,
}
"""What each phase does of which memory knows all; True where it came further."""
