"""The hub: what is true now, what has changed, what may be missing, and who is told.

The whole of its parts. Only the writer's task changes them, after COMMIT, and only here,
where one commit goes through all of them in one order: the log of changes before the
catalogue (it notes where a follower who finds no room has to go on), the topics after it
(who is told may ask at once). Readers ask the part that they mean.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from recordd.config.rules import RuleTable
from recordd.extending.backend import MAX_DELETIONS, Loaded, Purged
from recordd.extending.columns import RowColumns
from recordd.hub.archive import Archive
from recordd.hub.catalogue import Catalogue
from recordd.hub.changes import ChangeLog
from recordd.hub.gaps import Gaps
from recordd.hub.purge import Purge
from recordd.hub.records import RecordState, Unborn
from recordd.hub.statistics import HubStatistics
from recordd.hub.tombstones import Tombstone, Tombstones
from recordd.hub.topic_index import Delivery, TopicIndex
from recordd_protocol.rows import Row

__all__ = ["Hub"]

_BACKLOG_BYTES: Final = 8 << 20


class Hub:
    """Takes commits and purges, and tells who follows."""

    def __init__(
        self,
        rules: RuleTable,
        *,
        max_records: int,
        max_latest_bytes: int = 1 << 62,
        backlog_bytes: int = _BACKLOG_BYTES,
    ) -> None:
        self.rules: Final = rules
        self.catalogue: Final = Catalogue(
            rules, max_records=max_records, max_latest_bytes=max_latest_bytes
        )
        self.archive: Final = Archive()
        self.topics: Final = TopicIndex(rules.is_ring)
        self._tombstones: Final = Tombstones(MAX_DELETIONS)
        self.changes: Final = ChangeLog(
            self.catalogue, self._tombstones, self.topics, backlog_bytes=backlog_bytes
        )
        self.gaps: Final = Gaps(self.catalogue, self.archive, self._tombstones)

    @property
    def rev(self) -> int:
        """The newest commit."""
        return self.catalogue.rev

    @property
    def epoch(self) -> str:
        """What the revs belong to."""
        return self.catalogue.epoch

    @property
    def rows(self) -> int:
        """Persisted rows of all records, archived ones too."""
        return self.catalogue.rows + self.archive.rows

    def statistics(self) -> HubStatistics:
        """Return how much there is now."""
        return HubStatistics(
            records=len(self.catalogue),
            rows=self.rows,
            rev=self.rev,
            epoch=self.epoch,
            latest_bytes=self.catalogue.latest_bytes,
            backlog_bytes=self.changes.backlog.size_bytes,
            subscriptions=self.topics.subscriptions,
            topics=len(self.topics),
            updates_skipped=self.catalogue.updates_skipped,
            resyncs=self.catalogue.resyncs,
        )

    def id_of(self, name: str) -> int:
        """Return the id of a record, that of its stored rows where it has such.

        Archived rows have another id than a value that is set anew.
        """
        is_archived = name in self.archive
        return self.archive.id_of(name) if is_archived else self.catalogue.get(name).record_id

    def restore(self, loaded: Loaded) -> None:
        """Take over what storage has at start; `loaded` has no records then any more.

        Each is one change, in order of rev: the rev itself counts as the tick of it, for nobody
        asks what has changed before the start.
        What a rule no longer persists is not taken for current: see `recordd.hub.archive`.
        """
        catalogue, tombstones = self.catalogue, self._tombstones
        catalogue.rev, catalogue.epoch = loaded.rev, loaded.epoch
        catalogue.next_record_id = loaded.next_record_id
        tombstones.forgotten_rev = loaded.deleted_rev
        for name, rev in loaded.deletions:
            tombstones.bury(Tombstone(name, 0, rev, catalogue.tick))
        # Each is let go of at once, and what it took is taken for the next: 6 MiB of 100,000.
        loaded.records.reverse()
        while loaded.records:
            record = loaded.records.pop()
            self.gaps.note_purged(record.purged_rev)
            rule = self.rules.rule_for(record.latest.name)
            if rule.persist:
                catalogue.restore(record, rule)
            else:
                self.archive.add(record)
        catalogue.tick = loaded.rev
        tombstones.forgotten_tick = catalogue.tick
        self.changes.before_commit = (catalogue.tick, catalogue.rev)

    def publish(
        self,
        rows: Sequence[Row],
        records: Sequence[RecordState | Unborn],
        delivery: Delivery | None = None,
    ) -> None:
        """Make the rows of one commit visible, and tell who follows their records.

        `records` has the record of each row: one that is new comes to exist with its first.
        `delivery` is what was sorted of them before.
        """
        rows = RowColumns.of(rows)
        self.changes.begin_commit(rows)
        if delivery is None and self.topics:
            delivery = Delivery(self.topics, rows, records)
        self.catalogue.take(rows, records)
        if delivery is not None:
            self.topics.publish(delivery)
            for topic, delivered in delivery.by_topic.items():
                if topic.live:  # those who had no room are live no longer
                    self.catalogue.note_consumed(delivered, topic.live)

    def remove(self, deletion: Row) -> None:
        """Forget a record whose deletion is committed, and tell who follows it.

        A deletion without a `rev` is that of a transient value alone: stored rows stay.
        """
        state = self.catalogue.find(deletion.name)
        if state is None:
            return self._remove_history(deletion)
        self.changes.begin_commit((deletion,))
        if deletion.rev is not None:
            self.archive.remove(deletion.name)
        self.catalogue.remove(state, deletion.rev)
        if self.topics:
            self.topics.publish(Delivery(self.topics, (deletion,), (state,)))
        return self._bury(deletion.name, deletion.ts, deletion.rev)

    @contextlib.contextmanager
    def purge(self) -> Iterator[Purge]:
        """Delete rows from storage inside this block, and note there what went.

        Nothing else tells the hub of rows that storage has no longer.
        """
        with self.gaps.purges.hold():
            yield Purge(self)

    def forget_rows(self, name: str, purged: Purged) -> None:
        """Count rows that storage has deleted; inside `purge` alone."""
        self.gaps.note_purged(purged.newest_rev)
        if name in self.archive:
            self.archive.forget_rows(name, purged)
            return
        state = self.catalogue.find(name)
        assert state is not None, "what storage has is current or archived"
        self.catalogue.forget_rows(state, purged.rows, purged.newest_rev)

    def end_history(self, deletion: Row) -> None:
        """Forget a record whose last stored row has gone; inside `purge` alone.

        Archived rows are beside a value that is set anew, if there is one: that stays.
        """
        if deletion.name in self.archive:
            self._remove_history(deletion)
        else:
            self.remove(deletion)

    def _remove_history(self, deletion: Row) -> None:
        """Forget the archived rows of a record, which a commit has deleted.

        There is nobody to tell: to who follows the record they were not there.
        """
        assert deletion.rev is not None, "what is only stored is deleted by a commit"
        self.changes.begin_commit(())
        self.catalogue.rev = deletion.rev
        self.archive.remove(deletion.name)
        self._bury(deletion.name, 0, deletion.rev)

    def _bury(self, name: str, ts: int, rev: int | None) -> None:
        self._tombstones.bury(Tombstone(name, ts, rev, self.catalogue.tick))
