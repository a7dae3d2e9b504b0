"""The automaton of long patterns: its answers against a slow and obvious matcher, and its cost."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd_protocol.automaton import Automaton, StepCache
from tests.protocol.test_patterns import _slow_match, names, segments


@given(segments, st.lists(names, max_size=5))
def test_an_automaton_that_forgets_all_the_time_matches_the_same(
    pattern: list[str], many: list[list[str]]
) -> None:
    adjacent = [
        s for s, before in zip(pattern, ["", *pattern], strict=False) if (s, before) != ("#", "#")
    ]
    text = re.sub(r"\*+", "*", ".".join(adjacent))
    automaton = Automaton(text, StepCache(max_steps=3))
    for name in many:
        assert automaton.matches(".".join(name)) is _slow_match(pattern, name)


class CountedName(str):
    """A name that counts how often its characters are asked for."""

    __slots__ = ("asked",)

    def __iter__(self) -> Iterator[str]:
        for character in str(self):
            self.asked = getattr(self, "asked", 0) + 1
            yield character


@pytest.mark.parametrize("name", ["a." * 127 + "a", "aa." * 85, "a" * 255])
def test_a_long_pattern_takes_one_step_a_character_and_keeps_few(name: str) -> None:
    kept = 0

    class Counting(StepCache):
        def count(self) -> None:
            nonlocal kept
            kept += 1

    automaton = Automaton("#." + ".".join(["a*"] * 100) + ".b", Counting())
    counted = CountedName(name)
    assert not automaton.matches(counted)
    assert counted.asked == len(name)
    first = kept
    assert 0 < first <= len(name) + 1
    automaton.matches(name)
    assert kept == first


def test_all_automata_together_keep_a_bounded_number_of_steps() -> None:
    cache = StepCache(max_steps=50)
    for n in range(20):
        Automaton(f"#.{'a' * n}*.b", cache).matches("abc." * 20)
    assert cache.generation > 0
