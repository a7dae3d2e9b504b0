"""One subscription: pushed to while it is live, fed through its phases while it is not.

The phases and what leads from one to another are in `recordd.following.phases`, the counting
of what is left out in `recordd.following.accounting`. While it is live it is one of a
`recordd.following.live_group`, which asks for it only where a commit cannot go out at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from recordd.connections.outbox import Outbox
from recordd.following.accounting import Standing
from recordd.following.live_group import LiveGroup, join_group
from recordd.following.opening import Opening
from recordd.following.phases import (
    TRANSITIONS,
    ByRev,
    ByTick,
    Captured,
    ClosedPhase,
    ConflatingPhase,
    FollowedHub,
    LivePhase,
    OpeningPhase,
    Phase,
    ReadingPhase,
    ReplayingPhase,
    oldest_rev,
    resync,
)
from recordd.following.stream import Stream
from recordd.hub.topic import Burst, Touched
from recordd_protocol.dialect import EventEncoder
from recordd_protocol.methods import Subscribed
from recordd_protocol.rows import Page, Row

__all__ = ["Subscription"]


class Subscription:
    """A `Member` of a group of one topic while it is live, sending to one outbox."""

    __slots__ = (
        "_encoder",
        "_group",
        "_hub",
        "_joined_at",
        "_on_behind",
        "_outbox",
        "_phase",
        "_stream",
        "_unreported",
        "is_resync",
        "topic",
    )

    def __init__(
        self,
        hub: FollowedHub,
        outbox: Outbox,
        encoder: EventEncoder,
        opening: Opening,
        *,
        on_behind: Callable[[Subscription], None],
    ) -> None:
        """Take up the position; nothing is put before the first `feed_nowait`.

        `on_behind` is called when it is not live any more: somebody has to feed it.
        """
        self._encoder: Final = encoder
        """As it was when a group was joined, as long as that counts for it."""
        self.topic: Final = hub.topics.follow(opening.pattern, late=opening.late)
        self._unreported = 0
        """What `LivePhase` was begun with, until it is told."""
        self._group: LiveGroup | None = None
        self._joined_at = 0
        """What the topic had published then."""
        self.is_resync = False
        self._hub: Final = hub
        self._outbox: Final = outbox
        self._on_behind: Final = on_behind
        self._stream: Final = Stream(
            hub.catalogue, self.topic, outbox, encoder, every=opening.every
        )
        self._phase: Phase = self._choose_start(opening)

    @property
    def is_opening(self) -> bool:
        """Whether current values are still to be put."""
        return isinstance(self._phase, OpeningPhase)

    @property
    def is_reading(self) -> bool:
        """Whether storage has to be asked for what follows `page_cursor`: see `take_page`."""
        return isinstance(self._phase, ReadingPhase)

    @property
    def is_looking(self) -> bool:
        """Whether it is to look for what has changed: see `Catalogue.prepare_snapshot`."""
        return self._phase.is_looking

    @property
    def is_long(self) -> bool:
        """Whether much may be put with one feed; a hundred others may be fed in the same pass."""
        return self._phase.is_long(self._hub.catalogue.tick)

    @property
    def is_behind(self) -> bool:
        """Whether it has to be fed: it is neither live nor closed."""
        return not isinstance(self._phase, LivePhase | ClosedPhase)

    @property
    def has_gap(self) -> bool:
        """Whether storage may lack what it is to read: it is to start afresh."""
        phase = self._phase
        return isinstance(phase, ReadingPhase) and phase.has_gap(self._stream, self._hub)

    @property
    def page_cursor(self) -> int | str | None:
        """Where to go on reading storage: a rev, or the `next` of a page; None while not."""
        phase = self._phase
        return phase.position.page_cursor if isinstance(phase, ReadingPhase) else None

    @property
    def page_rows(self) -> int:
        """How many rows to ask storage for."""
        return self._stream.page_rows

    def describe(self, subscription_id: str) -> Subscribed:
        """Return the answer to the call that opened it, as of the same moment."""
        phase = self._phase
        answer = Subscribed(
            subscription=subscription_id,
            rev=self._hub.catalogue.rev,
            epoch=self._hub.catalogue.epoch,
            values=phase.values if isinstance(phase, OpeningPhase) else 0,
        )
        if self.is_resync:
            whole_from = oldest_rev(self._stream, self._hub)
            return msgspec.structs.replace(answer, resync=True, oldest_rev=whole_from)
        return answer

    def has_room(self, updates: int) -> bool:
        """Leave the live stream where so many find none; see `Member.has_room`."""
        if updates <= self._outbox.room.updates:
            return True
        self._fall_behind(updates)
        return False

    def push(self, burst: Burst, touched: Touched, sent: int = 0) -> bool:
        """Take the events of a commit; see `Member.push`."""
        outbox = self._outbox
        if sent:
            outbox.take_cut(burst, sent)
        elif outbox not in touched and outbox.can_pass_on(burst):
            touched[outbox] = burst
        elif not self._put(burst, touched):
            self._fall_behind(burst.updates)
            return False
        return True

    def publish(self, rows: Sequence[Row], touched: Touched) -> None:
        """Take the rows of a commit as a live one that has yet to be told what it did not get."""
        updates, unreported = len(rows), self._unreported
        if not self.has_room(updates):
            return  # before they are encoded for nothing
        burst = Burst(self._encoder.encode(rows, unreported), updates)
        if self.push(burst, touched):
            self._stream.note_told(rows[0].name, unreported)
            self._encoder.advance(updates)
            self._unreported = 0
            del self.topic.untold[self]
            self._join_group()

    def feed_nowait(self) -> bool:
        """Send what memory holds and the outbox has room for; return whether it came further.

        Afterwards it is live, or `is_reading`, or waits for room. Where the peer is gone there
        would be room for everything.
        """
        has_come_further = False
        while self._phase.is_fed and not self._outbox.is_closed:
            phase = self._phase.feed(self._stream, self._hub)
            if phase is None:
                break
            has_come_further = True
            self._enter(phase)
        self._outbox.flush_nowait()
        return has_come_further

    def take_page(self, page: Page) -> None:
        """Send rows that storage has behind `page_cursor`, and go on from there."""
        phase = self._phase
        if not isinstance(phase, ReadingPhase):
            return  # closed meanwhile
        self._enter(phase.take(page, self._stream, self._hub))
        if self.is_opening:
            self._send_values()
        else:
            self._outbox.flush_nowait()

    def start_afresh(self) -> None:
        """Tell that updates are lost, and begin with the current values."""
        if not isinstance(self._phase, ClosedPhase):
            self._enter(resync(self._stream, self._hub))
            self._send_values()

    def close(self) -> None:
        """End it: it holds nothing any more, and is told nothing."""
        if not isinstance(self._phase, ClosedPhase):
            if isinstance(self._phase, LivePhase):
                self._leave_live()
            self._phase = ClosedPhase()
            self._hub.topics.leave(self.topic)

    def _put(self, burst: Burst, touched: Touched) -> bool:
        """Put a burst behind what the outbox has already; return whether there was room."""
        outbox = self._outbox
        if (first := touched.get(outbox)) is not None:  # two cannot both be all there is
            outbox.put_updates(first.messages, first.updates, first.size)
            touched[outbox] = None
        if not outbox.try_put_updates(burst.messages, burst.updates, burst.size):
            return False
        touched[outbox] = None
        return True

    def _send_values(self) -> None:
        # At once: the values that were announced may all have changed a moment later.
        self.feed_nowait()

    def _choose_start(self, opening: Opening) -> Phase:
        """Return the phase to begin in; a value to open with is one of this moment."""
        catalogue, stream, after_rev = self._hub.catalogue, self._stream, opening.after_rev
        tick, rev = catalogue.tick, catalogue.rev
        if after_rev is None:
            changes = catalogue.snapshot(self.topic) if opening.snapshot else ()
            return _open(Captured(changes, tick), ByTick(tick, rev))
        is_foreign = opening.epoch not in (None, catalogue.epoch) or after_rev > rev
        if is_foreign or self._hub.gaps.newest_gap(opening.pattern, after_rev):
            self.is_resync = True
            catalogue.note_resync()
            return _open(Captured(catalogue.snapshot(self.topic), tick), ByTick(tick, rev))
        stream.promise_all()
        # They have no history: what is current opens the stream, and is followed from here.
        transients = self._hub.changes.transients_after(-1, self.topic) or ()
        return _open(Captured(transients, tick), ByRev(after_rev, after_rev))

    def _enter(self, phase: Phase) -> None:
        """Go on in a phase, which may be the same."""
        known = self._phase
        if phase is known:
            return
        assert type(phase) is type(known) or type(phase) in TRANSITIONS[type(known)], "see phases"
        self._phase = phase
        if isinstance(phase, LivePhase):
            self._outbox.count_live(1)
            self.topic.live += 1
            self._unreported = phase.untold
            if phase.untold:
                self.topic.untold[self] = None
            else:
                self._join_group()

    def _join_group(self) -> None:
        self._joined_at = self.topic.published
        self._group = join_group(self.topic, self, self._outbox, self._encoder)

    def _leave_live(self) -> None:
        self._outbox.count_live(-1)
        self.topic.live -= 1
        if self._group is not None:
            self._group.drop(self)
            self._group = None
        else:
            del self.topic.untold[self]

    def _fall_behind(self, updates: int) -> None:
        """Leave the live stream, just before a commit with so many updates."""
        topic, stream = self.topic, self._stream
        published = topic.published - updates
        if self._group is not None:
            self._encoder.advance(published - self._joined_at)
        self._leave_live()
        tick, rev = self._hub.changes.before_commit
        base = Standing(tick, rev, published, topic.transients_before)
        stream.begin_account(base, missed=self._unreported)
        self._unreported = 0
        position = ByTick(tick, rev)
        # One large commit makes no slow reader: who had taken all before gets all of it.
        is_slow = self._outbox.is_behind and not stream.every
        self._enter(ConflatingPhase(position) if is_slow else ReplayingPhase(position))
        self._on_behind(self)


def _open(captured: Captured, then: ByTick | ByRev) -> OpeningPhase | ReplayingPhase:
    return OpeningPhase(captured, then) if captured else ReplayingPhase(then)
