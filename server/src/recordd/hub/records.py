"""One record as the hub knows it."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Final

from msgspec import UNSET

from recordd.config.rules import Rule
from recordd.extending.paging import count_fitting
from recordd.hub.topic import Topic
from recordd_protocol.methods import RecordInfo
from recordd_protocol.names import entity_of
from recordd_protocol.rows import Row

__all__ = ["BEFORE_ALL", "BODY_BYTES", "ROW_BYTES", "RecordState", "Unborn", "memory_of"]

ROW_BYTES: Final = 512
"""What a row takes in memory beside its value and its body, about."""

BODY_BYTES: Final = 48
"""What a row's body has beside its name and its value, about. Not looked up: it may not be there
yet, and may be rendered at any time."""


BEFORE_ALL: Final = -1
"""The `ts` of a record that has no row yet: each that comes is as late or later."""


def memory_of(row: Row) -> int:
    """Return the bytes that a row takes in memory, about."""
    return ROW_BYTES + BODY_BYTES + 2 * len(row.value) + len(row.name)


class Unborn:
    """A record that a commit will make; `state` is the record when the commit has made it."""

    __slots__ = ("name", "record_id", "rule", "state", "topics", "topics_version", "ts")

    def __init__(self, record_id: int, name: str, rule: Rule) -> None:
        self.record_id: Final = record_id
        self.name: Final = name
        self.rule: Final = rule
        self.state: RecordState | None = None
        self.ts: Final = BEFORE_ALL
        self.topics: tuple[Topic, ...] = ()
        self.topics_version = -1


class RecordState:
    """One record: its rule, its latest row, its recent values, and who follows it.

    There may be a hundred thousand of them, so a record has nothing of its own before it
    needs that: rows beside the latest are kept by rings alone, from their second row on.
    A `deque` of one row is 624 bytes, more than all else that a record takes. The latest row
    is `value`, `ts` and `rev`, and an object when somebody asks for it: see `latest`.
    """

    __slots__ = (
        "_ring",
        "buffered",
        "changed",
        "consumed",
        "dropped",
        "holds_one",
        "is_deleted",
        "name",
        "produced",
        "purged_rev",
        "record_id",
        "rev",
        "row",
        "rows",
        "rule",
        "topics",
        "topics_version",
        "ts",
        "value",
    )

    def __init__(self, record_id: int, name: str, rule: Rule) -> None:
        """Make a record that has no row yet; nobody sees it before `show` is called."""
        self.record_id: Final = record_id
        self.name: Final = name
        self.rule: Final = rule
        self.value = b""
        self.ts = BEFORE_ALL
        self.rev: int | None = None
        self.row: Row | None = None
        """The latest row as an object, where there is one already."""
        self.rows = 0
        self.produced = 0
        self.consumed = 0
        """Values that subscribers and drains got, each counted for each of them."""
        self.dropped = 0
        """Values that one of them did not get, being too slow; counted likewise."""
        self.buffered = 0
        """Rows that ever came into the buffer, a drain's position; 0 while it is empty."""
        self.holds_one = False
        """Whether the buffer is the latest row, whose place the next one takes."""
        self._ring: collections.deque[Row] | None = None
        """The buffer; without it, it is the latest row alone."""
        self.changed = 0
        """The hub's tick when the latest row became the latest."""
        self.is_deleted = False
        self.purged_rev = 0
        """The newest rev among the rows that retention has taken."""
        self.topics: tuple[Topic, ...] = ()
        """The live wildcard topics that match, as of their `topics_version`."""
        self.topics_version = -1

    @property
    def latest(self) -> Row:
        """The latest row as an object; where a call matters, ask for `row` first."""
        return self.row or self.make_row()

    def make_row(self) -> Row:
        """Make the latest row an object, which all share."""
        row = self.row = Row(self.name, self.value, self.ts, self.rev)
        return row

    @property
    def is_ring(self) -> bool:
        """Whether it keeps every value that comes, up to a number."""
        return self.rule.buffer == "spmc_ring"

    @property
    def buffer(self) -> Sequence[Row]:
        """The buffered rows, oldest first."""
        if self._ring is not None:
            return self._ring
        return (self.latest,) if self.buffered else ()

    @property
    def occupancy(self) -> int:
        """How many rows are buffered."""
        return min(self.buffered, 1) if self._ring is None else len(self._ring)

    @property
    def memory(self) -> int:
        """Bytes that the buffered rows take; counted anew each time."""
        return sum(map(memory_of, self.buffer))

    def reset_counts(self) -> None:
        """Count from zero what `record.list` tells of its values."""
        self.produced = self.consumed = self.dropped = 0

    def forget_buffered(self) -> None:
        """Empty the buffer."""
        self.buffered = 0
        self.holds_one = False
        self._ring = collections.deque(maxlen=self.rule.capacity) if self.is_ring else None

    def show(self, row: Row) -> None:
        """Have a row be the latest one."""
        self.value, self.ts, self.rev, self.row = row.value, row.ts, row.rev, row

    def keep(self, row: Row) -> int:
        """Put a row into the buffer where it does not just take the place of the latest.

        So it is with each row of a ring, late ones too, and with the first of any record. The row
        is not shown as the latest yet.

        Returns:
            By how many bytes the buffered rows have grown.
        """
        is_ring = self.is_ring
        if is_ring and (self._ring is not None or self.buffered):
            return self._keep_in_ring(row)
        self.holds_one = not is_ring
        self.buffered += 1
        return memory_of(row)

    def _keep_in_ring(self, row: Row) -> int:
        ring = self._ring
        if ring is None:
            ring = self._ring = collections.deque(self.buffer, maxlen=self.rule.capacity)
        dropped = memory_of(ring[0]) if len(ring) == ring.maxlen else 0
        ring.append(row)
        self.buffered += 1
        return memory_of(row) - dropped

    def drain(self, seen: int, limit: int | None, max_bytes: int) -> tuple[list[Row], int]:
        """Return the buffered rows after the first `seen`, oldest first, and the new `seen`.

        At most `limit` rows, and `max_bytes` but for a single one: the rest is left.
        """
        buffer = self.buffer
        unseen = min(self.buffered - seen, len(buffer))
        if seen and self.is_ring:  # the first one has missed nothing
            self.dropped += self.buffered - seen - unseen
        seen = self.buffered - unseen
        rows = list(buffer)[len(buffer) - unseen :][:limit]
        sizes = [len(row.value) for row in rows]
        rows = rows[: count_fitting(sizes, max_bytes, beside_bytes=1, one_fits=True)]
        return rows, seen + len(rows)

    def as_info(self, ts: int, rev: int | None, consumers: int) -> RecordInfo:
        """Return the metadata row of `record.list`; `consumers` are the subscriptions to it.

        `ts` and `rev` are those of the latest row of the moment that is shown.
        """
        rule = self.rule
        return RecordInfo(
            record_id=self.record_id,
            record_key=self.name,
            name=self.name,
            type_id="application/json",
            origin="passive",
            buffer_type=rule.buffer,
            producer_count=0,
            consumer_count=consumers,
            writable=rule.writable,
            outbound_connector_count=0,
            produced_count=self.produced,
            consumed_count=self.consumed,
            dropped_count=self.dropped,
            occupancy=(self.occupancy, rule.capacity),
            entity=entity_of(self.name),
            ts=ts,
            rev=rev,
            buffer_capacity=rule.capacity if self.is_ring else UNSET,
            schema_type=rule.schema_type or UNSET,
        )
