"""Retention's time: what it follows at once, what it catches up with, what it leaves alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd.persistence.retention_clock import RetentionClock

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOON = 1_790_000_000_000


class FakeClock:
    """A clock that runs when it is told to, and may be set."""

    def __init__(self, wall_ms: int = NOON) -> None:
        self.now_ms = wall_ms
        self.passed_ms = 5

    def run(self, ms: int) -> None:
        self.now_ms += ms
        self.passed_ms += ms

    def set(self, wall_ms: int) -> None:
        self.now_ms = wall_ms

    def wall_ms(self) -> int:
        return self.now_ms

    def elapsed_ms(self) -> int:
        return self.passed_ms


def make(known_ms: int | None = NOON) -> tuple[FakeClock, RetentionClock]:
    clock = FakeClock()
    ours = RetentionClock(clock, DAY_MS)
    ours.resume(known_ms)
    return clock, ours


def test_it_follows_a_clock_that_runs_as_time_does() -> None:
    clock, ours = make()
    for _ in range(100):
        clock.run(30 * DAY_MS)
        assert ours.read() == clock.wall_ms()
        assert ours.leap_ms == 0


def test_small_corrections_are_followed_in_both_directions() -> None:
    clock, ours = make()
    for step in (DAY_MS, -DAY_MS, HOUR_MS, -5, 5):
        clock.set(clock.now_ms + step)
        assert ours.read() == clock.wall_ms()
        assert ours.leap_ms == 0


def test_a_leap_is_not_believed_and_caught_up_with_at_twice_the_speed() -> None:
    clock, ours = make()
    clock.set(NOON + 21 * DAY_MS)
    assert ours.read() == NOON
    assert ours.leap_ms == 21 * DAY_MS
    clock.run(DAY_MS)
    assert ours.read() == NOON + 2 * DAY_MS
    assert ours.leap_ms == 20 * DAY_MS
    for _ in range(20):
        clock.run(DAY_MS)
        ours.read()
    assert (ours.read(), ours.leap_ms) == (clock.wall_ms(), 0)


def test_a_leap_that_is_taken_back_costs_as_much_time_as_it_lasted() -> None:
    clock, ours = make()
    clock.set(NOON + 3650 * DAY_MS)
    clock.run(5 * HOUR_MS)
    assert ours.read() == NOON + 10 * HOUR_MS
    clock.set(NOON + 5 * HOUR_MS)
    assert ours.read() == NOON + 5 * HOUR_MS
    assert ours.leap_ms == 0


def test_a_leap_over_a_restart_is_one_too_and_is_remembered() -> None:
    clock, ours = make(NOON - 21 * DAY_MS)
    assert ours.read() == NOON - 21 * DAY_MS
    clock.run(HOUR_MS)
    ours.read()
    again = RetentionClock(clock, DAY_MS)
    again.resume(ours.known_ms)
    assert again.read() == NOON - 21 * DAY_MS + 2 * HOUR_MS
    assert again.leap_ms == ours.leap_ms


def test_a_confirmed_leap_is_believed_at_once() -> None:
    clock, ours = make(NOON - 21 * DAY_MS)
    assert ours.confirm() == 21 * DAY_MS
    assert (ours.read(), ours.leap_ms) == (NOON, 0)
    assert ours.confirm() == 0
    assert ours.known_ms == clock.wall_ms()


def test_a_clock_that_is_behind_for_a_while_and_put_right_is_no_leap() -> None:
    clock, ours = make()
    clock.set(0)
    assert ours.read() == 0
    clock.run(HOUR_MS)
    clock.set(NOON + HOUR_MS)
    assert (ours.read(), ours.leap_ms) == (NOON + HOUR_MS, 0)


def test_a_clock_that_stays_behind_is_believed_and_then_may_not_leap() -> None:
    clock, ours = make()
    clock.set(NOON - 3650 * DAY_MS)
    for _ in range(26):
        clock.run(HOUR_MS)
        assert ours.read() == clock.wall_ms()
    clock.set(NOON)
    assert ours.read() < NOON - 3640 * DAY_MS
    assert ours.leap_ms > 3640 * DAY_MS


def test_without_anything_known_the_clock_is_believed() -> None:
    _, ours = make(None)
    assert (ours.read(), ours.leap_ms) == (NOON, 0)


steps = st.tuples(st.sampled_from(["run", "set"]), st.integers(-400, 400))


def tell(story: list[tuple[str, int]], clock: FakeClock, ours: RetentionClock) -> None:
    """Let the clock do what it likes: each believed step is one `max_clock_leap` at most."""
    before, passed = ours.read(), clock.passed_ms
    for what, hours in story:
        if what == "run":
            clock.run(abs(hours) * HOUR_MS)
        else:
            clock.set(max(0, clock.now_ms + hours * HOUR_MS))
        highest = ours.known_ms
        now = ours.read()
        assert now <= clock.wall_ms()
        assert now <= max(before, highest) + 2 * (clock.passed_ms - passed) + DAY_MS
        before, passed = now, clock.passed_ms


@given(st.lists(steps, max_size=60))
def test_it_is_never_ahead_of_the_clock_nor_of_twice_the_time_that_passed(
    story: list[tuple[str, int]],
) -> None:
    tell(story, *make())


class Credulous(RetentionClock):
    """Believes every clock."""

    def read(self) -> int:
        self.confirm()
        return super().read()


class Sluggish(RetentionClock):
    """Goes on with its own time where the clock is behind."""

    def read(self) -> int:
        super().read()
        return self.known_ms


@pytest.mark.parametrize("broken", [Credulous, Sluggish])
def test_the_suite_sees_through_a_broken_clock(broken: type[RetentionClock]) -> None:
    clock = FakeClock()
    ours = broken(clock, DAY_MS)
    ours.resume(NOON)
    with pytest.raises(AssertionError):
        tell([("run", 5), ("set", 400), ("run", 1), ("set", -400), ("set", -10)], clock, ours)
