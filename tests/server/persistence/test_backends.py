"""What every backend promises: one suite, run on each that ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recordd.extending.backend import (
    BackendShutdown,
    CleanupTarget,
    PageLimits,
    Purged,
    QueryParams,
)
from recordd.extending.commit import Renewal
from recordd.persistence.memory import MemoryBackend
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import Page, Row
from tests.server.backends import FullBackend, make_full_backend, sqlite_options
from tests.server.commits import delete, store
from tests.server.rows import AS_OF, ask, ask_log, revs, row, settle

EVERYTHING = compile_patterns("#")


async def all_pages(backend: FullBackend, params: QueryParams) -> list[Row]:
    rows: list[Row] = []
    while True:
        page = await backend.query(EVERYTHING, params)
        rows += page.rows
        if page.next is None:
            return rows
        moment = backend.take_moment(AS_OF)
        params = msgspec.structs.replace(params, moment=moment, after=page.next)


async def test_a_stored_row_is_read_back_whole(backend: FullBackend) -> None:
    stored = Row("ä.b", '{"x":[1.50,"ü"]}'.encode(), 1234, 1)
    await store(backend, [stored])
    (found,) = (await backend.query(EVERYTHING, ask(backend))).rows
    assert (found.name, found.value, found.ts, found.rev) == ("ä.b", stored.value, 1234, 1)


async def test_latest_is_the_greatest_time_then_the_greatest_rev(
    backend: FullBackend,
) -> None:
    await store(backend, [row(1, ts=50), row(2, ts=90), row(3, ts=90), row(4, ts=60)])
    assert revs((await backend.query(EVERYTHING, ask(backend, 1))).rows) == [3]


async def test_a_range_is_inclusive_and_a_limit_takes_the_newest(
    backend: FullBackend,
) -> None:
    await store(backend, [row(n) for n in range(1, 11)])
    await settle(backend)
    assert revs((await backend.query(EVERYTHING, ask(backend, start=30, end=50))).rows) == [3, 4, 5]
    assert revs((await backend.query(EVERYTHING, ask(backend, 2, start=30, end=50))).rows) == [4, 5]
    assert revs((await backend.query(EVERYTHING, ask(backend, 3))).rows) == [8, 9, 10]


async def test_rows_of_several_records_come_in_time_order(backend: FullBackend) -> None:
    await store(backend, [row(1, "a", 30), row(2, "b", 10), row(3, "a", 20), row(4, "c", 20)])
    assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [2, 3, 4, 1]
    both = compile_patterns(["a", "b*"])
    assert revs((await backend.query(both, ask(backend))).rows) == [2, 3, 1]


async def test_pages_join_without_gap_or_repeat(backend: FullBackend) -> None:
    await store(backend, [row(n, "ab"[n % 2], ts=n // 3) for n in range(1, 40)])
    await settle(backend)
    await store(backend, [row(n, "abc"[n % 3], ts=n // 5) for n in range(40, 60)])
    whole = revs((await backend.query(EVERYTHING, ask(backend))).rows)
    assert revs(await all_pages(backend, ask(backend, page=PageLimits(7, 1 << 20)))) == whole
    by_size = PageLimits(1000, 3 * (len(row(59).body) + 3))
    assert revs(await all_pages(backend, ask(backend, page=by_size))) == whole
    newest = revs((await backend.query(EVERYTHING, ask(backend, 9))).rows)
    assert revs(await all_pages(backend, ask(backend, 9, page=PageLimits(4, 1 << 20)))) == newest


async def test_rows_after_the_first_page_are_not_in_the_others(backend: FullBackend) -> None:
    await store(backend, [row(n) for n in range(1, 11)])
    first = await backend.query(EVERYTHING, ask(backend, 5, as_of=10, page=PageLimits(3, 1 << 20)))
    await store(backend, [row(n) for n in range(11, 30)])
    await settle(backend)
    second = await backend.query(EVERYTHING, ask(backend, 5, after=first.next))
    assert revs(first.rows + second.rows) == [6, 7, 8, 9, 10]


async def test_a_query_sees_no_row_after_its_moment(backend: FullBackend) -> None:
    await store(backend, [row(n) for n in range(1, 11)])
    assert revs((await backend.query(EVERYTHING, ask(backend, as_of=4))).rows) == [1, 2, 3, 4]
    await settle(backend)
    assert revs((await backend.query(EVERYTHING, ask(backend, 2, as_of=4))).rows) == [3, 4]


async def test_a_forged_cursor_is_refused(backend: FullBackend) -> None:
    await store(backend, [row(n) for n in range(1, 4)])
    first = await backend.query(EVERYTHING, ask(backend, page=PageLimits(1, 1 << 20)))
    assert first.next is not None
    form, ts, rev, as_of, tick, epoch = first.next.split(".")
    forgeries = [
        "", "x", "1.2", "1.2.3.4", f"log.1.{epoch}", f"latest.{ts}.{rev}.{as_of}.{tick}.{epoch}",
        f"{form}.-1.{rev}.{as_of}.{tick}.{epoch}", f"{form}.{ts}.{'9' * 30}.{as_of}.{tick}.{epoch}",
        f"{form}.{'9' * 19}.{rev}.{as_of}.{tick}.{epoch}", f"{form}.{ts}.3.2.{tick}.{epoch}",
        f"{form}.{ts}.{rev}.{AS_OF + 1}.{tick}.{epoch}", f"{form}.{ts}.{rev}.{as_of}.9.{epoch}",
    ]  # fmt: skip
    for forged in forgeries:
        with pytest.raises(RequestError) as caught:
            await backend.query(EVERYTHING, ask(backend, after=forged))
        assert caught.value.reason is Reason.INVALID_PARAMS, forged
    foreign = f"{form}.{ts}.{rev}.{as_of}.{tick}.another"
    with pytest.raises(RequestError) as caught:
        await backend.query(EVERYTHING, ask(backend, after=foreign))
    assert caught.value.reason is Reason.EXPIRED


async def test_replay_is_the_log_in_commit_order(backend: FullBackend) -> None:
    await store(backend, [row(n, "ab"[n % 2], ts=100 - n) for n in range(1, 9)])

    async def replay(pattern: str, after: int, as_of: int = 8, limit: int | None = None) -> Page:
        return await backend.replay(
            compile_patterns(pattern), ask_log(backend, after, as_of, limit)
        )

    assert revs((await replay("#", 0)).rows) == list(range(1, 9))
    assert revs((await replay("b", 2)).rows) == [3, 5, 7]
    assert revs((await replay("#", 2, as_of=4)).rows) == [3, 4]
    page = await replay("#", 3, limit=2)
    assert revs(page.rows) == [4, 5]
    assert page.next is not None
    assert revs((await replay("#", int(page.next.split(".")[1]))).rows) == [6, 7, 8]


async def test_at_finds_one_row_by_its_commit_number(backend: FullBackend) -> None:
    await store(backend, [row(1), row(2, "b")])
    found = await backend.at(2, backend.take_moment(AS_OF))
    assert found is not None
    assert found.body == row(2, "b").body
    assert await backend.at(3, backend.take_moment(AS_OF)) is None


async def test_a_deleted_record_is_gone_and_its_name_starts_anew(
    backend: FullBackend,
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


async def test_cleanup_takes_what_is_old_but_never_the_latest(backend: FullBackend) -> None:
    await store(backend, [row(n) for n in range(1, 6)])
    await settle(backend)
    deleted, done = await backend.cleanup([CleanupTarget("a", 40, None, True)], 100)
    assert (deleted, done) == ({"a": Purged(3, 3)}, 1)
    deleted, done = await backend.cleanup([CleanupTarget("a", 1000, None, True)], 100)
    assert (deleted, done) == ({"a": Purged(1, 4)}, 1)
    assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [5]
    deleted, done = await backend.cleanup([CleanupTarget("a", 1000, None, False)], 100)
    assert (deleted, done) == ({"a": Purged(0, 0, True)}, 1)


async def test_cleanup_keeps_the_newest_of_too_many(backend: FullBackend) -> None:
    await store(backend, [row(n) for n in range(1, 11)])
    await settle(backend)
    deleted, _ = await backend.cleanup([CleanupTarget("a", None, 4, True)], 100)
    assert deleted == {"a": Purged(6, 6)}
    assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [7, 8, 9, 10]


async def test_cleanup_stops_at_its_limit_and_says_how_far_it_came(
    backend: FullBackend,
) -> None:
    await store(backend, [row(n, "ab"[n % 2]) for n in range(1, 21)])
    await settle(backend)
    targets = [CleanupTarget(name, 1000, None, True) for name in ("a", "b")]
    deleted, done = await backend.cleanup(targets, 12)
    assert (deleted, done) == ({"a": Purged(9, 18), "b": Purged(3, 5)}, 1)
    deleted, done = await backend.cleanup(targets[done:], 12)
    assert (deleted, done) == ({"b": Purged(6, 17)}, 1)


async def test_cleanup_takes_what_is_ahead_of_a_time_oldest_first(
    backend: FullBackend,
) -> None:
    await store(backend, [row(n) for n in range(1, 7)])
    await settle(backend)
    ahead = CleanupTarget("a", None, None, False, newer_than_ms=20)
    deleted, done = await backend.cleanup([ahead], 3)
    assert (deleted, done) == ({"a": Purged(3, 5)}, 0)
    deleted, done = await backend.cleanup([ahead], 3)
    assert (deleted, done) == ({"a": Purged(1, 6)}, 1)
    assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [1, 2]
    assert await backend.cleanup([ahead], 3) == ({}, 1)


async def test_a_renewal_replaces_the_newest_row_by_an_older_one(backend: FullBackend) -> None:
    await store(backend, [row(n) for n in range(1, 7)])
    await settle(backend)
    ahead = CleanupTarget("a", None, None, True, newer_than_ms=20)
    assert await backend.cleanup([ahead], 100) == ({"a": Purged(3, 5)}, 1)
    again = Row("a", row(2).value, 20, 1000)
    await backend.apply([Renewal(0, 20, replaced_ts=60, replaced_rev=6, row=again)], 1000)
    page = await backend.query(EVERYTHING, ask(backend))
    assert [(r.rev, r.ts, r.value) for r in page.rows] == [
        (n, found.ts, found.value) for n, found in ((1, row(1)), (2, row(2)), (1000, row(2)))
    ]
    await store(backend, [row(1001)])
    assert (await backend.at(1000, backend.take_moment(AS_OF))) is not None


async def test_a_closed_backend_says_so(backend: FullBackend) -> None:
    await backend.close()
    await backend.close()
    with pytest.raises(BackendShutdown):
        await store(backend, [row(1)])


async def test_statistics_name_the_backend(backend: FullBackend) -> None:
    assert backend.statistics()["backend"] in ("sqlite", "memory")


steps = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), min_size=1, max_size=6)),
        st.tuples(st.just("maintain"), st.booleans()),
        st.tuples(st.just("delete"), st.sampled_from("abc")),
        st.tuples(st.just("cleanup"), st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(1, 5))),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=25,
)  # fmt: skip
questions = st.tuples(
    st.none() | st.integers(1, 4), st.none() | st.integers(0, 30), st.none() | st.integers(0, 30)
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps, question=questions, page_rows=st.integers(1, 20))
def test_sqlite_answers_as_the_simple_backend_does(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, object]],
    question: tuple[int | None, int | None, int | None],
    page_rows: int,
) -> None:
    """The property behind the rest: whatever was done before, both give the same rows."""
    import trio

    folder = tmp_path_factory.mktemp("model")
    trio.run(_compare, folder, steps, question, page_rows)


async def _compare(
    folder: Path,
    steps: list[tuple[str, object]],
    question: tuple[int | None, int | None, int | None],
    page_rows: int,
) -> None:
    options = sqlite_options(folder / "test.db", tail_rows=5)
    make: Callable[[], FullBackend] = lambda: make_full_backend("sqlite", options)  # noqa: E731
    model, real = MemoryBackend(), make()
    await real.initialize()
    last = 0
    try:
        for step, argument in steps:
            names = {r.name for r in (await model.query(EVERYTHING, ask(model))).rows}
            if step == "store":
                pairs: list[tuple[str, int]] = argument  # type: ignore[assignment]
                batch = [row(last + i, name, ts) for i, (name, ts) in enumerate(pairs, 1)]
                last += len(batch)
                await store(model, batch)
                await store(real, batch)
            elif step == "maintain":
                await real.maintain(AS_OF if argument else 0)
            elif step == "delete" and argument in names:
                last += 1
                await delete(model, str(argument), last)
                await delete(real, str(argument), last)
            elif step == "cleanup":
                bounds: tuple[str, int, int] = argument  # type: ignore[assignment]
                target = CleanupTarget(*bounds, True)
                await settle(real)
                assert await real.cleanup([target], 100) == await model.cleanup([target], 100)
            elif step == "reopen":
                await real.close()
                real = make()
                loaded = await real.initialize()
                rows = (await model.query(EVERYTHING, ask(model))).rows
                assert sum(record.rows for record in loaded.records) == len(rows)
                latest = (await model.query(EVERYTHING, ask(model, 1))).rows
                assert {r.latest.rev for r in loaded.records} == {r.rev for r in latest}
                assert loaded.rev == last or not rows or loaded.rev >= max(r.rev or 0 for r in rows)
        limits = PageLimits(page_rows, 1 << 20)
        answers = [
            revs(await all_pages(backend, ask(backend, *question, page=limits)))
            for backend in (real, model)
        ]
        assert answers[0] == answers[1]
    finally:
        await real.close()
