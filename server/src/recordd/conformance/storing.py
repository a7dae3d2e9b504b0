"""What every backend has to do: store rows, and answer what is asked of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from recordd.conformance.suite import Suite
from recordd.conformance.support import (
    AS_OF,
    EVERYTHING,
    all_rows,
    ask,
    ask_log,
    delete,
    ends,
    new_rows,
    reason_of,
    revs,
    row,
    settle,
    store,
)
from recordd.extending.backend import BackendShutdown, PersistenceBackend
from recordd.extending.commit import Commit, Deletion, Deletions, NewRecord, NewRows
from recordd.extending.paging import PageLimits
from recordd.persistence.cursor import decode_log_cursor
from recordd_protocol.errors import Reason
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import Row, RowKind

__all__ = ["StoringAndAnswering", "apply_several"]


class StoringAndAnswering(Suite):
    """One row, many rows, their order, their pages, the log; deleting and closing."""

    async def test_an_empty_backend_has_nothing(self, tmp_path: Path) -> None:
        backend = self.make_backend(tmp_path)
        loaded = await backend.initialize()
        assert isinstance(backend, PersistenceBackend)
        assert (loaded.rev, list(loaded.records), list(loaded.deletions)) == (0, [], [])
        assert loaded.epoch
        page = await backend.query(EVERYTHING, ask(backend))
        assert (page.rows, page.next, page.epoch) == ([], None, loaded.epoch)
        await backend.close()

    async def test_a_stored_row_is_read_back_whole(self, backend: PersistenceBackend) -> None:
        stored = Row("ä.b", '{"x":[1.50,"ü"]}'.encode(), 1234, 1)
        await store(backend, [stored])
        (found,) = (await backend.query(EVERYTHING, ask(backend))).rows
        assert (found.name, found.value, found.ts, found.rev) == ("ä.b", stored.value, 1234, 1)

    async def test_a_late_row_is_history_as_any_other(self, backend: PersistenceBackend) -> None:
        await store(backend, [row(1, ts=50), Row("a", b"2", 20, 2, RowKind.LATE)])
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [2, 1]
        log = (await backend.replay(EVERYTHING, ask_log(backend))).rows
        assert [(r.rev, r.kind) for r in log] == [(1, RowKind.LATEST), (2, RowKind.LATE)]

    async def test_commits_that_are_applied_together_take_effect_in_their_order(
        self, backend: PersistenceBackend
    ) -> None:
        await apply_several(backend)
        await settle(backend)
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [5, 6]
        assert revs((await backend.replay(EVERYTHING, ask_log(backend))).rows) == [5, 6]

    async def test_names_differ_by_every_character(self, backend: PersistenceBackend) -> None:
        names = ["a", "A", "ab", "a.b", "a_", "a%", "a?", "[a]", "ä"]
        await store(backend, [row(n, name) for n, name in enumerate(names, 1)])
        for n, name in enumerate(names, 1):
            only = compile_patterns(name)
            assert revs((await backend.query(only, ask(backend))).rows) == [n], name
            assert revs((await backend.replay(only, ask_log(backend))).rows) == [n], name
        await delete(backend, "a", 10)
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == list(range(2, 10))

    async def test_latest_is_the_greatest_time_then_the_greatest_rev(
        self, backend: PersistenceBackend
    ) -> None:
        await store(backend, [row(1, ts=50), row(2, ts=90), row(3, ts=90), row(4, ts=60)])
        assert revs((await backend.query(EVERYTHING, ask(backend, 1))).rows) == [3]

    async def test_a_range_is_inclusive_and_a_limit_takes_the_newest(
        self, backend: PersistenceBackend
    ) -> None:
        await store(backend, [row(n) for n in range(1, 11)])
        await settle(backend)
        bounded = ask(backend, start=30, end=50)
        assert revs((await backend.query(EVERYTHING, bounded)).rows) == [3, 4, 5]
        newest = ask(backend, 2, start=30, end=50)
        assert revs((await backend.query(EVERYTHING, newest)).rows) == [4, 5]
        assert revs((await backend.query(EVERYTHING, ask(backend, 3))).rows) == [8, 9, 10]

    async def test_rows_of_several_records_come_in_time_order(
        self, backend: PersistenceBackend
    ) -> None:
        rows = [row(1, "a", 30), row(2, "b", 10), row(3, "a", 20), row(4, "c", 20)]
        await store(backend, rows)
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [2, 3, 4, 1]
        both = compile_patterns(["a", "b*"])
        assert revs((await backend.query(both, ask(backend))).rows) == [2, 3, 1]

    async def test_a_limit_holds_for_each_record(self, backend: PersistenceBackend) -> None:
        await store(backend, [row(n, "ab"[n % 2]) for n in range(1, 9)])
        assert revs((await backend.query(EVERYTHING, ask(backend, 2))).rows) == [5, 6, 7, 8]

    async def test_pages_join_without_gap_or_repeat(self, backend: PersistenceBackend) -> None:
        await store(backend, [row(n, "ab"[n % 2], ts=n // 3) for n in range(1, 40)])
        await settle(backend)
        await store(backend, [row(n, "abc"[n % 3], ts=n // 5) for n in range(40, 60)])
        whole = revs((await backend.query(EVERYTHING, ask(backend))).rows)
        assert len(whole) == 59
        assert revs(await all_rows(backend, ask(backend, page=PageLimits(7, 1 << 20)))) == whole
        by_size = PageLimits(1000, 3 * (len(row(59).body) + 3))
        assert revs(await all_rows(backend, ask(backend, page=by_size))) == whole
        newest = revs((await backend.query(EVERYTHING, ask(backend, 9))).rows)
        by_four = ask(backend, 9, page=PageLimits(4, 1 << 20))
        assert revs(await all_rows(backend, by_four)) == newest

    async def test_the_limit_and_the_range_hold_on_all_pages(
        self, backend: PersistenceBackend
    ) -> None:
        await store(backend, [row(n, "a" if n < 6 else "b") for n in range(1, 13)])
        await settle(backend)
        for limit, expected in ((None, list(range(2, 11))), (2, [4, 5, 9, 10])):
            params = ask(backend, limit, start=20, end=100, page=PageLimits(1, 1 << 20))
            assert revs(await all_rows(backend, params)) == expected

    async def test_every_page_says_which_moment_it_shows(self, backend: PersistenceBackend) -> None:
        await store(backend, [row(n) for n in range(1, 5)])
        first = await backend.query(EVERYTHING, ask(backend, as_of=4, page=PageLimits(2, 1 << 20)))
        log = await backend.replay(EVERYTHING, ask_log(backend, as_of=3))
        await store(backend, [row(5)])
        second = await backend.query(EVERYTHING, ask(backend, as_of=5, page_cursor=first.next))
        assert (first.rev, second.rev, log.rev) == (4, 4, 3)

    async def test_a_page_holds_no_more_than_it_may_and_one_row_at_least(
        self, backend: PersistenceBackend
    ) -> None:
        await store(backend, [row(n) for n in range(1, 6)])
        for limits, expected in ((PageLimits(2, 1 << 20), 2), (PageLimits(9, 1), 1)):
            page = await backend.query(EVERYTHING, ask(backend, page=limits))
            assert (len(page.rows), page.next is None) == (expected, False)
            log = await backend.replay(EVERYTHING, ask_log(backend, page=limits))
            assert (len(log.rows), log.next is None) == (expected, False)

    async def test_a_page_that_is_the_last_has_no_next(self, backend: PersistenceBackend) -> None:
        await store(backend, [row(n) for n in range(1, 6)])
        five = PageLimits(5, 1 << 20)
        assert (await backend.query(EVERYTHING, ask(backend, page=five))).next is None
        assert (await backend.replay(EVERYTHING, ask_log(backend, page=five))).next is None

    async def test_rows_after_the_first_page_are_not_in_the_others(
        self, backend: PersistenceBackend
    ) -> None:
        await store(backend, [row(n) for n in range(1, 11)])
        params = ask(backend, 5, as_of=10, page=PageLimits(3, 1 << 20))
        first = await backend.query(EVERYTHING, params)
        await store(backend, [row(n) for n in range(11, 30)])
        await settle(backend)
        second = await backend.query(EVERYTHING, ask(backend, 5, page_cursor=first.next))
        assert revs(first.rows + second.rows) == [6, 7, 8, 9, 10]

    async def test_no_answer_shows_a_row_after_its_moment(
        self, backend: PersistenceBackend
    ) -> None:
        await store(backend, [row(n) for n in range(1, 11)])
        page = await backend.query(EVERYTHING, ask(backend, as_of=4))
        assert (revs(page.rows), page.rev) == ([1, 2, 3, 4], 4)
        await settle(backend)
        assert revs((await backend.query(EVERYTHING, ask(backend, 2, as_of=4))).rows) == [3, 4]
        log = await backend.replay(EVERYTHING, ask_log(backend, 1, as_of=4))
        assert revs(log.rows) == [2, 3, 4]

    async def test_what_is_no_next_of_ours_is_refused(
        self, backend: PersistenceBackend, tmp_path: Path
    ) -> None:
        await store(backend, [row(n) for n in range(1, 4)])
        for forged in ("", "x", "1.2", "9" * 300):
            answer = _query_after(backend, forged)
            assert await reason_of(answer) is Reason.INVALID_PARAMS, forged
        folder = tmp_path / "another"
        folder.mkdir()
        other = self.make_backend(folder)
        await other.initialize()
        await store(other, [row(n) for n in range(1, 4)])
        page = await other.query(EVERYTHING, ask(other, as_of=3, page=PageLimits(1, 1 << 20)))
        await other.close()
        assert await reason_of(_query_after(backend, page.next)) is Reason.EXPIRED

    async def test_replay_is_the_log_in_commit_order(self, backend: PersistenceBackend) -> None:
        await store(backend, [row(n, "ab"[n % 2], ts=100 - n) for n in range(1, 9)])
        only_b = compile_patterns("b")
        assert revs((await backend.replay(EVERYTHING, ask_log(backend, 0, 8))).rows) == [
            1, 2, 3, 4, 5, 6, 7, 8,
        ]  # fmt: skip
        assert revs((await backend.replay(only_b, ask_log(backend, 2, 8))).rows) == [3, 5, 7]
        page = await backend.replay(EVERYTHING, ask_log(backend, 3, 8, 2))
        assert revs(page.rows) == [4, 5]
        assert page.next is not None
        after = decode_log_cursor(page.next, epoch=page.epoch).rev
        rest = await backend.replay(EVERYTHING, ask_log(backend, after, 8))
        assert (revs(rest.rows), rest.next) == ([6, 7, 8], None)

    async def test_at_finds_one_row_by_its_commit_number(self, backend: PersistenceBackend) -> None:
        await store(backend, [row(1), row(2, "b")])
        found = await backend.at(2, backend.take_moment(AS_OF))
        assert found is not None
        assert (found.name, found.body) == ("b", row(2, "b").body)
        assert await backend.at(3, backend.take_moment(AS_OF)) is None

    async def test_a_deleted_record_is_gone_and_its_name_starts_anew(
        self, backend: PersistenceBackend
    ) -> None:
        await store(backend, [row(1), row(2, "b"), row(3)])
        await delete(backend, "a", 4)
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [2]
        assert await backend.at(1, backend.take_moment(AS_OF)) is None
        await store(backend, [row(5)])
        await settle(backend)
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [2, 5]
        replayed = await backend.replay(EVERYTHING, ask_log(backend, as_of=5))
        assert revs(replayed.rows) == [2, 5]

    async def test_what_has_no_rev_is_not_stored(self, backend: PersistenceBackend) -> None:
        records = [NewRecord(0, "a", is_stored=True), NewRecord(1, "live", is_stored=False)]
        live = Row("live", b"0", 5, None)
        await backend.apply([NewRows([live, row(1)], [1, 0], records)], 1)
        await backend.apply([Deletions([Deletion("live", 1, ts=6, rev=None)])], 1)
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [1]

    async def test_a_closed_backend_says_so(self, backend: PersistenceBackend) -> None:
        await backend.close()
        await backend.close()
        with pytest.raises(BackendShutdown):
            await store(backend, [row(1)])


async def apply_several(backend: PersistenceBackend) -> None:
    """Apply with one call rows 1 and 2, the ends of both records, and rows 5 and 6."""
    commits: list[Commit] = [
        new_rows(backend, row(1, "b"), row(2, "a")),
        ends(backend, b=3, a=4),
        new_rows(backend, row(5, "c"), row(6, "a")),
    ]
    await backend.apply(commits, 6)


async def _query_after(backend: PersistenceBackend, page_cursor: str | None) -> None:
    await backend.query(EVERYTHING, ask(backend, page_cursor=page_cursor))
