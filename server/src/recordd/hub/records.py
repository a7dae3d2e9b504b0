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
from recordd_protocol.rows import Row, RowKind

__all__ = ["BODY_BYTES", "ROW_BYTES", "RecordState", "Unborn", "memory_of"]

ROW_BYTES: Final = 512
"""What a row takes in memory beside its value and its body, about."""

BODY_BYTES: Final = 48
"""What a row's body has beside its name and its value, about. Not looked up: it may not be there
yet, and may be rendered at any time."""


def memory_of(row: Row) -> int:
    """Return the bytes that a row takes in memory, about."""
    return ROW_BYTES + BODY_BYTES + 2 * len(row.value) + len(row.name)


class Unborn:
    """A record that a commit will make; `state` is the record when the commit has made it."""

    __slots__ = ("latest", "name", "record_id", "rule", "state", "topics", "topics_version")

    def __init__(self, record_id: int, name: str, rule: Rule) -> None:
        self.record_id: Final = record_id
        self.name: Final = name
        self.rule: Final = rule
        self.state: RecordState | None = None
        self.latest: None = None
        self.topics: tuple[Topic, ...] = ()
        self.topics_version = -1


class RecordState:
    """One record: its rule, its latest row, its recent values, and who follows it.

    There may be a hundred thousand of them, so a record has nothing of its own before it
    needs that: rows beside the latest are kept by rings alone, from their second row on.
    A `deque` of one row is 624 bytes, more than all else that a record takes.
    """

    __slots__ = (
        "_ring",
        "buffered",
        "changed",
        "consumed",
        "dropped",
        "holds_one",
        "is_deleted",
        "latest",
        "name",
        "produced",
        "purged_rev",
        "record_id",
        "rows",
        "rule",
        "topics",
        "topics_version",
    )

    def __init__(self, record_id: int, name: str, rule: Rule, latest: Row, rows: int) -> None:
        self.record_id: Final = record_id
        self.name: Final = name
        self.rule: Final = rule
        self.latest = latest
        self.rows = rows
        self.produced = 1
        self.consumed = 0
        """Values that subscribers and drains got, each counted for each of them."""
        self.dropped = 0
        """Values that one of them did not get, being too slow; counted likewise."""
        self.buffered = 1
        """Rows that ever came into the buffer, a drain's position; 0 while it is empty."""
        self.holds_one = rule.buffer != "spmc_ring"
        """Whether the buffer is the latest row, whose place the next one takes."""
        self._ring: collections.deque[Row] | None = None
        """The buffer; without it, it is the latest row alone."""
        self.changed = 0
        """The hub's tick when `latest` became the latest."""
        self.is_deleted = False
        self.purged_rev = 0
        """The newest rev among the rows that retention has taken."""
        self.topics: tuple[Topic, ...] = ()
        """The live wildcard topics that match, as of their `topics_version`."""
        self.topics_version = -1

    @property
    def buffer(self) -> Sequence[Row]:
        """The buffered rows, oldest first."""
        if self._ring is not None:
            return self._ring
        return (self.latest,) if self.buffered else ()

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
        is_ring = self.rule.buffer == "spmc_ring"
        self._ring = collections.deque(maxlen=self.rule.capacity) if is_ring else None

    def take(self, row: Row) -> int:
        """Count a committed row; keep it as the latest unless it came late.

        Returns:
            By how many bytes the buffered rows have grown.
        """
        self.produced += 1
        if row.rev is not None:
            self.rows += 1
        if self.rule.buffer == "spmc_ring":
            return self._take_in_ring(row)
        if row.kind is not RowKind.LATEST:
            return 0  # a late row is history; only a ring shows every row that came
        previous, self.latest = self.latest, row
        self.buffered += 1
        if not self.holds_one:
            self.holds_one = True
            return memory_of(row)
        return 2 * (len(row.value) - len(previous.value))  # as `memory_of` of both

    def _take_in_ring(self, row: Row) -> int:
        ring = self._ring
        if ring is None:
            ring = self._ring = collections.deque(self.buffer, maxlen=self.rule.capacity)
        if row.kind is RowKind.LATEST:
            self.latest = row
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
        if seen and self.rule.buffer == "spmc_ring":  # the first one has missed nothing
            self.dropped += self.buffered - seen - unseen
        seen = self.buffered - unseen
        rows = list(buffer)[len(buffer) - unseen :][:limit]
        sizes = [len(row.value) for row in rows]
        rows = rows[: count_fitting(sizes, max_bytes, beside_bytes=1, one_fits=True)]
        return rows, seen + len(rows)

    def as_info(self, latest: Row, consumers: int) -> RecordInfo:
        """Return the metadata row of `record.list`; `consumers` are the subscriptions to it."""
        rule = self.rule
        is_ring = rule.buffer == "spmc_ring"
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
            occupancy=(len(self.buffer), rule.capacity),
            entity=entity_of(self.name),
            ts=latest.ts,
            rev=latest.rev,
            buffer_capacity=rule.capacity if is_ring else UNSET,
            schema_type=rule.schema_type or UNSET,
        )
