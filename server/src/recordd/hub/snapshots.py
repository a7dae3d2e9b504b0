"""Latest rows of one moment, kept for the pages that follow the first.

Theory of operation. A snapshot is the list that the first page was cut out of: pointers
to rows that are mostly still the latest, and so in memory anyway. What it costs beyond
the pointers are the rows that were replaced since. The hub counts the bytes of every row
that is replaced, so a snapshot has cost no more than that count has grown since it was
taken, and no more than all its rows together: two numbers, without a look at any row.

Past `max_bytes` the owner who costs most loses its oldest; so a greedy client takes from
itself first. Measuring what each snapshot really holds back would be a look at every row.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Final, Protocol

import trio

from recordd.hub.records import memory_of
from recordd.hub.statistics import SnapshotStatistics
from recordd.system.turns import Steps
from recordd_protocol.rows import Row

__all__ = ["Snapshot", "SnapshotLimits", "Snapshots"]

_POINTER_BYTES: Final = 8
_ROWS_A_STEP: Final = 1024


class SnapshotLimits:
    """How much is kept for pages that may never be asked for, and for how long."""

    def __init__(self, *, max_bytes: int, per_owner: int, max_age_s: float) -> None:
        self.max_bytes: Final = max_bytes
        self.per_owner: Final = per_owner
        self.max_age_s: Final = max_age_s


class Replaced(Protocol):
    """What snapshots need to know of the catalogue that the rows are from."""

    @property
    def replaced_bytes(self) -> int:
        """Memory of all rows that were a latest one and are no more, since the start."""


class Snapshot:
    """Latest rows of one moment, and who asked for them."""

    __slots__ = ("_own_bytes", "_replaced_before", "id", "owner", "rev", "rows", "used_at")

    def __init__(self, rows: list[Row], owner: object, *, rev: int, replaced_bytes: int) -> None:
        """Take the rows of this moment; `measure` follows."""
        self.id: Final = secrets.token_hex(8)  # of no use to another run of the daemon
        self.rows: Final = rows
        self.rev: Final = rev
        self.owner: Final = owner
        self.used_at = trio.current_time()
        self._own_bytes = 0
        self._replaced_before: Final = replaced_bytes

    def measure(self) -> Iterator[None]:
        """Add up, in steps, what the rows take."""
        for start in range(0, len(self.rows), _ROWS_A_STEP):
            self._own_bytes += sum(map(memory_of, self.rows[start : start + _ROWS_A_STEP]))
            yield

    def cost(self, replaced_bytes: int) -> int:
        """Return how much memory it holds back at most."""
        replaced = min(self._own_bytes, replaced_bytes - self._replaced_before)
        return len(self.rows) * _POINTER_BYTES + replaced


class Snapshots:
    """The snapshots by id, least recently used first."""

    def __init__(self, catalogue: Replaced, limits: SnapshotLimits) -> None:
        self._catalogue: Final = catalogue
        self._limits: Final = limits
        self._by_id: Final[dict[str, Snapshot]] = {}

    def statistics(self) -> SnapshotStatistics:
        """Return how many are kept, and what all hold back at most."""
        return SnapshotStatistics(snapshots=len(self._by_id), bytes=sum(self._costs().values()))

    def keep(self, rows: list[Row], owner: object, *, rev: int) -> Steps[Snapshot]:
        """Keep rows of this moment for `owner`, and let go what that is too much with.

        `rev` is the newest commit of the moment.
        """
        self.drop_expired()
        for known in self._by_id.values():
            if known.rows is rows and known.owner is owner:
                return self._use(known)
        snapshot = Snapshot(rows, owner, rev=rev, replaced_bytes=self._catalogue.replaced_bytes)
        yield from snapshot.measure()
        owned = [one.id for one in self._by_id.values() if one.owner is owner]
        if len(owned) >= self._limits.per_owner:
            del self._by_id[owned[0]]
        self._by_id[snapshot.id] = snapshot
        self._make_room()
        return snapshot

    def find(self, snapshot_id: str) -> Snapshot | None:
        """Return a snapshot, which counts as used; None where it is no longer kept."""
        self.drop_expired()
        self._make_room()
        snapshot = self._by_id.get(snapshot_id)
        return None if snapshot is None else self._use(snapshot)

    def drop_of(self, owner: object) -> None:
        """Let go what is kept for an owner who has left."""
        for snapshot in [one for one in self._by_id.values() if one.owner is owner]:
            del self._by_id[snapshot.id]

    def drop_expired(self) -> None:
        """Let go what nobody has asked for in time."""
        oldest = trio.current_time() - self._limits.max_age_s
        for snapshot in list(self._by_id.values()):
            if snapshot.used_at > oldest:
                return
            del self._by_id[snapshot.id]

    async def expire(self) -> None:
        """Let go in time, for ever; a start hook."""
        while True:
            await trio.sleep(self._limits.max_age_s / 4)
            self.drop_expired()
            self._make_room()

    def describe_limits(self) -> str:
        """Return the settings by which a snapshot may be gone."""
        limits = self._limits
        return (
            f"page_snapshot_timeout ({limits.max_age_s:g} s), page_snapshots"
            f" ({limits.per_owner}), page_snapshot_bytes ({limits.max_bytes})"
        )

    def _use(self, snapshot: Snapshot) -> Snapshot:
        snapshot.used_at = trio.current_time()
        self._by_id[snapshot.id] = self._by_id.pop(snapshot.id)
        return snapshot

    def _make_room(self) -> None:
        """Let the owner who costs most lose its least recently used, until all have room."""
        while self._by_id and sum((costs := self._costs()).values()) > self._limits.max_bytes:
            dearest = max(costs, key=costs.__getitem__)
            victim = next(one for one in self._by_id.values() if id(one.owner) == dearest)
            del self._by_id[victim.id]

    def _costs(self) -> dict[int, int]:
        """Return what each owner's snapshots cost, by the owner's identity."""
        costs: dict[int, int] = {}
        replaced = self._catalogue.replaced_bytes
        for one in self._by_id.values():
            costs[id(one.owner)] = costs.get(id(one.owner), 0) + one.cost(replaced)
        return costs
