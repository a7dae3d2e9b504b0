"""What a backend that keeps its rows has after it was closed and opened again."""

from __future__ import annotations

from pathlib import Path

from recordd.conformance.moments import TWO_ROWS, fill, whole_or_expired
from recordd.conformance.storing import apply_several
from recordd.conformance.suite import Suite, needs_durability
from recordd.conformance.support import (
    EVERYTHING,
    ask,
    ask_log,
    continue_from,
    delete,
    revs,
    row,
    settle,
    store,
)
from recordd.extending.backend import Loaded, PersistenceBackend, QueryParams
from recordd_protocol.rows import Page, Row, RowKind

__all__ = ["Restarts"]


class Restarts(Suite):
    """Rows, what is known of each record, deletions, the epoch."""

    @needs_durability
    async def test_what_was_stored_is_there_after_a_restart(self, tmp_path: Path) -> None:
        backend = await self._open(tmp_path)
        await store(backend, [row(n, "ab"[n % 2]) for n in range(1, 6)])
        await settle(backend)
        await store(backend, [Row("a", b"6", 15, 6, RowKind.LATE)])
        await backend.close()
        backend, loaded = await self._reopen(tmp_path)
        assert (loaded.rev, loaded.position) == (6, 6)
        found = {r.latest.name: (r.latest.rev, r.latest.value, r.rows) for r in loaded.records}
        assert found == {"a": (4, b"4", 3), "b": (5, b"5", 3)}
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [1, 6, 2, 3, 4, 5]
        assert revs((await backend.replay(EVERYTHING, ask_log(backend))).rows) == list(range(1, 7))
        await backend.close()

    @needs_durability
    async def test_a_deletion_is_remembered_with_its_rev(self, tmp_path: Path) -> None:
        backend = await self._open(tmp_path)
        await store(backend, [row(1), row(2, "b")])
        await delete(backend, "a", 3)
        await backend.close()
        backend, loaded = await self._reopen(tmp_path)
        assert (loaded.rev, loaded.position) == (3, 3)
        assert [r.latest.name for r in loaded.records] == ["b"]
        assert ("a", 3) in loaded.deletions or loaded.deleted_rev >= 3
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [2]
        await backend.close()

    @needs_durability
    async def test_deletions_come_oldest_first_and_of_each_name_the_newest(
        self, tmp_path: Path
    ) -> None:
        backend = await self._open(tmp_path)
        await store(backend, [row(1), row(2, "b")])
        await delete(backend, "a", 3)
        await store(backend, [row(4)])
        await delete(backend, "b", 5)
        await delete(backend, "a", 6)
        await backend.close()
        backend, loaded = await self._reopen(tmp_path)
        known = [(name, rev) for name, rev in (("b", 5), ("a", 6)) if rev > loaded.deleted_rev]
        assert [d for d in loaded.deletions if d[1] > loaded.deleted_rev] == known
        await backend.close()

    @needs_durability
    async def test_all_commits_of_one_apply_are_there_after_a_restart(self, tmp_path: Path) -> None:
        backend = await self._open(tmp_path)
        await apply_several(backend)
        await backend.close()
        backend, loaded = await self._reopen(tmp_path)
        found = {r.latest.name: (r.latest.rev, r.rows) for r in loaded.records}
        assert (loaded.rev, loaded.position, found) == (6, 6, {"c": (5, 1), "a": (6, 1)})
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [5, 6]
        await backend.close()

    @needs_durability
    async def test_ids_and_the_position_go_on_where_they_were(self, tmp_path: Path) -> None:
        backend = await self._open(tmp_path)
        await store(backend, [row(1, "c"), row(2, "a"), row(3, "b"), row(4, "d")])
        await delete(backend, "a", 5)
        await delete(backend, "d", 6)
        await backend.close()
        backend, loaded = await self._reopen(tmp_path)
        assert [(r.record_id, r.latest.name) for r in loaded.records] == [(0, "c"), (2, "b")]
        assert (loaded.next_record_id, loaded.position) == (4, 6)
        await store(backend, [row(7, "e"), row(8, "b")])
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [1, 3, 7, 8]
        await backend.close()

    @needs_durability
    async def test_kinds_and_the_latest_of_equal_times_are_there_after_a_restart(
        self, tmp_path: Path
    ) -> None:
        backend = await self._open(tmp_path)
        late = Row("a", b"3", 10, 3, RowKind.LATE)
        await store(backend, [row(1, ts=90), row(2, ts=90), late])
        await backend.close()
        backend, loaded = await self._reopen(tmp_path)
        assert [r.latest.rev for r in loaded.records] == [2]
        log = (await backend.replay(EVERYTHING, ask_log(backend))).rows
        assert [r.kind for r in log] == [RowKind.LATEST, RowKind.LATEST, RowKind.LATE]
        await backend.close()

    @needs_durability
    async def test_pages_go_on_over_a_restart_or_are_refused(self, tmp_path: Path) -> None:
        backend = await self._open(tmp_path)
        await fill(backend)
        first = await backend.query(EVERYTHING, ask(backend, as_of=8, page=TWO_ROWS))
        await backend.close()
        backend, _ = await self._reopen(tmp_path)
        params = ask(backend, as_of=8, page_cursor=first.next)
        await whole_or_expired(_query(backend, params), [3, 4, 5, 6, 7, 8])
        await delete(backend, "a", 9)
        await backend.close()
        backend, _ = await self._reopen(tmp_path)
        params = ask(backend, as_of=9, page_cursor=first.next)
        await whole_or_expired(_query(backend, params), [3, 4, 5, 6, 7, 8])
        await backend.close()

    @needs_durability
    async def test_the_epoch_stays_where_nothing_was_lost(self, tmp_path: Path) -> None:
        backend = self.make_backend(tmp_path)
        first = await backend.initialize()
        await backend.close()
        backend, again = await self._reopen(tmp_path)
        assert again.epoch == first.epoch
        await backend.close()

    async def _open(self, folder: Path) -> PersistenceBackend:
        backend = self.make_backend(folder)
        await backend.initialize()
        return backend

    async def _reopen(self, folder: Path) -> tuple[PersistenceBackend, Loaded]:
        backend = self.make_backend(folder)
        loaded = await backend.initialize()
        continue_from(backend, loaded)
        return backend, loaded


async def _query(backend: PersistenceBackend, params: QueryParams) -> Page:
    """Ask for all records; a call may refuse before there is anything to await."""
    return await backend.query(EVERYTHING, params)
