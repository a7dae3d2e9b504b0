"""The `next` of a page: read as it was written, and refused where it is none of ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd.persistence.cursor import (
    Cursor,
    LogCursor,
    decode_cursor,
    decode_log_cursor,
    encode,
)
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import MAX_INTEGER

EPOCH = "e.poch"
INTEGERS = st.integers(0, MAX_INTEGER)


def read(text: str) -> Cursor:
    return decode_cursor(text, epoch=EPOCH, newest_rev=9, tick=5)


def reason_of(text: str) -> Reason:
    with pytest.raises(RequestError) as refused:
        read(text)
    return refused.value.reason


@given(INTEGERS, INTEGERS, INTEGERS, INTEGERS)
def test_what_is_written_is_read(ts: int, rev: int, later: int, tick: int) -> None:
    as_of = min(rev + later, MAX_INTEGER)
    cursor = Cursor(ts, rev, as_of, tick)
    text = encode(cursor, EPOCH)
    assert decode_cursor(text, epoch=EPOCH, newest_rev=as_of, tick=tick) == cursor
    assert decode_log_cursor(encode(LogCursor(rev), EPOCH), epoch=EPOCH) == LogCursor(rev)


def test_one_of_another_epoch_has_expired() -> None:
    assert reason_of(encode(Cursor(1, 1, 1, 1), "other")) is Reason.EXPIRED


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor(MAX_INTEGER + 1, 1, 9, 5),
        Cursor(1, 9, 8, 5),
        Cursor(1, 1, 10, 5),
        Cursor(1, 1, 9, 6),
    ],
    ids=["time", "behind its moment", "moment to come", "tick to come"],
)
def test_one_that_no_page_can_have_is_refused(cursor: Cursor) -> None:
    assert reason_of(encode(cursor, EPOCH)) is Reason.INVALID_PARAMS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "history",
        "log.1.e.poch",
        "history.1.1.1.e.poch",
        "history.1.-1.1.1.e.poch",
        "history.1.1.1.\N{ARABIC-INDIC DIGIT ONE}.e.poch",
        "history.1.1.1.\N{SUPERSCRIPT TWO}.e.poch",
        "history.1.1.1." + "1" * 20 + ".e.poch",
        "history.1.1.1.1." + "e" * 200,
    ],
)
def test_text_that_is_no_cursor_is_refused(text: str) -> None:
    assert reason_of(text) is Reason.INVALID_PARAMS


def test_a_plain_number_is_a_place_in_the_log_of_any_epoch() -> None:
    assert decode_log_cursor("7", epoch=EPOCH) == LogCursor(7)


def test_a_place_in_the_log_of_another_epoch_is_a_conflict() -> None:
    with pytest.raises(RequestError) as refused:
        decode_log_cursor("log.7.other", epoch=EPOCH)
    assert refused.value.reason is Reason.CONFLICT
