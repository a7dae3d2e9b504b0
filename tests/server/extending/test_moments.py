"""One moment: whoever's turn came sees what there was, or is refused; both backends."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recordd.conformance.moments import TWO_ROWS, fill
from recordd.conformance.support import (
    AS_OF,
    EVERYTHING,
    ask,
    ask_log,
    delete,
    reason_of,
    revs,
    row,
    settle,
    store,
)
from recordd.extending.backend import (
    CleanupTarget,
    QueryParams,
    ReplayParams,
)
from recordd.extending.moments import Gone, Moment, Moments
from recordd.extending.paging import PageLimits
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import PatternSet, compile_patterns
from tests.server.backends import FullBackend, sqlite_options


async def clean_up(backend: FullBackend, name: str, older_than_ms: int) -> None:
    await settle(backend)
    await backend.cleanup([CleanupTarget(name, older_than_ms, None, True)], 100)


async def test_readers_from_before_a_deletion_see_every_row_and_those_after_it_none(
    backend: FullBackend,
) -> None:
    await fill(backend)
    moment = backend.take_moment(8)
    query = backend.query(EVERYTHING, ask(backend, as_of=8))
    named = backend.query(compile_patterns("a"), ask(backend, as_of=8))
    replay = backend.replay(EVERYTHING, ask_log(backend, as_of=8))
    wild = backend.replay(compile_patterns("a*"), ask_log(backend, as_of=8))
    at = backend.at(3, moment)
    await delete(backend, "a", 9)
    await store(backend, [row(10, "a"), row(11, "c")])
    await settle(backend)
    assert revs((await query).rows) == list(range(1, 9))
    assert revs((await named).rows) == [1, 3, 5, 7]
    assert revs((await replay).rows) == list(range(1, 9))
    assert revs((await wild).rows) == [1, 3, 5, 7]
    found = await at
    assert found is not None
    assert found.name == "a"
    late = await backend.query(EVERYTHING, ask(backend))
    assert revs(late.rows) == [2, 4, 6, 8, 10, 11]
    assert await backend.at(3, backend.take_moment(AS_OF)) is None


async def test_a_moment_that_is_held_shows_deleted_records_on_all_its_pages(
    backend: FullBackend,
) -> None:
    await fill(backend)
    params = ask(backend, as_of=8, page=TWO_ROWS)
    first = await backend.query(EVERYTHING, params)
    await delete(backend, "a", 9)
    await store(backend, [row(10, "a")])
    await settle(backend)
    rows, page = list(first.rows), first
    while page.next is not None:
        page = await backend.query(
            EVERYTHING, msgspec.structs.replace(params, page_cursor=page.next)
        )
        rows += page.rows
    assert revs(rows) == list(range(1, 9))


async def test_readers_from_before_a_retention_see_every_row_or_are_refused(
    backend: FullBackend,
) -> None:
    await fill(backend)
    moment = backend.take_moment(8)
    concerned: list[Awaitable[Any]] = [
        backend.query(EVERYTHING, ask(backend, as_of=8)),
        backend.query(compile_patterns("a"), ask(backend, as_of=8, start=40, end=60)),
        backend.replay(EVERYTHING, ask_log(backend, as_of=8)),
        backend.at(3, moment),
    ]
    spared = [
        backend.query(compile_patterns("b"), ask(backend, as_of=8)),
        backend.query(compile_patterns("a"), ask(backend, as_of=8, start=60)),
        backend.replay(EVERYTHING, ask_log(backend, after_rev=5, as_of=8)),
        backend.replay(compile_patterns("b"), ask_log(backend, as_of=8)),
    ]
    await clean_up(backend, "a", 60)
    if isinstance(backend, SqliteBackend):
        for answer in concerned:
            assert await reason_of(answer) is Reason.EXPIRED
    else:
        whole, part, log, one = [await answer for answer in concerned]
        assert revs(whole.rows) == revs(log.rows) == list(range(1, 9))
        assert (revs(part.rows), one.rev) == ([5], 3)
    assert [revs((await answer).rows) for answer in spared] == [
        [2, 4, 6, 8], [7], [6, 7, 8], [2, 4, 6, 8],
    ]  # fmt: skip


async def test_rows_of_a_deleted_record_go_when_the_last_reader_from_before_has_gone(
    backend: FullBackend,
) -> None:
    await fill(backend)
    first = backend.take_moment(8)
    await delete(backend, "a", 9)
    second = backend.take_moment(9)
    await delete(backend, "b", 10)
    await settle(backend)
    both = await backend.replay(EVERYTHING, ask_log_at(first))
    only_b = await backend.replay(EVERYTHING, ask_log_at(second))
    assert (len(both.rows), len(only_b.rows)) == (8, 4)
    del first
    await settle(backend)
    assert revs((await backend.query(EVERYTHING, ask_at(second))).rows) == [2, 4, 6, 8]
    del second
    await settle(backend)
    if isinstance(backend, SqliteBackend):
        assert backend._writer is not None
        assert await backend._writer.run(lambda db: db.execute("SELECT * FROM log").get) is None
    else:
        assert backend.statistics()["rows"] == 0


def ask_log_at(moment: Moment) -> ReplayParams:
    return ReplayParams(moment=moment, after_rev=0, page=PageLimits(100, 1 << 20))


def ask_at(moment: Moment) -> QueryParams:
    return QueryParams(moment=moment, page=PageLimits(100, 1 << 20))


def is_refused(moments: Moments, name: str, *, since: int, behind: int) -> bool:
    patterns: PatternSet = compile_patterns(name)
    try:
        moments.check_page(
            patterns, since=since, until=moments.tick, behind=(behind, 0), end_ms=None, as_of=100
        )
    except RequestError:
        return True
    return False


def test_what_is_forgotten_may_have_been_anybodys_rows() -> None:
    moments = Moments(max_names=2)
    for n, name in enumerate("abc", 1):
        moments.note_deletion(Gone(name, (n * 10, n), n, n))
    assert is_refused(moments, "x", since=0, behind=9)
    assert not is_refused(moments, "x", since=0, behind=11)
    assert not is_refused(moments, "x", since=1, behind=9)
    assert is_refused(moments, "c", since=1, behind=9)


def test_too_many_names_to_match_are_taken_for_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recordd.extending.moments._MAX_MATCHES", 4)
    moments = Moments()
    for n in range(1, 6):
        moments.note_deletion(Gone(f"gone.{n}", (n * 10, n), n, n))
    assert is_refused(moments, "kept.*", since=0, behind=0)
    assert not is_refused(moments, "kept.*", since=1, behind=0)
    assert not is_refused(moments, "kept.*", since=0, behind=11)
    assert not is_refused(moments, "kept.a", since=0, behind=0)
    assert is_refused(moments, "gone.3", since=0, behind=0)


def test_what_went_before_the_start_is_known_by_its_tick_alone() -> None:
    moments = Moments(tick=7)
    assert is_refused(moments, "x", since=6, behind=1 << 62)
    assert not is_refused(moments, "x", since=7, behind=0)


async def test_a_cursor_survives_a_restart_only_if_nothing_went_since(tmp_path: Path) -> None:
    options = sqlite_options(tmp_path / "a.db")
    backend = SqliteBackend(options)
    await backend.initialize()
    await fill(backend)
    await delete(backend, "a", 9)
    first = await backend.query(EVERYTHING, ask(backend, as_of=9, page=TWO_ROWS))
    await backend.close()
    backend = SqliteBackend(options)
    await backend.initialize()
    second = await backend.query(EVERYTHING, ask(backend, page_cursor=first.next, page=TWO_ROWS))
    assert revs(first.rows + second.rows) == [2, 4, 6, 8]
    await clean_up(backend, "b", 30)
    await backend.close()
    backend = SqliteBackend(options)
    await backend.initialize()
    with pytest.raises(RequestError, match="deleted after"):
        await backend.query(EVERYTHING, ask(backend, page_cursor=first.next))
    await backend.close()
