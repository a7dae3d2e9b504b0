"""The phases of a subscription: how it comes from where it stands to the live stream.

Theory of operation. A subscription is in one of these phases, and goes on to another:

    OPENING ────► REPLAYING     all current values are put
    REPLAYING ──► LIVE          nothing is left to put
    REPLAYING ──► READING       every update is owed, and the backlog goes not so far back
    REPLAYING ──► CONFLATING    not every update is owed, and the backlog goes not so far back
    REPLAYING ──► PATCHING      the backlog has outrun transient updates
    REPLAYING ──► OPENING       resync
    READING ────► REPLAYING     a page is put; the backlog may go far enough now
    READING ────► OPENING       resync: storage has no longer what is owed
    PATCHING ───► REPLAYING     the newest transient rows are put
    CONFLATING ─► LIVE          nothing has changed since
    CONFLATING ─► OPENING       resync: too much was deleted to know it by name
    LIVE ───────► REPLAYING     no room, and every update is owed, or it had taken all before
    LIVE ───────► CONFLATING    no room, and the client is slow

It begins in OPENING, or in REPLAYING where there is no value to open with, and may end in
CLOSED from each of them. `TRANSITIONS` is the same table.

OPENING puts the current values of one moment. REPLAYING puts exactly what was committed
since, from the hub's backlog; READING does so from storage, further back than the backlog
goes. Storage knows nothing of transient records: PATCHING puts their newest rows, where the
backlog has outrun them, and tells how many updates that leaves out. CONFLATING, where
exactness is not owed, puts only the newest row of each record that has changed, and tells how
many updates that leaves out. Each puts as much as the outbox has room for; when nothing is
left the subscription is LIVE, and commits are pushed to it. All steps but the reading itself
are synchronous: no commit falls between.

What is to be put is captured as the records, not as their rows, which a slow reader would
keep from being forgotten. A record that has changed again when its turn comes is passed over:
that change is yet to be told.

The position is a tick of the hub, or, further back than the backlog, a rev. Ticks count
transient rows too and are gone with the process; a rev is all that a client can come back
with, and all that storage knows.

Who asked for every update goes live with nothing untold: there may be no next update to tell
it with, as behind late rows of transient records. So it resyncs instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Protocol

import msgspec

from recordd.following.stream import MAX_PAGE_ROWS, MIN_PAGE_ROWS, Filling, Stream
from recordd.hub.catalogue import Catalogue
from recordd.hub.changes import Change, ChangeLog
from recordd.hub.gaps import Gaps
from recordd.hub.tombstones import Tombstone
from recordd.hub.topic_index import TopicIndex
from recordd_protocol.rows import Page, Row

__all__ = [
    "TRANSITIONS",
    "ByRev",
    "ByTick",
    "Captured",
    "ClosedPhase",
    "ConflatingPhase",
    "FollowedHub",
    "LivePhase",
    "OpeningPhase",
    "Phase",
    "ReadingPhase",
    "ReplayingPhase",
    "oldest_rev",
    "resync",
]

_MANY_UPDATES: Final = 64
"""To put so many takes some 0.2 ms."""


class FollowedHub(Protocol):
    """The parts of the hub that following asks, without the whole that takes commits."""

    @property
    def catalogue(self) -> Catalogue:
        """The current values, and the position that they are of."""

    @property
    def changes(self) -> ChangeLog:
        """What has changed since a position."""

    @property
    def gaps(self) -> Gaps:
        """What storage may lack."""

    @property
    def topics(self) -> TopicIndex:
        """Who is told of a commit."""


class ByTick(msgspec.Struct, frozen=True):
    """Everything up to a tick is put; `rev` is the newest commit of that."""

    tick: int
    rev: int


class ByRev(msgspec.Struct, frozen=True):
    """Everything stored up to a rev is put; `page_cursor` is where to go on reading storage.

    That is the rev, or the `next` of a page, which may have looked at rows past it.
    """

    rev: int
    page_cursor: int | str


class Captured:
    """Changes whose newest rows are to be put, of one moment."""

    __slots__ = ("_as_of", "_changes", "_next")

    def __init__(self, changes: Sequence[Change], as_of: int) -> None:
        self._changes: Final = changes
        self._as_of: Final = as_of
        self._next = 0

    def __len__(self) -> int:
        """How many are left."""
        return len(self._changes) - self._next

    def look(self, changes: ChangeLog) -> Row | None:
        """Return the row of the first that is left; None where more has changed since."""
        return changes.row_of(self._changes[self._next], self._as_of)

    def drop(self) -> None:
        """Be done with the first that is left."""
        self._next += 1

    def put(self, stream: Stream, hub: FollowedHub) -> bool:
        """Put rows as updates while there is room; return whether any change is done.

        Each change that has become another is missed: the newer one is counted by itself.
        """
        filling, left = stream.begin_filling(), len(self)
        while self:
            row = self.look(hub.changes)
            if row is None:
                stream.account.miss_one()
            elif not filling.take(row):
                break
            self.drop()
        stream.put(filling.rows)
        return len(self) < left


class _Phase:
    """What holds of most phases."""

    __slots__ = ()
    is_fed: ClassVar = True
    """Whether `feed` has something to do."""

    @property
    def is_looking(self) -> bool:
        """Whether the next step looks for what has changed: see `Catalogue.prepare_snapshot`."""
        return False

    def is_long(self, tick: int) -> bool:
        """Tell whether much may be put with one step, at this tick of the hub."""
        return False

    def feed(self, stream: Stream, hub: FollowedHub) -> Phase | None:
        """Put what there is room for; return the phase to go on in, None without room."""
        raise AssertionError("only a phase that is fed is asked")


class OpeningPhase(_Phase):
    """Current values of one moment are put."""

    __slots__ = ("_captured", "_held", "_then")

    def __init__(self, captured: Captured, then: ByTick | ByRev) -> None:
        self._captured: Final = captured
        self._then: Final = then
        self._held: Row | None = None
        """A row that found no room. It stays to be marked as the last: those behind it may all
        have changed when it is put."""

    @property
    def values(self) -> int:
        """How many values are to be put."""
        return len(self._captured) + (self._held is not None)

    def is_long(self, tick: int) -> bool:
        """Tell whether many are left."""
        return len(self._captured) > _MANY_UPDATES

    def feed(self, stream: Stream, hub: FollowedHub) -> Phase | None:
        """Put values; the last is marked as that."""
        filling = stream.begin_filling()
        while (row := self._held or self._take_next(hub.changes)) is not None:
            self._held = row
            if not filling.take(row):
                break
            self._held = None
        is_last = self._held is None
        if filling.rows:
            stream.put_values(filling.rows, is_last=is_last)
        if is_last:
            return ReplayingPhase(self._then)
        return self if filling.rows else None

    def _take_next(self, changes: ChangeLog) -> Row | None:
        """Return the next value that is current still; None at the end."""
        captured = self._captured
        while captured:
            row = captured.look(changes)
            captured.drop()
            if row is not None:
                return row
        return None


class ReplayingPhase(_Phase):
    """What was committed since a position is put, from the backlog."""

    __slots__ = ("_position",)

    def __init__(self, position: ByTick | ByRev) -> None:
        self._position = position

    @property
    def is_looking(self) -> bool:
        """Whether it has yet to enter the backlog, which may end in a resync."""
        return isinstance(self._position, ByRev)

    def is_long(self, tick: int) -> bool:
        """Tell whether much has been committed since, as far as is known without a look."""
        position = self._position
        return isinstance(position, ByRev) or tick - position.tick > _MANY_UPDATES

    def feed(self, stream: Stream, hub: FollowedHub) -> Phase | None:
        """Put what the backlog has; where it has nothing more, go live."""
        position = self._position
        if isinstance(position, ByRev):
            return self._enter_backlog(position, stream, hub)
        if position.tick == stream.catalogue.tick:
            return _go_live(stream, hub)
        return self._put_backlog(position, stream, hub)

    def _put_backlog(self, position: ByTick, stream: Stream, hub: FollowedHub) -> Phase | None:
        rows = hub.changes.backlog.rows_after(position.tick)
        if rows is None:
            return _leave_backlog(position, stream)
        account, topic = stream.account, stream.topic
        matches, takes = topic.pattern.matches, hub.topics.takes
        base_tick, transients_until = account.base_tick, account.transients_until
        filling = stream.begin_filling()
        tick, rev, updates, transients = position.tick, position.rev, 0, 0
        for row in rows:
            # What it got before its position came to be a tick is passed over.
            is_new = tick >= transients_until if row.rev is None else row.rev > rev
            if is_new and matches(row.name) and takes(topic, row):
                if not filling.take(row):
                    break
                updates += tick >= base_tick
                transients += row.rev is None
            tick += 1
            rev = max(rev, row.rev or 0)
        self._position = ByTick(tick, rev)
        account.settle_replayed(updates, transients)
        stream.put(filling.rows)
        return self if tick > position.tick else None

    def _enter_backlog(self, position: ByRev, stream: Stream, hub: FollowedHub) -> Phase:
        """Turn a position by rev into one by tick; or read on, or conflate."""
        catalogue, backlog, account = stream.catalogue, hub.changes.backlog, stream.account
        rev = position.rev
        tick = catalogue.tick if rev >= catalogue.rev else backlog.find_tick(rev)
        if tick is None:
            return _leave_backlog(position, stream)
        if not account.owes_transients(stream.topic.transients):
            account.pass_transients(catalogue.tick)
        elif backlog.covers(account.transients_until):
            tick = min(tick, account.transients_until)
        else:
            return _patch(ByTick(tick, rev), stream, hub)
        self._position = ByTick(tick, rev)
        return self


class ReadingPhase(_Phase):
    """What was committed since a position has to come from storage; `take` is given it."""

    __slots__ = ("position",)
    is_fed: ClassVar = False

    def __init__(self, position: ByRev) -> None:
        self.position: Final = position

    def has_gap(self, stream: Stream, hub: FollowedHub) -> bool:
        """Tell whether storage may lack what is owed."""
        return bool(hub.gaps.newest_gap(stream.topic.pattern, self.position.rev))

    def take(self, page: Page, stream: Stream, hub: FollowedHub) -> Phase:
        """Put rows of a page, as many as there is room for, at least one.

        The others are asked for again: to keep them would hold a page for each slow reader.
        """
        if self.has_gap(stream, hub):
            return resync(stream, hub)
        rows = page.rows[: max(1, _count_fitting(page.rows, stream.begin_filling()))]
        stream.page_rows = min(max(2 * len(rows), MIN_PAGE_ROWS), MAX_PAGE_ROWS)
        stream.put(rows)
        stream.account.settle_stored(rows)
        return ReplayingPhase(self._position_after(rows, page))

    def _position_after(self, rows: Sequence[Row], page: Page) -> ByRev:
        is_whole = len(rows) == len(page.rows)
        if is_whole and page.next is None:
            return ByRev(page.rev, page.rev)
        rev = rows[-1].rev or self.position.rev if rows else self.position.rev
        return ByRev(rev, page.next or rev if is_whole else rev)


class PatchingPhase(_Phase):
    """Newest rows are put of transient records whose older ones nobody has."""

    __slots__ = ("_captured", "_then")

    def __init__(self, captured: Captured, then: ByTick) -> None:
        self._captured: Final = captured
        self._then: Final = then

    def is_long(self, tick: int) -> bool:
        """Tell whether many are left."""
        return len(self._captured) > _MANY_UPDATES

    def feed(self, stream: Stream, hub: FollowedHub) -> Phase | None:
        """Put the rows, then replay."""
        if not self._captured:
            return ReplayingPhase(self._then)
        return self if self._captured.put(stream, hub) else None


class ConflatingPhase(_Phase):
    """Newest rows are put of what has changed since a tick, until nothing has."""

    __slots__ = ("_captured", "_rev", "_tick")

    def __init__(self, position: ByTick) -> None:
        self._tick = position.tick
        self._rev: Final = position.rev
        self._captured = Captured((), position.tick)

    @property
    def is_looking(self) -> bool:
        """Whether all that had changed is put."""
        return not self._captured

    def is_long(self, tick: int) -> bool:
        """Tell whether many are left, or are to be looked for."""
        return self.is_looking or len(self._captured) > _MANY_UPDATES

    def feed(self, stream: Stream, hub: FollowedHub) -> Phase | None:
        """Put the rows; then look for what has changed meanwhile."""
        if not self._captured:
            return self._capture(stream, hub)
        return self if self._captured.put(stream, hub) else None

    def _capture(self, stream: Stream, hub: FollowedHub) -> Phase:
        """Note which records have changed; where none has, it has caught up."""
        found = hub.changes.changes_after(self._tick, stream.topic)
        if found is None:
            return resync(stream, hub)
        changes = [change for change in found if not self._was_told(change, stream)]
        stream.account.settle_conflated(stream.topic.published, len(changes))
        if not changes:
            return _go_live(stream, hub)
        self._tick = stream.catalogue.tick
        self._captured = Captured(changes, self._tick)
        return self

    def _was_told(self, change: Change, stream: Stream) -> bool:
        """Tell whether an update was put before: a position by rev has no tick to begin from.

        Only of the first capture: what has changed after that is newer than all of it.
        """
        row = change.row if isinstance(change, Tombstone) else change.latest
        if row.rev is None:
            return change.changed <= stream.account.transients_until
        return row.rev <= self._rev


class LivePhase(_Phase):
    """Commits are pushed. `untold` updates were left out before that.

    They are told with the first that is pushed; the subscription keeps their number at hand.
    """

    __slots__ = ("untold",)
    is_fed: ClassVar = False

    def __init__(self, untold: int) -> None:
        self.untold: Final = untold


class ClosedPhase(_Phase):
    """It is told nothing more, and holds nothing."""

    __slots__ = ()
    is_fed: ClassVar = False


Phase = (
    OpeningPhase
    | ReplayingPhase
    | ReadingPhase
    | PatchingPhase
    | ConflatingPhase
    | LivePhase
    | ClosedPhase
)

TRANSITIONS: Final[Mapping[type[Phase], frozenset[type[Phase]]]] = {
    OpeningPhase: frozenset({ReplayingPhase}),
    ReplayingPhase: frozenset(
        {LivePhase, ReadingPhase, ConflatingPhase, PatchingPhase, OpeningPhase}
    ),
    ReadingPhase: frozenset({ReplayingPhase, OpeningPhase}),
    PatchingPhase: frozenset({ReplayingPhase}),
    ConflatingPhase: frozenset({LivePhase, OpeningPhase}),
    LivePhase: frozenset({ReplayingPhase, ConflatingPhase}),
    ClosedPhase: frozenset(),
}
"""From which phase to which others; to `ClosedPhase` from each. See the head of the module."""


def resync(stream: Stream, hub: FollowedHub) -> OpeningPhase:
    """Tell that updates are lost, and begin with the current values, with nothing owed."""
    catalogue = stream.catalogue
    states = catalogue.snapshot(stream.topic)
    stream.put_resync(oldest_rev=oldest_rev(stream, hub), values=len(states))
    stream.begin_account()
    return OpeningPhase(Captured(states, catalogue.tick), ByTick(catalogue.tick, catalogue.rev))


def oldest_rev(stream: Stream, hub: FollowedHub) -> int:
    """Return the rev from which on the topic's history is whole."""
    return hub.gaps.newest_gap(stream.topic.pattern, 0) + 1


