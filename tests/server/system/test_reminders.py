"""Calls at a time to come: when they are made, and that none is left behind."""

from __future__ import annotations

import functools
import random

import pytest
import trio
import trio.testing

from recordd.system.reminders import Reminder, Reminders


async def test_calls_are_made_in_time_in_whatever_order_they_were_added(
    autojump_clock: trio.testing.MockClock,
) -> None:
    begin, made = trio.current_time(), list[tuple[float, float]]()

    def note(at: float) -> None:
        made.append((at, trio.current_time() - begin))

    reminders = Reminders()
    async with trio.open_nursery() as nursery:
        reminders.add(begin + 50, functools.partial(note, 50.0))
        nursery.start_soon(reminders.run)
        await trio.sleep(1)
        for at in (30.0, 20.0, 20.0, 70.0):  # each but the last sooner than what it sleeps for
            reminders.add(begin + at, functools.partial(note, at))
        await trio.sleep(80)
        reminders.add(begin + 5, functools.partial(note, 81.0))  # long ago: at once
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert made == [(at, at) for at in (20.0, 20.0, 30.0, 50.0, 70.0, 81.0)]


async def test_a_call_may_add_another(autojump_clock: trio.testing.MockClock) -> None:
    reminders, begin, times = Reminders(), trio.current_time(), list[float]()

    def again() -> None:
        times.append(trio.current_time() - begin)
        reminders.add(trio.current_time() + 2, again)

    reminders.add(begin + 2, again)
    with trio.move_on_after(7):
        await reminders.run()
    assert times == [2, 4, 6]


async def test_a_call_that_fails_stops_no_other(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    reminders, called = Reminders(), trio.Event()

    def fail() -> None:
        raise ValueError("no")

    reminders.add(trio.current_time() + 1, fail)
    reminders.add(trio.current_time() + 1, called.set)
    with trio.move_on_after(3):
        await reminders.run()
    assert called.is_set()
    assert [record.message for record in caplog.records] == ["a reminder failed"]


async def test_what_is_dropped_is_not_called_and_does_not_stay(
    autojump_clock: trio.testing.MockClock,
) -> None:
    reminders, begin = Reminders(), trio.current_time()
    chance, made, live = random.Random(7), list[int](), dict[int, Reminder]()
    for number in range(3000):
        at = begin + chance.uniform(1, 9)
        live[number] = reminders.add(at, functools.partial(made.append, number))
        if chance.random() < 0.9:
            dropped = live.pop(chance.choice([*live]))
            reminders.drop(dropped)
            reminders.drop(dropped)  # twice is once
        assert len(reminders) == len(live)
        assert reminders.kept <= 2 * len(live) + 65
    with trio.move_on_after(10):
        await reminders.run()
    assert sorted(made) == sorted(live)
    assert made == sorted(live, key=lambda number: live[number].at)
    reminders.drop(live[made[0]])  # which was called
    assert (len(reminders), reminders.kept) == (0, 0)
