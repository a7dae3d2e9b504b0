"""Answers that are kept: the same bytes as an answer made anew, whatever happened between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd.extending.paging import PageLimits, end_of_page
from recordd.hub import rendered
from recordd.hub.rendered import RenderedAnswers
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rendering import render_page
from recordd_protocol.rows import Page, Row
from tests.server.commits import publish
from tests.server.hub.test_views import NAMES, PATTERNS, Doer

ROOMY = PageLimits(1000, 1 << 20)


class Asker:
    """Asks for patterns and compares, with a hub that others change."""

    def __init__(self, limits: PageLimits = ROOMY, max_bytes: int = 1 << 20) -> None:
        self.doer = Doer()
        self.limits = limits
        self.answers = RenderedAnswers(self.doer.hub.catalogue, limits, max_bytes)
        self.found = 0

    def ask(self, texts: str | list[str]) -> Page:
        """Return the answer, kept or made, which is compared with one that is made."""
        patterns, catalogue = compile_patterns(texts), self.doer.hub.catalogue
        rows = catalogue.latest(patterns)
        expected = Page(rows, rev=catalogue.rev, epoch=catalogue.epoch)
        page = self.answers.find(patterns)
        is_whole = end_of_page(rows, 0, self.limits) == len(rows)
        if page is None:
            page = self.answers.keep(patterns, rows) if is_whole else expected
        else:
            self.found += 1
            assert is_whole
        assert render_page(page) == render_page(expected)
        assert page.rows == rows
        self.check_memory()
        return page

    def check_memory(self) -> None:
        kept = self.answers._answers.values()
        assert self.answers._memory == sum(answer.memory for answer in kept)
        assert self.answers._memory <= self.answers._max_bytes


doings = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "delete", "ask"]), st.integers(0, 6), st.integers(1, 9)
    ),
    max_size=40,
)


@given(doings)
@pytest.mark.parametrize("limits", [ROOMY, PageLimits(3, 1 << 20), PageLimits(9, 150)])
@pytest.mark.parametrize("few_changes", [0, 100])
def test_a_kept_answer_is_what_one_made_anew_is(
    few_changes: int, limits: PageLimits, doings: list[tuple[str, int, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendered, "_FEW_CHANGES", few_changes)
        asker = Asker(limits)
        for doing, which, ts in doings:
            if doing == "set":
                asker.doer.set(NAMES[which], ts)
            elif doing == "delete":
                asker.doer.delete(NAMES[which], ts)
            else:
                asker.ask(PATTERNS[which])
        for texts in PATTERNS:
            asker.ask(texts)


def test_what_is_asked_for_again_is_found_though_rows_changed_and_came() -> None:
    asker = Asker()
    for n in range(100):
        asker.doer.set(f"r.{n}", n + 1)
    asker.ask("r.*")
    for n in (5, 99, 5, 0):
        asker.doer.set(f"r.{n}", 200)
        asker.doer.set(f"r.{n}.not", 1)
        asker.doer.set(f"r.new{n}", 50)
        asker.doer.set("r.7", 3)  # late: the latest stays
        asker.ask("r.*")
    assert asker.found == 4


def test_an_answer_that_was_given_stays_as_it_was() -> None:
    asker = Asker()
    for n in range(3):
        asker.doer.set(f"r.{n}", n + 1)
    pages = [asker.ask("#")]
    shared = asker.doer.hub.catalogue.latest(compile_patterns("#"))
    before = [(render_page(pages[0]), list(shared))]
    for value in (8, 9):  # the second one follows an answer that was patched
        asker.doer.set("r.1", value)
        pages.append(asker.ask("#"))
        before.append((render_page(pages[-1]), list(pages[-1].rows)))
    assert [(render_page(page), page.rows) for page in pages] == before
    assert shared == before[0][1]


def test_after_many_changes_it_is_made_anew() -> None:
    asker = Asker()
    for n in range(200):
        asker.doer.set(f"r.{n}", n + 1)
    asker.ask("#")
    for n in range(42):
        asker.doer.set(f"r.{n}", 300)
    asker.ask("#")
    assert asker.found == 0
    for n in range(42):
        asker.doer.set(f"x.{n}" if n else "r.1", 300)
    asker.ask("r.#")
    assert asker.found == 0


def test_records_without_an_order_among_them_keep_their_places() -> None:
    asker = Asker()
    names = [f"r.{n}" for n in range(20)]
    publish(asker.doer.hub, [Row(name, b"1", 5, None) for name in names])
    asker.answers.keep(
        compile_patterns("#"), asker.doer.hub.catalogue.latest(compile_patterns("#"))
    )
    for name in ("r.7", "r.0", "r.7"):
        publish(asker.doer.hub, [Row(name, b"2", 5, None)])
        page = asker.answers.find(compile_patterns("#"))
        assert page is not None
        assert [row.name for row in page.rows] == names
        state = asker.doer.hub.catalogue.get(name)
        assert [row for row in page.rows if row.name == name] == [state.latest]
        bodies = [row.body for row in page.rows]
        assert page.texts == [b"{%b}" % b"},{".join(bodies)]


def test_only_what_takes_little_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered, "_FEW_ROWS", 2)
    asker = Asker()
    for n in range(3):
        asker.doer.set(f"r.{n}", n + 1)
    every, two = compile_patterns("#"), compile_patterns(["r.0", "r.1"])
    assert asker.answers.find_soon(every) is None
    asker.ask("#")
    asker.ask(["r.0", "r.1"])
    assert asker.answers.find_soon(every) is not None
    asker.doer.set("r.0", 9)
    assert asker.answers.find_soon(every) is None
    assert asker.answers.find_soon(two) is not None
    asker.ask("#")
    assert asker.answers.find_soon(every) is not None


def test_what_is_kept_is_bounded_and_the_least_recently_asked_for_goes() -> None:
    asker = Asker(max_bytes=20_000)
    for n in range(4):
        asker.doer.set(f"r.{n}", n + 1)
    for n in range(10):
        asker.ask("*" * (n + 1) + ".*")
        asker.ask("*.*")
    assert asker.found == 10
    assert 2 <= len(asker.answers._answers) < 10
    asker.doer.rev += 1
    publish(asker.doer.hub, [Row("r.large", b"1" * 4000, 9, asker.doer.rev)])
    asker.ask("#")
    assert ("#",) not in asker.answers._answers
