"""Both backends beside one another: their `next`, and the same answers whatever was done before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recordd.conformance.support import AS_OF, EVERYTHING, all_rows, ask, revs, row, settle
from recordd.extending.backend import (
    CleanupTarget,
    PageLimits,
)
from recordd.persistence.memory import MemoryBackend
from recordd_protocol.errors import Reason, RequestError
from tests.server.backends import FullBackend, make_full_backend, sqlite_options
from tests.server.commits import delete, store


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
            await backend.query(EVERYTHING, ask(backend, page_cursor=forged))
        assert caught.value.reason is Reason.INVALID_PARAMS, forged
    foreign = f"{form}.{ts}.{rev}.{as_of}.{tick}.another"
    with pytest.raises(RequestError) as caught:
        await backend.query(EVERYTHING, ask(backend, page_cursor=foreign))
    assert caught.value.reason is Reason.EXPIRED


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


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
            revs(await all_rows(backend, ask(backend, *question, page=limits)))
            for backend in (real, model)
        ]
        assert answers[0] == answers[1]
    finally:
        await real.close()
