"""Results as JSON text: what is spliced is what the types say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from recordd_protocol.methods import Counts, Record, Records
from recordd_protocol.rendering import render_page, render_result, render_row, render_topics
from recordd_protocol.rows import Page, Row

ROWS = [Row("a::x", b'{"t":1.0}', 5, 7), Row("b", b"null", 6, None)]


def records(page: Page) -> Records:
    return msgspec.json.decode(render_page(page), type=Records)


def test_a_row_is_a_record_with_its_value_as_it_was_written() -> None:
    assert render_row(ROWS[0]) == b'{"name":"a::x","value":{"t":1.0},"ts":5,"rev":7}'
    assert msgspec.json.decode(render_row(ROWS[1]), type=Record).rev is None


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS])
def test_a_page_has_its_rows_in_order(rows: list[Row]) -> None:
    page = records(Page(rows, rev=9, epoch='e"'))
    assert [row.name for row in page.records] == [row.name for row in rows]
    assert (page.rev, page.epoch, page.next, page.total) == (9, 'e"', msgspec.UNSET, msgspec.UNSET)


def test_a_page_tells_where_the_next_one_starts_and_what_is_gone() -> None:
    page = records(Page(ROWS, rev=9, epoch="e", next='n"', oldest_rev=3))
    assert (page.next, page.gap, page.oldest_rev) == ('n"', True, 3)


@pytest.mark.parametrize(("total", "truncated"), [(None, None), (2, None), (3, True)])
def test_one_answer_without_pages_says_whether_rows_are_missing(
    total: int | None, truncated: bool | None
) -> None:
    page = Page(ROWS, rev=9, epoch="e", total=total)
    found = msgspec.json.decode(render_page(page))
    assert (found.get("total"), found.get("truncated")) == (total, truncated)
    topics = msgspec.json.decode(render_topics(page))
    assert (topics["total"], topics.get("truncated")) == (total or 2, truncated)


def test_topics_are_named_as_aimdb_names_them() -> None:
    assert render_topics(Page(ROWS[:1], rev=9, epoch="e")) == (
        b'{"records":[{"topic":"a::x","payload":{"t":1.0},"ts":5}],"total":1}'
    )


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (b'["as it is"]', b'["as it is"]'),
        (ROWS[1], b'{"name":"b","value":null,"ts":6,"rev":null}'),
        (Page([], rev=1, epoch="e"), b'{"records":[],"rev":1,"epoch":"e"}'),
        (Counts(records=1, rows=2), b'{"records":1,"rows":2}'),
        ([], b"[]"),
    ],
)
def test_any_result_has_its_text(result: Any, text: bytes) -> None:
    assert render_result(result) == text
