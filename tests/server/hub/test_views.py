"""Views: the same as looking at every record, whatever comes and goes between two steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recordd.config.rules import read_rules
from recordd.hub import views
from recordd.hub.hub import Hub
from recordd_protocol.patterns import Pattern, PatternSet, compile_patterns
from recordd_protocol.rows import Row, RowKind
from tests.server.commits import publish

NAMES = ["a", "a.b", "b.b", "b", "a.b.c", "c.b", "c"]
PATTERNS: list[str | list[str]] = ["#", "a.#", "*.b", "a", ["a", "c"], ["b", "*.b"], "a.*.c"]


def make_hub() -> Hub:
    rules = read_rules([], default_retention_ms=None, max_capacity=10)
    return Hub(rules, max_records=1 << 30)


class Doer:
    """Does to a hub what is drawn, by number."""

    def __init__(self) -> None:
        self.hub = make_hub()
        self.rev = 0
        self.working: list[Iterator[None]] = []

    def set(self, name: str, ts: int) -> None:
        self.rev += 1
        state = self.hub.catalogue.find(name)
        is_late = state is not None and ts < state.latest.ts
        publish(
            self.hub, [Row(name, b"1", ts, self.rev, RowKind.LATE if is_late else RowKind.LATEST)]
        )

    def delete(self, name: str, ts: int) -> None:
        if self.hub.catalogue.find(name) is not None:
            self.rev += 1
            self.hub.remove(Row(name, b"null", ts, self.rev, RowKind.DELETED))

    def begin(self, which: int) -> None:
        self.working.append(self.hub.catalogue.prepare_latest(compile_patterns(PATTERNS[which])))

    def step(self) -> None:
        for steps in self.working:
            next(steps, None)

    def check(self) -> None:
        for texts in PATTERNS:
            patterns = compile_patterns(texts)
            expected = [s for s in self.hub.catalogue.states_after(-1) if patterns.matches(s.name)]
            rows = sorted([state.latest for state in expected], key=lambda row: row.order)
            assert self.hub.catalogue.latest(patterns) == rows
            found = self.hub.catalogue.match(patterns)
            assert sorted(state.record_id for state in found) == [s.record_id for s in expected]


doings = st.lists(
    st.tuples(
        st.sampled_from(["set", "delete", "begin", "step", "check"]),
        st.integers(0, 6),
        st.integers(1, 9),
    ),
    max_size=40,
)


@pytest.fixture(scope="module", autouse=True)
def _short_steps() -> Iterator[None]:
    """So short that a few records make many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "_NAMES_A_STEP", 1)
        patch.setattr(views, "_RUN", 2)
        yield


# Sorted by another while it is sorted in runs.
@example(
    [("set", 0, 1), ("set", 1, 2), ("set", 2, 1), ("begin", 0, 1), ("step", 0, 1), ("check", 0, 1), ("step", 0, 1), ("step", 0, 1)]
)  # fmt: skip
@given(doings)
def test_a_view_is_what_matches_now(doings: list[tuple[str, int, int]]) -> None:
    doer = Doer()
    for doing, which, ts in doings:
        if doing == "set":
            doer.set(NAMES[which], ts)
        elif doing == "delete":
            doer.delete(NAMES[which], ts)
        elif doing == "begin":
            doer.begin(which)
        elif doing == "step":
            doer.step()
        else:
            doer.check()
    doer.check()


def test_a_record_that_comes_is_the_only_one_matched() -> None:
    matched: list[str] = []

    class NotedPattern(Pattern):
        __slots__ = ()

        def matches(self, name: str) -> bool:
            matched.append(name)
            return super().matches(name)

    doer = Doer()
    for n in range(50):
        doer.set(f"r.{n}", n)
    patterns = PatternSet([NotedPattern("r.*")])
    assert len(doer.hub.catalogue.match(patterns)) == 50
    matched.clear()
    doer.set("r.new", 1)
    doer.delete("r.0", 1)
    assert len(doer.hub.catalogue.match(patterns)) == 50
    assert matched == ["r.new"]


def test_what_all_views_hold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_MAX_POINTERS", 100)
    doer = Doer()
    for n in range(30):
        doer.set(f"r.{n}", n)
    for n in range(1, 20):
        doer.hub.catalogue.match(compile_patterns("r" + "*" * n + ".*"))
    assert len(doer.hub.catalogue._views._views) <= 5
