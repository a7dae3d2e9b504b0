"""Accounting of losses: how many updates a subscription did not get and was not told of.

Theory of operation. What is left out is known without having been looked at. The topic
counts what was published; the account counts, from its base on, what of that its
subscription got or was told of. The difference was left out. So to conflate a million updates
costs as much as to conflate ten. To count what is passed over, one by one, was rejected: it
would be a look at every row that a slow reader does not get.

Transient updates are counted a second time by themselves. Their loss is known as soon as the
backlog has let them go, while the stored rows of the same time are yet to be read: both counts
have to be told apart for as long as a position is a rev.

An account lasts from one base to the next. A base is a moment at which nothing was owed: the
opening, a resync, or the commit that found no room. All of it is arithmetic; nothing here
reads a row's value, a clock or an outbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from recordd_protocol.rows import Row

__all__ = ["Account", "Standing"]


class Standing(msgspec.Struct, frozen=True):
    """One moment: the hub's tick and rev, and how many updates a topic had had.

    `transients` are those of the `published` ones that are transient.
    """

    tick: int
    rev: int
    published: int
    transients: int


class Account:
    """What of a topic's updates since a base is settled: put, told as left out, or not owed.

    `missed` updates were left out and are to be told with the next one that is put.
    """

    __slots__ = (
        "_base",
        "_exact_until",
        "_settled",
        "_transients_settled",
        "missed",
        "transients_until",
    )

    def __init__(self, base: Standing, *, missed: int = 0, exact_until: int = 0) -> None:
        """Begin at `base`; `missed` was left out before it.

        Up to the rev `exact_until` no update may be left out, whatever the delivery: who
        resumes was promised to go on without a gap.
        """
        self._base: Final = base
        self._exact_until: Final = exact_until
        self._settled = base.published
        self._transients_settled = base.transients
        self.missed = missed
        self.transients_until = base.tick
        """The tick up to which all transient updates are settled."""

    @property
    def base_tick(self) -> int:
        """The tick from which on updates are counted."""
        return self._base.tick

    def owes_all_after(self, rev: int) -> bool:
        """Tell whether every update after `rev` has to come."""
        return rev < self._exact_until

    def settle_stored(self, rows: Sequence[Row]) -> None:
        """Count rows that were put from storage, which has no transient ones."""
        base_rev = self._base.rev
        # Older ones are history: they were published before the base and are not in its count.
        self._settled += sum([row.rev is not None and row.rev > base_rev for row in rows])

    def settle_replayed(self, updates: int, transients: int) -> None:
        """Count updates since the base that were put from the backlog, and transient ones.

        The transient ones may be older than the base: of a position by rev they are counted
        from where the backlog was left.
        """
        self._settled += updates
        self._transients_settled += transients

    def owes_transients(self, transients: int) -> bool:
        """Tell whether a topic with so many transient updates has some that are not settled."""
        return transients != self._transients_settled

    def pass_transients(self, tick: int) -> None:
        """Note that no transient update up to `tick` is owed."""
        self.transients_until = max(self.transients_until, tick)

    def settle_transients(self, now: Standing, put: int) -> None:
        """Settle all transient updates up to now, of which `put` come; the others are missed."""
        owed = now.transients - self._transients_settled
        self.missed += owed - put
        self._settled += owed
        self._transients_settled = now.transients
        self.transients_until = now.tick

    def settle_conflated(self, published: int, put: int) -> None:
        """Settle all updates of a topic with so many, of which `put` come; the others are missed.

        Where one that was to come turns out to have changed again, it is missed as well: see
        `miss_one`. The change is an update of its own and counted as that.
        """
        self.missed += published - self._settled - put
        self._settled = published

    def miss_one(self) -> None:
        """Count an update that was to come and is out of date."""
        self.missed += 1

    def left_out(self, published: int) -> int:
        """Return how many updates of a topic with so many were left out and are untold."""
        return self.missed + published - self._settled

    def take_missed(self) -> int:
        """Return how many updates to tell as left out, which are told then."""
        missed, self.missed = self.missed, 0
        return missed