def _go_live(stream: Stream, hub: FollowedHub) -> LivePhase | OpeningPhase:
    missed = stream.account.left_out(stream.topic.published)
    if missed and stream.every:
        return resync(stream, hub)  # there may be no next update to tell it with
    return LivePhase(missed)


def _leave_backlog(position: ByTick | ByRev, stream: Stream) -> Phase:
    """Go on where the backlog does not reach."""
    account = stream.account
    if not (stream.every or account.owes_all_after(position.rev)):
        tick = position.tick if isinstance(position, ByTick) else account.base_tick
        return ConflatingPhase(ByTick(tick, position.rev))
    if isinstance(position, ByTick):
        account.pass_transients(position.tick)
        position = ByRev(position.rev, position.rev)
    # What comes from storage is what has a rev; beyond the newest there is nothing.
    is_stored = position.rev < stream.catalogue.rev
    return ReadingPhase(position) if is_stored else ReplayingPhase(position)


def _patch(position: ByTick, stream: Stream, hub: FollowedHub) -> PatchingPhase | OpeningPhase:
    """Have the newest rows put of which neither the backlog nor storage has the older ones."""
    account = stream.account
    changes = hub.changes.transients_after(account.transients_until, stream.topic)
    if changes is None:
        return resync(stream, hub)
    account.settle_transients(stream.standing(), put=len(changes))
    return PatchingPhase(Captured(changes, stream.catalogue.tick), position)


def _count_fitting(rows: Sequence[Row], filling: Filling) -> int:
    """Return how many of the rows, from the first, there is room for."""
    for number, row in enumerate(rows):
        if not filling.take(row):
            return number
    return len(rows)
