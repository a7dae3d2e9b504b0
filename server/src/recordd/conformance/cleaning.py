"""`CleansUp`: rows that have outlived their rules go, oldest first, and nothing else does."""

from __future__ import annotations

from recordd.conformance.moments import TWO_ROWS, fill, whole_or_expired
from recordd.conformance.suite import Suite, have, needs
from recordd.conformance.support import (
    EVERYTHING,
    ask,
    ask_log,
    clean_up,
    read_on,
    reason_of,
    revs,
    row,
    settle,
    store,
)
from recordd.extending.backend import CleansUp, CleanupTarget, PersistenceBackend, Purged
from recordd.extending.commit import Renewal
from recordd.extending.paging import PageLimits
from recordd_protocol.errors import Reason
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import Row

__all__ = ["CleaningUp"]


class CleaningUp(Suite):
    """By age, by number, ahead of a time; in slices; and what readers see of it."""

    @needs(CleansUp)
    async def test_cleanup_takes_what_is_old_but_never_the_latest(
        self, backend: PersistenceBackend
    ) -> None:
        cleaner = have(backend, CleansUp)
        await store(backend, [row(n) for n in range(1, 6)])
        await settle(backend)
        by_age = CleanupTarget("a", 40, None, keep_latest=True)
        assert await clean_up(cleaner, by_age) == ({"a": (3, 3)}, 1)
        all_of_it = CleanupTarget("a", 1000, None, keep_latest=True)
        assert await clean_up(cleaner, all_of_it) == ({"a": (1, 4)}, 1)
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [5]

    @needs(CleansUp)
    async def test_cleanup_keeps_the_newest_of_too_many(self, backend: PersistenceBackend) -> None:
        cleaner = have(backend, CleansUp)
        await store(backend, [row(n) for n in range(1, 11)])
        await settle(backend)
        by_number = CleanupTarget("a", None, 4, keep_latest=True)
        assert await clean_up(cleaner, by_number) == ({"a": (6, 6)}, 1)
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [7, 8, 9, 10]

    @needs(CleansUp)
    async def test_the_newest_is_so_by_time_and_then_by_rev(
        self, backend: PersistenceBackend
    ) -> None:
        cleaner = have(backend, CleansUp)
        await store(backend, [row(1, ts=90), row(2, ts=10), row(3, ts=90), row(4, ts=50)])
        await settle(backend)
        await clean_up(cleaner, CleanupTarget("a", None, 1, keep_latest=True))
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [3]

    @needs(CleansUp)
    async def test_cleanup_stops_at_its_limit_and_says_how_far_it_came(
        self, backend: PersistenceBackend
    ) -> None:
        cleaner = have(backend, CleansUp)
        await store(backend, [row(n, "ab"[n % 2]) for n in range(1, 21)])
        await settle(backend)
        a, b = (CleanupTarget(name, 1000, None, keep_latest=True) for name in ("a", "b"))
        assert await clean_up(cleaner, a, b, limit=12) == ({"a": (9, 18), "b": (3, 5)}, 1)
        assert await clean_up(cleaner, b, limit=12) == ({"b": (6, 17)}, 1)

    @needs(CleansUp)
    async def test_cleanup_takes_what_is_ahead_of_a_time_oldest_first(
        self, backend: PersistenceBackend
    ) -> None:
        cleaner = have(backend, CleansUp)
        await store(backend, [row(n) for n in range(1, 7)])
        await settle(backend)
        ahead = CleanupTarget("a", None, None, keep_latest=False, newer_than_ms=20)
        assert await clean_up(cleaner, ahead, limit=3) == ({"a": (3, 5)}, 0)
        assert await clean_up(cleaner, ahead, limit=3) == ({"a": (1, 6)}, 1)
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [1, 2]
        assert await clean_up(cleaner, ahead, limit=3) == ({}, 1)

    @needs(CleansUp)
    async def test_the_last_row_of_a_record_stays_and_is_said_to_be_due(
        self, backend: PersistenceBackend
    ) -> None:
        """The end of the record is a commit, which is planned."""
        await store(backend, [row(1), row(2), row(3, "b")])
        await settle(backend)
        all_of_it = CleanupTarget("a", 1000, None, keep_latest=False)
        purged, done = await have(backend, CleansUp).cleanup([all_of_it], 100)
        assert (purged, done) == ({"a": Purged(1, 1, is_spent=True)}, 1)
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [2, 3]

    @needs(CleansUp)
    async def test_a_renewal_replaces_the_newest_row_by_an_older_one(
        self, backend: PersistenceBackend
    ) -> None:
        await store(backend, [row(n) for n in range(1, 5)])
        await settle(backend)
        ahead = CleanupTarget("a", None, None, keep_latest=True, newer_than_ms=20)
        assert await clean_up(have(backend, CleansUp), ahead) == ({"a": (1, 3)}, 1)
        again = Row("a", row(2).value, 20, 1000)
        renewal = Renewal(0, 20, replaced_ts=40, replaced_rev=4, row=again)
        await backend.apply([renewal], 1000)
        found = (await backend.query(EVERYTHING, ask(backend))).rows
        assert [(r.rev, r.ts, r.value) for r in found] == [
            (1, 10, b"1"), (2, 20, b"2"), (1000, 20, b"2"),
        ]  # fmt: skip
        assert revs((await backend.query(EVERYTHING, ask(backend, 1))).rows) == [1000]
        await store(backend, [row(1001)])
        log = await backend.replay(EVERYTHING, ask_log(backend))
        assert revs(log.rows) == [1, 2, 1000, 1001]

    @needs(CleansUp)
    async def test_no_other_record_is_touched(self, backend: PersistenceBackend) -> None:
        cleaner = have(backend, CleansUp)
        await fill(backend)
        await clean_up(cleaner, CleanupTarget("a", 1000, None, keep_latest=True))
        await clean_up(cleaner, CleanupTarget("nobody", 1000, None, keep_latest=False))
        assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [2, 4, 6, 7, 8]
        log = await backend.replay(EVERYTHING, ask_log(backend))
        assert revs(log.rows) == [2, 4, 6, 7, 8]

    @needs(CleansUp)
    async def test_a_page_is_refused_when_rows_that_were_to_come_are_cleaned_up(
        self, backend: PersistenceBackend
    ) -> None:
        cleaner = have(backend, CleansUp)
        await fill(backend)
        first = await backend.query(EVERYTHING, ask(backend, as_of=8, page=TWO_ROWS))
        await clean_up(cleaner, CleanupTarget("a", 60, None, keep_latest=True))
        for pattern in ("#", "a"):
            answer = read_on(backend, pattern, first.next)
            assert await reason_of(answer) is Reason.EXPIRED, pattern
        assert revs(await read_on(backend, "b", first.next)) == [4, 6, 8]

    @needs(CleansUp)
    async def test_readers_from_before_a_cleanup_see_every_row_or_are_refused(
        self, backend: PersistenceBackend
    ) -> None:
        cleaner = have(backend, CleansUp)
        await fill(backend)
        only_b = compile_patterns("b")
        query = backend.query(EVERYTHING, ask(backend, as_of=8))
        log = backend.replay(EVERYTHING, ask_log(backend, as_of=8))
        spared = backend.query(only_b, ask(backend, as_of=8))
        await clean_up(cleaner, CleanupTarget("a", 60, None, keep_latest=True))
        for answer in (query, log):
            await whole_or_expired(answer, list(range(1, 9)))
        assert revs((await spared).rows) == [2, 4, 6, 8]

    @needs(CleansUp)
    async def test_a_page_is_whole_when_only_rows_that_it_had_are_cleaned_up(
        self, backend: PersistenceBackend
    ) -> None:
        rows = [row(n, "a") for n in range(1, 5)] + [row(n, "b") for n in range(5, 11)]
        await store(backend, rows)
        await settle(backend)
        first = await backend.query(EVERYTHING, ask(backend, as_of=10, page=PageLimits(4, 1 << 20)))
        await clean_up(have(backend, CleansUp), CleanupTarget("a", 60, None, keep_latest=True))
        second = await read_on(backend, "#", first.next)
        assert revs([*first.rows, *second]) == list(range(1, 11))
