"""Following records: the position of a subscription, and its resumption when it is cut off.

Pure, so both clients share it: they carry requests and events, this decides their meaning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from recordd_client.errors import InvalidValue
from recordd_client.reconnecting import Reconnecting
from recordd_client.requests import Incoming, Request
from recordd_client.rows import decode_row
from recordd_protocol.methods import Event, Record, Subscribe, Subscribed

__all__ = ["KEEPALIVE_S", "Delivery", "Follower", "OnResync", "Resync", "Update"]

T = TypeVar("T")

Delivery = Literal["latest", "every"]

logger: Final = logging.getLogger("recordd_client")

KEEPALIVE_S: Final = 30.0
"""After so long a silence, ask the daemon whether it is there: a lost peer sends nothing."""


class Update(msgspec.Struct, Generic[T], frozen=True):
    """One commit of a record that is followed.

    `value` is None where the record was `deleted`. `ts` in Unix ms; `rev` the commit number
    (None: the record is transient). `snapshot`: a current value that opens the stream,
    `last`: the final such value. `late`: older than the record's latest. `skipped`
    updates were left out just before, because they were not read in time.
    """

    name: str
    value: T | None
    ts: int
    rev: int | None
    snapshot: bool = False
    last: bool = False
    late: bool = False
    deleted: bool = False
    skipped: int = 0


class Resync(msgspec.Struct, frozen=True):
    """Updates are lost for good; the current values as of `rev` come next.

    Records that are not among them are gone: forget their values.
    History is whole from `oldest_rev` on.
    """

    rev: int
    epoch: str
    oldest_rev: int


OnResync = Callable[[Resync], object]


class Follower(Generic[T]):
    """One subscription over as many connections as it takes.

    `rev` within `epoch` is where it stands: everything up to there was told. `failure` is why
    it has ended for good, where it has: the clients look after each step.
    """

    def __init__(self, params: Subscribe, as_type: Any, on_resync: OnResync | None) -> None:
        self.rev = params.after
        self.epoch = params.epoch
        self.unfit = 0
        """Updates left out because their value did not fit the type that was asked for."""
        self._params: Final = params
        self._as_type: Final = as_type
        self._on_resync: Final = on_resync or _log_resync
        self._reconnecting: Final = Reconnecting()
        self._was_open = False
        # Of an opening burst that is not over: where it stands, and whether some was told.
        self._burst_rev = 0
        self._is_burst_told = False
        # Of updates left out as unfit: the next one says it.
        self._carried_skipped = 0
        self._carried_last = False

    def subscribe(self) -> Request[Subscribed]:
        """Return the call that opens the subscription, or resumes it."""
        params = msgspec.structs.replace(
            self._params,
            after=self.rev,
            epoch=None if self.rev is None else self.epoch,
            snapshot=self._was_open or self._params.snapshot,
        )
        return Request("record.subscribe", params)

    @property
    def failure(self) -> Exception | None:
        """Return why the subscription has ended for good, where it has."""
        return self._reconnecting.failure

    def note_lost(self, failure: Exception, now_s: float) -> float | None:
        """Note that a connection, or an attempt, has ended; return the seconds to wait.

        None: there is no other attempt, `failure` says why.
        """
        return self._reconnecting.note_lost(failure, now_s)

    def note_subscribed(self, answer: Subscribed, now_s: float) -> None:
        """Take the answer."""
        self._reconnecting.note_subscribed(now_s)
        # A burst that was cut off cannot be resumed: its first values may be out of date.
        is_resync = answer.resync or self._is_burst_told
        oldest = 0 if answer.oldest_rev is msgspec.UNSET else answer.oldest_rev
        self._was_open = True
        self.epoch = answer.epoch
        if is_resync or self.rev is None:
            self._expect_values(answer.rev, answer.values)
        if is_resync:
            self._tell_resync(Resync(answer.rev, answer.epoch, oldest))

    def read(self, found: Iterable[Incoming]) -> Iterator[Update[T]]:
        """Yield the updates among the messages from the daemon."""
        for incoming in found:
            if self.failure is not None:
                return
            if (event := incoming.params) is not None and (update := self._take(event)) is not None:
                yield update

    def _take(self, event: Event) -> Update[T] | None:
        if event.resync:
            self.epoch = event.epoch
            self._expect_values(event.rev or 0, event.values)
            self._tell_resync(Resync(event.rev or 0, event.epoch, event.oldest_rev))
            return None
        if self.rev is None:
            self._is_burst_told = not event.last
            self.rev = self._burst_rev if event.last else None
        elif event.rev is not None:
            self.rev = event.rev
        return self._decode(event)

    def _tell_resync(self, resync: Resync) -> None:
        """Request the program; where it raises, the subscription has ended for good."""
        try:
            self._on_resync(resync)
        except Exception as error:
            self._reconnecting.give_up(error)

    def _expect_values(self, rev: int, values: int) -> None:
        """Stand at `rev` once so many values have come."""
        self._burst_rev = rev
        self.rev = None if values else rev
        self._is_burst_told = False

    def _decode(self, event: Event) -> Update[T] | None:
        """Return the update; leave out one that does not fit, and add its flags to the next."""
        skipped = event.skipped + self._carried_skipped
        is_last = event.last or self._carried_last
        value = None
        if not event.deleted:
            try:
                record = Record(event.name, event.value, event.ts, event.rev)
                value = decode_row(record, self._as_type).value
            except InvalidValue:
                self.unfit += 1
                self._carried_skipped, self._carried_last = skipped, is_last
                return None
        self._carried_skipped, self._carried_last = 0, False
        return Update(
            event.name,
            value,
            event.ts,
            event.rev,
            snapshot=event.snapshot,
            last=is_last,
            late=event.late,
            deleted=event.deleted,
            skipped=skipped,
        )


def _log_resync(resync: Resync) -> None:
    logger.warning("updates are lost; current values as of rev %d follow", resync.rev)
