"""What a backend that keeps its rows has after it was closed and opened again."""

from __future__ import annotations

from pathlib import Path

from recordd.conformance.suite import Suite, needs_durability
from recordd.conformance.support import EVERYTHING, ask, ask_log, delete, revs, row, settle, store
from recordd.extending.backend import Loaded, PersistenceBackend
from recordd_protocol.rows import Row, RowKind

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
        assert loaded.rev == 6
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
        assert loaded.rev == 3
        assert [r.latest.name for r in loaded.records] == ["b"]
        assert ("a", 3) in loaded.deletions or loaded.deleted_rev >= 3
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [2]
        await backend.close()

    @needs_durability
    async def test_ids_and_the_position_go_on_where_they_were(self, tmp_path: Path) -> None:
        backend = await self._open(tmp_path)
        await store(backend, [row(1), row(2, "b"), row(3, "c")])
        await delete(backend, "c", 4)
        await backend.close()
        backend, loaded = await self._reopen(tmp_path)
        assert [(r.latest.name, r.record_id) for r in loaded.records] == [("a", 0), ("b", 1)]
        assert (loaded.next_record_id, loaded.position) == (3, 4)
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
        return backend, await backend.initialize()
