"""One topic's stream into one outbox: what all phases of a subscription share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recordd.connections.outbox import Outbox, Room
from recordd.extending import paging
from recordd.following.accounting import Account, Standing
from recordd.hub.catalogue import Catalogue
from recordd.hub.topic import Topic
from recordd_protocol.dialect import EventEncoder
from recordd_protocol.rows import Row

__all__ = ["MAX_PAGE_ROWS", "MIN_PAGE_ROWS", "Filling", "Stream"]

MIN_PAGE_ROWS: Final = 16
"""The least to ask storage for, however little room there was: each page is a query."""
MAX_PAGE_ROWS: Final = 1024
"""The most: a page is held in memory for each connection that reads."""

_EVENT_BYTES: Final = 128
"""What an event has beside its row, about: it decides how many are put at once."""


class Filling(paging.Filling):
    """Rows gathered for one step, no more than the outbox had room for at its begin.

    The room is asked for once: to ask before each row would cost as much as to put it.
    """

    __slots__ = ()

    def __init__(self, room: Room, *, is_empty: bool) -> None:
        """Begin with no row; an outbox that is empty takes one of any size."""
        limits = paging.PageLimits(room.updates, room.bytes)
        super().__init__(limits, beside_bytes=_EVENT_BYTES, one_fits=is_empty)


class Stream:
    """Puts events in order, with how many were left out before them."""

    __slots__ = (
        "_encoder",
        "_outbox",
        "account",
        "catalogue",
        "every",
        "page_rows",
        "topic",
    )

    def __init__(
        self,
        catalogue: Catalogue,
        topic: Topic,
        outbox: Outbox,
        encoder: EventEncoder,
        *,
        every: bool,
    ) -> None:
        """Begin at the present moment, with nothing owed."""
        self.catalogue: Final = catalogue
        self.topic: Final = topic
        self.every: Final = every
        """Whether no update may be left out that the hub or storage still has."""
        self._outbox: Final = outbox
        self._encoder: Final = encoder
        self.account = Account(self.standing())
        self.page_rows = MAX_PAGE_ROWS
        """How many rows to ask storage for: with little room, most would be read for nothing."""

    def begin_account(self, base: Standing | None = None, *, missed: int = 0) -> None:
        """Account for updates from `base` on, None for now; `missed` were left out before."""
        self.account = Account(base or self.standing(), missed=missed)

    def promise_all(self) -> None:
        """Owe every update up to now: the client resumes, and all of them are there."""
        self.account = Account(self.standing(), exact_until=self.catalogue.rev)

    def standing(self) -> Standing:
        """Return where the topic stands now."""
        topic = self.topic
        return Standing(self.catalogue.tick, self.catalogue.rev, topic.published, topic.transients)

    def begin_filling(self) -> Filling:
        """Gather rows for the room that there is now."""
        return Filling(self._outbox.room, is_empty=self._outbox.is_empty)

    def put(self, rows: Sequence[Row]) -> None:
        """Put updates, the first with how many were left out before it."""
        if not rows:
            return
        missed = self.account.take_missed()
        self._put(self._encoder.encode(rows, missed), len(rows))
        if missed:
            self.note_told(rows[0].name, missed)
        self._encoder.advance(len(rows))
        self.catalogue.note_consumed(rows)

    def put_values(self, rows: Sequence[Row], *, is_last: bool) -> None:
        """Put current values; `is_last` where nothing more of the opening burst comes."""
        self._put(self._encoder.encode_snapshot(rows, is_last=is_last), len(rows))
        self._encoder.advance(len(rows))
        self.catalogue.note_consumed(rows)

    def put_resync(self, *, oldest_rev: int, values: int) -> None:
        """Tell that updates are lost, and that so many current values come next.

        From `oldest_rev` on the history is whole.

        It is put whether there is room or not: it is short, and who has no room needs it most.
        """
        catalogue = self.catalogue
        messages = self._encoder.encode_resync(
            rev=catalogue.rev, epoch=catalogue.epoch, oldest_rev=oldest_rev, values=values
        )
        self._put(messages, len(messages))
        self._encoder.advance(1)
        self.catalogue.note_resync()

    def note_told(self, name: str, skipped: int) -> None:
        """Count updates that the client was told it did not get, with one of this record."""
        self._encoder.advance(skipped)
        self.catalogue.note_dropped(name, skipped)

    def _put(self, messages: list[bytes], updates: int) -> None:
        self._outbox.put_updates(messages, updates, sum(map(len, messages)))
