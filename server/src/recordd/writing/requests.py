"""Write requests: what methods ask of the writer, and where the outcome of it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Final, NamedTuple

from recordd.hub.records import ROW_BYTES, RecordState
from recordd_protocol.dialect import Result
from recordd_protocol.errors import RequestError
from recordd_protocol.methods import Written
from recordd_protocol.rows import Row, RowKind

__all__ = [
    "Condition",
    "DeleteRecord",
    "Flush",
    "NewRow",
    "Outcome",
    "QueuedRequest",
    "TrimRecord",
    "WriteBurst",
    "WriteRequest",
    "WriteRows",
    "settle_all",
    "to_written",
]

NewRow = tuple[str, bytes, int | None, RecordState | None]
"""Name, value, `ts` in ms or None for the time of the commit, and the record as it was found.

A tuple, since there are many. The record may be deleted before the row is planned, and one
that was not there (None) may be made: see `Plan`.
"""


class Condition(NamedTuple):
    """Only if the latest row of the record has this rev, 0 for no record.

    `where` names the parameter in a refusal; `record` is the record as it was found.
    """

    name: str
    if_rev: int
    where: str = ""
    record: RecordState | None = None


Outcome = Callable[[Result | RequestError], None]
"""Takes what a request came to: its result, or the RequestError that refused it."""

Flush = Callable[[], None]
"""Sends the outcomes that were delivered."""


class QueuedRequest:
    """What waits in the queue; settled exactly once."""

    __slots__ = ("deliver", "flush", "is_settled")

    requests: ClassVar[int] = 1
    """Of how many calls it is."""

    def __init__(self) -> None:
        self.deliver: Outcome = _discard
        """Takes the outcome; who waits for it may not have it before `flush`."""
        self.flush: Flush = _do_nothing
        """Sends on all that was delivered: equal functions need one call for many requests."""
        self.is_settled = False

    def settle(self, outcome: Result | RequestError) -> None:
        """Hand the outcome to who waits for it."""
        assert not self.is_settled, "a request has one outcome"
        self.is_settled = True
        self.deliver(outcome)
        self.flush()


class WriteRows(QueuedRequest):
    """Rows to be committed together, or not at all.

    All `conditions` have to hold before the first row. `to_result` makes the method's result
    from the rows.
    """

    __slots__ = ("conditions", "items", "size_bytes", "to_result")

    def __init__(
        self,
        items: list[NewRow],
        to_result: Callable[[Sequence[Row]], Result],
        *,
        conditions: Sequence[Condition] = (),
    ) -> None:
        self.deliver = _discard  # as `super` does, without a call for each write
        self.flush = _do_nothing
        self.is_settled = False
        self.items: Final = items
        self.to_result: Final = to_result
        self.conditions: Final = conditions
        size_bytes = ROW_BYTES * len(items)
        for _, value, _, _ in items:
            size_bytes += len(value)
        self.size_bytes: Final = size_bytes

    def split(self) -> Sequence[WriteRows]:
        """Return the writes that succeed or fail by themselves."""
        return (self,)


class WriteBurst(WriteRows):
    """Plain writes of one connection that came together, in their order.

    It stands for them from the queue to the answers while nothing can refuse one of them: so
    they cost one request and not many. The outcome of all is a list of their rows, or what
    refused all. Where one may be refused alone, the writer takes what `split` returns.
    """

    __slots__ = ("_make_members", "_members", "requests")

    def __init__(
        self, items: list[NewRow], make_members: Callable[[], Sequence[WriteRows]]
    ) -> None:
        """Take the row of each; `make_members` makes writes of them, to be settled one by one."""
        super().__init__(items, _to_rows)
        self.requests: Final = len(items)  # type: ignore[misc]  # of the class: one
        self._make_members: Final = make_members
        self._members: Sequence[WriteRows] = ()

    def split(self) -> Sequence[WriteRows]:
        """Return its writes, each with an outcome of its own from now on."""
        self._members = self._members or self._make_members()
        return self._members

    def settle(self, outcome: Result | RequestError) -> None:
        """Settle what is not settled yet."""
        if not self._members:
            super().settle(outcome)
        for member in self._members:
            if not member.is_settled:
                member.settle(outcome)
        self.is_settled = True  # each of its own, where they have one


class DeleteRecord(QueuedRequest):
    """A record to be deleted with its history."""

    __slots__ = ("name", "size_bytes", "to_result")

    def __init__(self, name: str, to_result: Callable[[int], Result]) -> None:
        super().__init__()
        self.name: Final = name
        self.to_result: Final = to_result
        self.size_bytes: Final = ROW_BYTES


class TrimRecord(QueuedRequest):
    """Rows of a record newer than a time, to be deleted: a slice of them."""

    __slots__ = ("name", "newer_than_ms", "size_bytes")

    def __init__(self, name: str, newer_than_ms: int) -> None:
        super().__init__()
        self.name: Final = name
        self.newer_than_ms: Final = newer_than_ms
        self.size_bytes: Final = ROW_BYTES


WriteRequest = WriteRows | DeleteRecord | TrimRecord


def to_written(rows: Sequence[Row]) -> Written:
    """Return the result of a write of one row."""
    row = rows[0]
    return Written(rev=row.rev, ts=row.ts, late=row.kind is RowKind.LATE)


def _to_rows(rows: Sequence[Row]) -> Sequence[Row]:
    return rows


def _discard(outcome: Result | RequestError) -> None:
    """Stand in until a session says where the outcome goes."""


def _do_nothing() -> None:
    """Stand in where an outcome is there once it is delivered."""


def settle_all(settled: Iterable[tuple[QueuedRequest, Result]]) -> None:
    """Settle requests in their order; those of one connection have their answers sent at once."""
    flushes: dict[Flush, None] = {}
    latest = None
    for request, outcome in settled:  # as `settle` does with each, but for the `flush`
        assert not request.is_settled, "a request has one outcome"
        request.is_settled = True
        request.deliver(outcome)
        if request.flush is not latest:  # a hash for each would take as long as the rest
            latest = request.flush
            flushes[latest] = None
    for flush in flushes:
        flush()
