"""Series of the newest rows: what they cover, what they forget."""

from __future__ import annotations

import pytest

from recordd.conformance.support import row
from recordd.persistence.sqlite import recent as recent_module
from recordd.persistence.sqlite.recent import (
    Bodies,
    PageRows,
    Recent,
    Series,
    Span,
    order_before,
)
from recordd_protocol.rows import ROW_SEPARATOR, Row

LAST_TWO = Span(2, order_before(0), None, 1 << 40)
ALL = Span(None, order_before(0), None, 1 << 40)


def join(rows: list[Row]) -> PageRows:
    text = ROW_SEPARATOR.join([row.body for row in rows])
    return PageRows(text, len(rows), max([row.rev or 0 for row in rows]))


def fill(recent: Recent, record: int = 1, rows: int = 4, floor: int | None = None) -> Series:
    """Fill a series with rows, or with their text."""
    series = recent.begin(record)
    assert series is not None
    found = [row(n) for n in range(1, rows + 1)]
    floor = order_before(0) if floor is None else floor
    recent.fill(record, series, join(found) if record % 2 else found, floor)
    return series


def revs_of(found: Bodies | None) -> list[int]:
    """Return what rows are known by, each from its body too."""
    if found is None:
        return []
    assert all(b.endswith(b'"rev":%d' % (o % (1 << 64))) for o, b in zip(*found, strict=True))
    return [order % (1 << 64) for order in found.orders]


def test_what_lies_below_the_floor_is_not_answered() -> None:
    recent = Recent(1 << 20)
    fill(recent, floor=row(1).order - 1)
    assert revs_of(recent.find(1, LAST_TWO)) == [3, 4]
    assert recent.find(1, ALL) is None
    assert recent.find(1, Span(5, order_before(0), None, 1 << 40)) is None
    assert revs_of(recent.find(1, Span(5, order_before(11), None, 1 << 40))) == [2, 3, 4]
    assert recent.find(1, Span(2, order_before(0), 9, 1 << 40)) is None
    assert revs_of(recent.find(1, Span(2, order_before(0), None, 3))) == [2, 3]


def test_late_rows_go_to_their_place_and_below_the_floor_nowhere() -> None:
    recent = Recent(1 << 20)
    fill(recent, floor=row(1).order - 1)
    recent.note_rows([(1, row(5, ts=25)), (1, row(6, ts=5)), (2, row(7))])
    assert revs_of(recent.find(1, Span(4, order_before(0), None, 1 << 40))) == [2, 5, 3, 4]
    assert recent.find(1, Span(6, order_before(0), None, 1 << 40)) is None
    assert recent.find(2, LAST_TWO) is None


def test_a_late_row_that_came_while_others_were_read_is_not_among_the_newest() -> None:
    """The page goes back less far than the row: there are others between."""
    recent = Recent(1 << 20)
    series = recent.begin(1)
    assert series is not None
    recent.note_rows([(1, row(5, ts=15))])
    recent.fill(1, series, [row(3), row(4)], row(3).order - 1)
    assert recent.find(1, Span(3, order_before(0), None, 1 << 40)) is None
    assert revs_of(recent.find(1, LAST_TWO)) == [3, 4]


def test_a_row_below_the_floor_takes_no_room() -> None:
    recent = Recent(1 << 20)
    fill(recent, floor=row(1).order - 1)
    before = recent.size_bytes
    recent.note_rows([(1, row(5, ts=5))])
    assert recent.size_bytes == before


def test_a_series_counts_as_much_whichever_way_its_rows_came() -> None:
    counts = []
    for late in ([], [row(5, ts=15), row(6, ts=35)]):
        recent = Recent(1 << 20)
        series = recent.begin(1)
        assert series is not None
        rows = [row(1), row(2), row(3), row(4), row(5, ts=15), row(6, ts=35)]
        recent.fill(1, series, rows[: 6 - len(late)], order_before(0))
        recent.note_rows([(1, one) for one in late])
        assert revs_of(recent.find(1, ALL)) == [1, 5, 2, 3, 6, 4]
        counts.append(recent.size_bytes)
    assert counts[0] == counts[1]


def test_rows_that_go_while_others_are_read_are_not_taken() -> None:
    recent = Recent(1 << 20)
    series = recent.begin(1)
    assert series is not None
    assert recent.begin(1) is None, "one at a time"
    recent.note_rows([(1, row(5))])
    recent.note_gone(1, (20, 2))
    recent.fill(1, series, [row(n) for n in range(1, 5)], order_before(0))
    assert revs_of(recent.find(1, Span(3, order_before(0), None, 9))) == [3, 4, 5]
    assert recent.find(1, ALL) is None


def test_what_rows_took_is_free_when_they_go() -> None:
    recent = Recent(1 << 20)
    fill(recent, rows=1, floor=row(1).order - 1)
    one_bytes = recent.size_bytes
    recent.note_rows([(1, row(2)), (1, row(3))])
    assert recent.size_bytes > one_bytes
    recent.note_gone(1, (20, 2))
    assert recent.size_bytes == one_bytes
    recent.forget(1)
    assert recent.size_bytes == 0


def test_of_how_many_records_it_is_known_when_they_were_asked_for_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent_module, "_MOST_MISSED", 2)
    recent = Recent(2_000)
    fill(recent)
    assert [recent.is_worth(record) for record in (2, 3, 4)] == [False] * 3
    assert not recent.is_worth(2), "forgotten"
    assert recent.is_worth(4)


def test_a_record_that_is_forgotten_while_it_is_read_is_not_filled() -> None:
    recent = Recent(1 << 20)
    series = recent.begin(1)
    assert series is not None
    recent.forget(1)
    recent.fill(1, series, [row(1)], order_before(0))
    assert recent.find(1, LAST_TWO) is None
    assert recent.size_bytes == 0


