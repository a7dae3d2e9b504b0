"""When the loop gives way to a database thread; the clock is the test's."""

from __future__ import annotations

import pytest
import trio

from recordd.persistence.sqlite import gil_turns
from recordd.persistence.sqlite.gil_turns import GilTurns


class Loop:
    """Passes of a loop, of lengths that a test chooses; `sleeps` counts how it gave way."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.sleeps = 0
        self.turns = GilTurns(lambda: self.now_s, self._sleep)

    def _sleep(self, _: float) -> None:
        self.sleeps += 1
        self.now_s += 10e-6

    def make_pass(self, length_s: float) -> None:
        """Work and wait for so long together."""
        self.now_s += length_s
        self.turns.after_io_wait(0)


@pytest.fixture
def loop() -> Loop:
    loop = Loop()
    loop.turns._calls = 1  # no loop of Trio's here makes passes of its own
    loop.make_pass(1.0)
    assert loop.sleeps == 0, "an idle loop gives way while it waits"
    return loop


def test_short_passes_give_way_each(loop: Loop) -> None:
    for _ in range(3):
        loop.make_pass(20e-6)
    assert loop.sleeps == 3


def test_a_pass_in_which_a_thread_can_demand_its_turn_does_not_give_way(loop: Loop) -> None:
    for _ in range(3):
        loop.make_pass(300e-6)
    assert loop.sleeps == 0


def test_the_sleep_is_no_part_of_the_next_pass(loop: Loop) -> None:
    loop.make_pass(145e-6)
    loop.make_pass(145e-6)
    assert loop.sleeps == 2


async def test_the_loop_is_watched_while_a_call_is_held_and_not_long_after() -> None:
    turns = GilTurns()
    for _ in range(2):
        with turns.call():
            for _ in range(gil_turns._LINGERING_PASSES + 2):
                await trio.lowlevel.checkpoint()
            assert is_watching(turns)
        await trio.lowlevel.checkpoint()
        assert is_watching(turns), "the next call may come at once"
        for _ in range(gil_turns._LINGERING_PASSES + 2):
            await trio.lowlevel.checkpoint()
        assert not is_watching(turns)


def is_watching(turns: GilTurns) -> bool:
    """Tell whether an instrument is one of this run's."""
    try:
        trio.lowlevel.remove_instrument(turns)
    except KeyError:
        return False
    trio.lowlevel.add_instrument(turns)
    return True
