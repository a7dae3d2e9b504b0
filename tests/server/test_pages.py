"""How much a page holds."""

from __future__ import annotations

import random

from recordd.pages import PageLimits, end_of_page, fill_page, keep_newest
from tests.server.rows import row


def test_both_ways_to_cut_a_page_agree() -> None:
    chance = random.Random(1)
    for _ in range(500):
        count = chance.randrange(1, 12)
        rows = [row(n, value=b"1" * chance.randrange(1, 60)) for n in range(count)]
        limits = PageLimits(chance.randrange(1, 12), chance.randrange(1, 900))
        start = chance.randrange(len(rows))
        page, more = fill_page(rows[start:], limits)
        end = end_of_page(rows, start, limits)
        assert (rows[start:end], end < len(rows)) == (page, more)


def test_a_page_has_room_for_one_row_and_not_for_one_byte_more_than_it_may() -> None:
    rows = [row(n) for n in range(1, 4)]
    size = len(rows[0].body) + 3
    assert fill_page(rows, PageLimits(10, 1)) == (rows[:1], True)
    assert fill_page(rows, PageLimits(10, 2 * size)) == (rows[:2], True)
    assert fill_page(rows, PageLimits(10, 2 * size - 1)) == (rows[:1], True)
    assert fill_page(rows, PageLimits(3, 10 * size)) == (rows, False)
    assert keep_newest(rows, 2 * size) == rows[1:]
    assert keep_newest(rows, size - 1) == []
