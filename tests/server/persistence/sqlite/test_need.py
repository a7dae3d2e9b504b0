"""How much room a write is reckoned to need: never less than it can take."""

from __future__ import annotations

from recordd.persistence.sqlite.log_rows import LogRow, LogRows
from recordd.persistence.sqlite.need import Need


def need_of(*values: str, new: tuple[str, ...] = (), merged_rev: int = 0) -> Need:
    rows: list[LogRow] = [(rev, 1, 5, value, False) for rev, value in enumerate(values, 11)]
    return Need.of([LogRows.of(rows)], list(enumerate(new)), merged_rev)


def test_a_character_may_take_four_bytes_and_a_page_be_half_full() -> None:
    beside = need_of("").most_bytes
    assert need_of("x" * 1000).most_bytes == beside + 2 * 4 * 1000


def test_a_new_record_has_its_name_in_two_trees() -> None:
    short, long = need_of("", new=("a",)), need_of("", new=("a" * 101,))
    assert long.most_bytes - short.most_bytes == 2 * 2 * 4 * 100
    assert short.most_bytes > need_of("").most_bytes


def test_rows_wait_for_the_index_from_the_last_that_is_merged() -> None:
    assert need_of("a", "b", "c", merged_rev=10).unmerged_rows == 3
    assert need_of("a", "b", "c", merged_rev=4).unmerged_rows == 9
