"""One moment: an answer shows what there was at its turn, all of it, or is refused as `expired`.

A backend may keep rows for those whose turn came before they went, or refuse them. What it may
not is leave them out in silence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, Final, TypeVar

import msgspec

from recordd.conformance.suite import Suite
from recordd.conformance.support import (
    AS_OF,
    EVERYTHING,
    ask,
    ask_log,
    delete,
    read_on,
    reason_of,
    revs,
    row,
    settle,
    store,
)
from recordd.extending.backend import PersistenceBackend
from recordd.extending.paging import PageLimits
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import Page, Row

__all__ = ["TWO_ROWS", "HeldMoments", "fill", "unless_expired", "whole_or_expired"]

T = TypeVar("T")

TWO_ROWS: Final = PageLimits(2, 1 << 20)


async def fill(backend: PersistenceBackend) -> None:
    """Store rows 1 to 8 of `a` and `b` in turn, `ts` ten times the rev, and settle."""
    await store(backend, [row(n, "ba"[n % 2]) for n in range(1, 9)])
    await settle(backend)


async def unless_expired(answer: Awaitable[T]) -> T | None:
    """Return an answer, None where it is refused as it may be; raise any other refusal."""
    try:
        return await answer
    except RequestError as error:
        if error.reason is not Reason.EXPIRED:
            raise
        return None


async def whole_or_expired(answer: Awaitable[Page], expected: list[int]) -> None:
    """Check that an answer has exactly these rows, or is refused as it may be."""
    page = await unless_expired(answer)
    assert page is None or revs(page.rows) == expected


class HeldMoments(Suite):
    """Readers from before a deletion, from between pages, and those who never come."""

    async def test_readers_from_before_a_deletion_see_every_row_or_are_refused(
        self, backend: PersistenceBackend
    ) -> None:
        await fill(backend)
        moment = backend.take_moment(8)
        only_a = compile_patterns("a")
        answers: list[tuple[Coroutine[Any, Any, Page], list[int]]] = [
            (backend.query(EVERYTHING, ask(backend, as_of=8)), list(range(1, 9))),
            (backend.query(only_a, ask(backend, as_of=8)), [1, 3, 5, 7]),
            (backend.query(only_a, ask(backend, 1, as_of=8)), [7]),
            (backend.replay(EVERYTHING, ask_log(backend, as_of=8)), list(range(1, 9))),
            (backend.replay(only_a, ask_log(backend, as_of=8)), [1, 3, 5, 7]),
        ]
        at = backend.at(3, moment)
        await delete(backend, "a", 9)
        await store(backend, [row(10, "a"), row(11, "c")])
        await settle(backend)
        for answer, expected in answers:
            await whole_or_expired(answer, expected)
        await _row_or_expired(at)

    async def test_readers_from_before_see_nothing_that_came_since(
        self, backend: PersistenceBackend
    ) -> None:
        await fill(backend)
        query = backend.query(EVERYTHING, ask(backend, as_of=8))
        log = backend.replay(EVERYTHING, ask_log(backend, as_of=8))
        await store(backend, [row(9, "a", ts=5), row(10, "c")])
        await settle(backend)
        assert revs((await query).rows) == revs((await log).rows) == list(range(1, 9))

    async def test_readers_after_a_deletion_see_none_of_its_rows(
        self, backend: PersistenceBackend
    ) -> None:
        await fill(backend)
        waiting = backend.query(EVERYTHING, ask(backend, as_of=8))
        await delete(backend, "a", 9)
        await store(backend, [row(10, "a")])
        late = await backend.query(EVERYTHING, ask(backend))
        assert revs(late.rows) == [2, 4, 6, 8, 10]
        log = await backend.replay(EVERYTHING, ask_log(backend))
        assert revs(log.rows) == [2, 4, 6, 8, 10]
        assert await backend.at(3, backend.take_moment(AS_OF)) is None
        waiting.close()

    async def test_all_pages_of_a_held_moment_are_whole_or_refused(
        self, backend: PersistenceBackend
    ) -> None:
        await fill(backend)
        params = ask(backend, as_of=8, page=TWO_ROWS)
        first = await backend.query(EVERYTHING, params)
        await delete(backend, "a", 9)
        await store(backend, [row(10, "a")])
        await settle(backend)
        rows, page = list(first.rows), first
        while page.next is not None and len(rows) <= 8:
            params = msgspec.structs.replace(params, page_cursor=page.next)
            following = await unless_expired(backend.query(EVERYTHING, params))
            if following is None:
                return
            assert following.rows, "a page that leads on has a row at least"
            page = following
            rows += page.rows
        assert revs(rows) == list(range(1, 9))

    async def test_a_page_is_refused_when_rows_that_were_to_come_are_gone(
        self, backend: PersistenceBackend
    ) -> None:
        await fill(backend)
        first = await backend.query(EVERYTHING, ask(backend, as_of=8, page=TWO_ROWS))
        await delete(backend, "a", 9)
        for pattern in ("#", "a", "a*"):
            answer = read_on(backend, pattern, first.next)
            assert await reason_of(answer) is Reason.EXPIRED, pattern
        assert revs(await read_on(backend, "b", first.next)) == [4, 6, 8]

    async def test_what_went_before_the_first_page_refuses_none(
        self, backend: PersistenceBackend
    ) -> None:
        await fill(backend)
        await delete(backend, "a", 9)
        first = await backend.query(EVERYTHING, ask(backend, as_of=9, page=TWO_ROWS))
        await store(backend, [row(10, "c")])
        await delete(backend, "c", 11)
        second = await read_on(backend, "#", first.next)
        assert revs([*first.rows, *second]) == [2, 4, 6, 8]

    async def test_a_page_is_whole_when_only_rows_that_it_had_are_gone(
        self, backend: PersistenceBackend
    ) -> None:
        rows = [row(n, "a") for n in range(1, 5)] + [row(n, "b") for n in range(5, 11)]
        await store(backend, rows)
        await settle(backend)
        to_the_last_that_goes = PageLimits(4, 1 << 20)
        params = ask(backend, as_of=10, page=to_the_last_that_goes)
        first = await backend.query(EVERYTHING, params)
        await delete(backend, "a", 11)
        second = await read_on(backend, "#", first.next)
        assert revs([*first.rows, *second]) == list(range(1, 11))

    async def test_rows_that_are_younger_than_a_query_may_go_without_harm_to_it(
        self, backend: PersistenceBackend
    ) -> None:
        await fill(backend)
        first = await backend.query(EVERYTHING, ask(backend, as_of=8, page=TWO_ROWS))
        waiting = backend.query(EVERYTHING, ask(backend, as_of=8))
        log = backend.replay(EVERYTHING, ask_log(backend, as_of=8))
        await store(backend, [row(9, "c"), row(10, "c")])
        await delete(backend, "c", 11)
        assert revs((await waiting).rows) == revs((await log).rows) == list(range(1, 9))
        second = await read_on(backend, "#", first.next)
        assert revs([*first.rows, *second]) == list(range(1, 9))

    async def test_a_page_says_from_when_on_it_is_whole(self, backend: PersistenceBackend) -> None:
        """What went before a page was read concerns nobody who goes on behind it."""
        await fill(backend)
        only_b = compile_patterns("b")
        first = await backend.query(only_b, ask(backend, as_of=8, page=TWO_ROWS))
        await delete(backend, "a", 9)
        one_row = ask(backend, page_cursor=first.next, page=PageLimits(1, 1 << 20))
        second = await backend.query(only_b, one_row)
        third = await read_on(backend, "#", second.next)
        assert revs([*first.rows, *second.rows, *third]) == [2, 4, 6, 8]

    async def test_a_page_that_is_read_late_is_whole_from_its_moment_on(
        self, backend: PersistenceBackend
    ) -> None:
        """What went between its turn and its reading is missing behind it."""
        await fill(backend)
        waiting = backend.query(compile_patterns("b"), ask(backend, as_of=8, page=TWO_ROWS))
        await delete(backend, "a", 9)
        first = await waiting
        assert revs(first.rows) == [2, 4]
        rest = await unless_expired(read_on(backend, "#", first.next))
        assert rest is None or revs(rest) == [5, 6, 7, 8]


async def _row_or_expired(answer: Awaitable[Row | None]) -> None:
    """Check that a row of `a` is found, or refused as it may be; `at` says None for neither."""
    try:
        found = await answer
    except RequestError as error:
        if error.reason is not Reason.EXPIRED:
            raise
    else:
        assert found is not None, "left out in silence"
        assert found.name == "a"
