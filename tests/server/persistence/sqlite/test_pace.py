"""When the loop may wait for a commit; the clock is the test's."""

from __future__ import annotations

import pytest

from recordd.persistence.sqlite.pace import Pace


class Disk:
    """Commits of lengths that a test chooses."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.pace = Pace(lambda: self.now_s)

    def commit(self, *, takes_s: float, times: int = 1) -> bool:
        """Commit so many times; return whether the loop can wait for the next one."""
        for _ in range(times):
            self.pace.begin()
            self.now_s += takes_s
            self.pace.end()
        return self.pace.is_quick


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_the_loop_waits_for_a_disk_that_answers_in_a_fraction_of_a_millisecond(disk: Disk) -> None:
    assert disk.pace.is_quick
    assert disk.commit(takes_s=0.0003, times=100)


def test_a_slow_disk_is_known_within_half_a_dozen_commits(disk: Disk) -> None:
    disk.commit(takes_s=0.0003, times=100)
    assert not disk.commit(takes_s=0.003, times=6)


def test_a_single_slow_commit_makes_no_slow_disk(disk: Disk) -> None:
    disk.commit(takes_s=0.0003, times=100)
    assert disk.commit(takes_s=0.004)


def test_between_slow_and_quick_it_stays_as_it_was(disk: Disk) -> None:
    assert disk.commit(takes_s=0.0009, times=100)
    disk.commit(takes_s=0.003, times=20)
    assert not disk.commit(takes_s=0.0009, times=100)
    assert disk.commit(takes_s=0.0003, times=20)


@pytest.mark.parametrize("stall_s", [0.006, 0.1, 2.0])
def test_one_stall_ends_it_at_once_and_for_twenty_times_as_long(disk: Disk, stall_s: float) -> None:
    disk.commit(takes_s=0.0003, times=100)
    assert not disk.commit(takes_s=stall_s)
    disk.commit(takes_s=0.0, times=100)
    disk.now_s += 19.9 * stall_s
    assert not disk.pace.is_quick
    disk.now_s += 0.2 * stall_s
    assert disk.pace.is_quick


def test_stalls_take_a_twentieth_of_the_loop_on_a_disk_that_stalls_at_times(disk: Disk) -> None:
    stalled_s, began_s = 0.0, disk.now_s
    for number in range(20_000):
        takes_s = 0.05 if number % 50 == 0 else 0.0002
        stalled_s += takes_s * (disk.pace.is_quick and takes_s > 0.001)
        disk.commit(takes_s=takes_s)
    assert stalled_s <= 0.05 + (disk.now_s - began_s) / 20


def test_an_end_without_a_beginning_says_nothing(disk: Disk) -> None:
    disk.commit(takes_s=0.0003)
    disk.now_s += 10
    disk.pace.end()
    assert disk.pace.is_quick
