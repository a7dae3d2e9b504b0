"""Waits between attempts to connect: the pure rule."""

from __future__ import annotations

from typing import Final

import pytest

from recordd_client import (
    ConnectionLost,
    InvalidParams,
    Overloaded,
)
from recordd_client.reconnecting import Reconnecting

NOMINAL_WAITS_S: Final = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
"""What the waits are before the jitter, which takes up to a half of each."""

LOST: Final = ConnectionLost("gone", outcome_unknown=False)


def assert_waits(found_s: list[float | None], nominal_s: list[float]) -> None:
    assert len(found_s) == len(nominal_s), found_s
    pairs = zip(found_s, nominal_s, strict=True)
    assert all(nominal / 2 <= (found or 0) <= nominal for found, nominal in pairs), found_s


def test_waits_double_up_to_five_seconds() -> None:
    rule = Reconnecting()
    rule.note_subscribed(0)
    assert_waits([rule.note_lost(LOST, 0) for _ in NOMINAL_WAITS_S], NOMINAL_WAITS_S)


@pytest.mark.parametrize(("held_s", "wait_s"), [(0.0, 0.4), (0.99, 0.4), (1.0, 0.1), (60.0, 0.1)])
def test_the_next_wait_is_the_shortest_after_a_second_of_subscription(
    held_s: float, wait_s: float
) -> None:
    rule = Reconnecting()
    rule.note_subscribed(0)
    waits = [rule.note_lost(LOST, 0), rule.note_lost(LOST, 10)]
    rule.note_subscribed(20)
    assert_waits([*waits, rule.note_lost(LOST, 20 + held_s)], [0.1, 0.2, wait_s])


def test_time_in_failing_attempts_is_no_subscription() -> None:
    rule = Reconnecting()
    rule.note_subscribed(0)
    assert_waits([rule.note_lost(LOST, at_s) for at_s in (0, 10, 20)], [0.1, 0.2, 0.4])


@pytest.mark.parametrize("failure", [InvalidParams("no pattern"), ValueError("the program's")])
def test_a_failure_that_would_come_again_ends_the_attempts(failure: Exception) -> None:
    rule = Reconnecting()
    rule.note_subscribed(0)
    assert rule.note_lost(failure, 0) is None
    assert rule.note_lost(LOST, 0) is None
    assert rule.failure is failure


def test_without_a_first_subscription_every_failure_ends_the_attempts() -> None:
    assert Reconnecting().note_lost(Overloaded("try later"), 0) is None


"""Answers to a subscribe, each with the end of the connection behind it."""