def test_a_shorter_series_does_not_take_the_place_of_a_longer_one() -> None:
    recent = Recent(1 << 20)
    fill(recent)
    fill(recent, floor=row(2).order)
    assert len(revs_of(recent.find(1, ALL))) == 4


def test_nobody_asks_so_nothing_is_kept() -> None:
    recent = Recent(1 << 20)
    fill(recent)
    recent.note_rows([(1, row(n)) for n in range(5, 70)])
    assert len(revs_of(recent.find(1, Span(30, order_before(0), None, 1 << 40)))) == 30
    assert recent.find(1, ALL) is None, "it was cut"
    recent.note_rows([(1, row(n)) for n in range(70, 110)])
    assert recent.find(1, LAST_TWO) is not None, "it was asked between two cuts"
    recent.note_rows([(1, row(n)) for n in range(110, 190)])
    assert recent.find(1, LAST_TWO) is None
    assert recent.size_bytes == 0
    assert recent.is_empty


def test_the_series_that_was_asked_longest_ago_makes_room() -> None:
    recent = Recent(4_200)
    for record in (1, 2, 3):
        fill(recent, record)
    assert recent.find(1, LAST_TWO) is not None
    fill(recent, 4)
    assert [recent.find(n, LAST_TWO) is not None for n in (1, 2, 3, 4)] == [True, False, True, True]
    recent.note_rows([(1, row(5, value=b'"%b"' % (b"x" * 6000)))])
    assert recent.find(1, LAST_TWO) is None
    assert recent.size_bytes <= 4_200


def test_a_round_over_more_records_than_have_room_displaces_none() -> None:
    recent = Recent(3_100)
    found = []
    for number in range(40):
        record = number % 8
        found.append(recent.find(record, LAST_TWO) is not None)
        if not found[-1] and recent.is_worth(record):
            fill(recent, record)
    assert found[-8:] == found[-16:-8]
    assert sum(found[-8:]) == 2


def test_who_is_asked_for_again_takes_the_place_of_who_is_not() -> None:
    recent = Recent(3_100)
    for record in (1, 2):
        assert recent.is_worth(record)
        fill(recent, record)
    assert not recent.is_worth(3)
    assert recent.find(1, LAST_TWO) is not None
    assert recent.find(2, LAST_TWO) is not None
    assert not recent.is_worth(3), "both were asked for since"
    assert recent.is_worth(3), "and not since then"
    fill(recent, 3)
    assert [recent.find(n, LAST_TWO) is not None for n in (1, 2, 3)] == [False, True, True]
    assert recent.is_worth(3), "it has a series, that may go back too little"


@pytest.mark.parametrize(
    "values",
    [
        [b'[{"a":1},{"name":"a","value":2,"ts":3,"rev":4},{"b":5}]', b"1", b'"},{"'],
        [b'{"ts":9,"rev":1}', b'",\\"ts\\":20,\\"rev\\":2"', b"null"],
        [b"[[]]", b'"\xc3\xa4"', b'{"value":{"value":[1,{},{}]}}'],
    ],
)
def test_the_text_of_a_page_is_taken_apart_where_its_rows_end(values: list[bytes]) -> None:
    recent = Recent(1 << 20)
    rows = [row(n, "ä.b", value=value) for n, value in enumerate(values, start=1)]
    series = recent.begin(1)
    assert series is not None
    recent.fill(1, series, join(rows), order_before(0))
    found = recent.find(1, ALL)
    assert found is not None
    assert found.bodies == [one.body for one in rows]
    assert found.orders == [one.order for one in rows]


def test_rows_that_came_while_they_were_read_are_there_once() -> None:
    recent = Recent(1 << 20)
    series = recent.begin(1)
    assert series is not None
    recent.note_rows([(1, row(4)), (1, row(5, ts=25))])
    recent.fill(1, series, join([row(n) for n in range(1, 5)]), order_before(0))
    assert revs_of(recent.find(1, ALL)) == [1, 2, 5, 3, 4]


def test_text_that_no_value_of_ours_makes_is_not_answered_from() -> None:
    recent = Recent(1 << 20)
    series = recent.begin(1)
    assert series is not None
    text = b'"name":"a","value":%b,"ts":10,"rev":1'
    recent.fill(1, series, PageRows(text % (b"[" * 5000 + b"]" * 5000), 1, 1), order_before(0))
    assert recent.find(1, LAST_TWO) is None
    recent.note_rows([(1, row(2))])
    assert recent.find(1, LAST_TWO) is None
    assert recent.size_bytes < 2_000


def test_what_was_counted_is_what_there_is_when_rows_were_put_in_their_places() -> None:
    recent = Recent(1 << 20)
    for record in (1, 2):
        fill(recent, record, rows=40)
    recent.note_rows([(n % 2 + 1, row(n, ts=n * 7 % 400)) for n in range(41, 60)])
    assert [len(revs_of(recent.find(record, ALL))) for record in (1, 2)] == [49, 50]
    before = recent.size_bytes
    recent.note_gone(1, (200, 1 << 40))
    recent.note_gone(2, (200, 1 << 40))
    assert 0 < recent.size_bytes < before
    recent.forget(1)
    recent.forget(2)
    assert recent.size_bytes == 0


def test_rows_are_followed_of_series_that_are_being_read_too() -> None:
    recent = Recent(1 << 20)
    fill(recent, floor=row(1).order - 1)
    assert recent.find_followed([2, 1, 3, 1]) == [1, 3]
    recent.begin(2)
    assert recent.find_followed([2, 1, 3, 1]) == [0, 1, 3]
