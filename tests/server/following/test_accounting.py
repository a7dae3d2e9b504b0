"""The account of a subscription: published = put + told as left out + still untold."""

from __future__ import annotations

import pytest

from recordd.following.accounting import Account, Standing
from recordd_protocol.rows import Row

BASE = Standing(tick=100, rev=50, published=7, transients=3)


def rows(*revs: int | None) -> list[Row]:
    return [Row("a", b"1", 1, rev) for rev in revs]


def test_at_its_base_nothing_was_left_out() -> None:
    account = Account(BASE)
    assert account.left_out(published=7) == 0
    assert not account.owes_transients(3)
    assert (account.base_tick, account.transients_until) == (100, 100)


def test_what_was_left_out_before_the_base_is_told_once() -> None:
    account = Account(BASE, missed=5)
    assert account.left_out(published=7) == 5
    assert account.take_missed() == 5
    assert account.left_out(published=7) == 0


def test_what_is_replayed_was_not_left_out() -> None:
    account = Account(BASE)
    account.settle_replayed(updates=4, transients=1)
    assert account.left_out(published=7 + 6) == 2
    assert account.owes_transients(3 + 2)
    assert not account.owes_transients(3 + 1)


def test_stored_rows_of_before_the_base_are_not_of_its_count() -> None:
    account = Account(BASE)
    account.settle_stored(rows(49, 50, 51, None))
    assert account.left_out(published=7 + 3) == 2


def test_of_conflated_updates_all_but_the_newest_are_missed() -> None:
    account = Account(BASE)
    account.settle_conflated(published=7 + 10, put=3)
    assert account.missed == 7
    assert account.left_out(published=7 + 10) == 7


def test_a_change_that_is_out_of_date_when_its_turn_comes_is_missed_too() -> None:
    account = Account(BASE)
    account.settle_conflated(published=7 + 10, put=3)
    account.miss_one()  # its record has changed again: that is the eleventh update
    assert account.left_out(published=7 + 11) == 9
    account.settle_conflated(published=7 + 11, put=1)
    assert account.take_missed() == 8  # 11 published, 3 put


def test_transients_that_the_backlog_has_outrun_are_missed_but_for_the_newest() -> None:
    account = Account(BASE)
    account.settle_transients(Standing(tick=140, rev=60, published=30, transients=3 + 8), put=2)
    assert account.missed == 6
    assert account.transients_until == 140
    assert not account.owes_transients(3 + 8)
    assert account.left_out(published=7 + 8) == 6  # the stored ones are yet to be read


def test_transients_that_were_replayed_are_not_owed_again() -> None:
    account = Account(BASE)
    account.settle_replayed(updates=5, transients=5)
    account.settle_transients(Standing(tick=140, rev=50, published=20, transients=3 + 8), put=1)
    assert account.missed == 2


@pytest.mark.parametrize(("tick", "until"), [(99, 100), (100, 100), (120, 120)])
def test_the_tick_up_to_which_transients_are_settled_never_goes_back(tick: int, until: int) -> None:
    account = Account(BASE)
    account.pass_transients(tick)
    assert account.transients_until == until


@pytest.mark.parametrize(("rev", "owes"), [(59, True), (60, False), (61, False)])
def test_who_resumes_is_owed_all_up_to_the_moment_of_the_opening(rev: int, owes: bool) -> None:
    assert Account(BASE, exact_until=60).owes_all_after(rev) is owes
    assert not Account(BASE).owes_all_after(rev)
