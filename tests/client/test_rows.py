"""Rows and pages, decoded."""

from __future__ import annotations

import msgspec
import pytest

from recordd_client.errors import InvalidValue
from recordd_client.rows import Page, Row, decode_page, decode_row
from recordd_protocol.methods import Record, Records


def test_rows_that_do_not_fit_are_skipped_and_counted() -> None:
    rows = [Record("a", msgspec.Raw(value), 1, n) for n, value in enumerate([b"1", b'"x"', b"2"])]
    page = decode_page([Records(rows, 2, "e")], int)
    assert ([row.value for row in page.rows], page.skipped) == ([1, 2], 1)


def test_a_row_that_does_not_fit_is_named() -> None:
    with pytest.raises(InvalidValue, match=r"record 'a' at rev 7: Expected `int`, got `str`"):
        decode_row(Record("a", msgspec.Raw(b'"x"'), 1, 7), int)


def test_pages_come_together_with_the_position_of_the_last() -> None:
    row = Record("a", msgspec.Raw(b"1"), 5, 7)
    first = Records([row], 7, "e", next="n", gap=True, oldest_rev=3)
    page = decode_page([first, Records([row, row], 9, "f")], int)
    assert page == Page([Row("a", 1, 5, 7)] * 3, 9, "f", None, 0)
    assert decode_page([first], int) == Page([Row("a", 1, 5, 7)], 7, "e", "n", 0, 3)
