"""Patterns: their grammar against a slow and obvious matcher, and their cost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd_protocol.errors import RequestError
from recordd_protocol.patterns import compile_pattern, compile_patterns


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("temp.*", "temp.vienna", True),
        ("temp.*", "temp.vienna.out", False),
        ("temp.*", "temp", False),
        ("*.vienna", "temp.vienna", True),
        ("accuracy::*", "accuracy::vienna", True),
        ("accuracy::*", "accuracy::vienna.x", False),
        ("temp.v*", "temp.v", True),
        ("temp.#", "temp", True),
        ("temp.#", "temp.a.b", True),
        ("temp.#", "temperature", False),
        ("#", "any.thing", True),
        ("#.out", "out", True),
        ("#.out", "a.b.out", True),
        ("a.#.z", "a.z", True),
        ("a.#.z", "a.b.c.z", True),
        ("a.#.z", "a.b.c", False),
        ("a*b*c", "aXbYbZc", True),
        ("a*b", "abab", True),
        ("#.a.#.b.#", "x.a.a.y.b", True),
        ("Temp", "temp", False),
        ("a.b", "a.b", True),
        ("a+b.(c)", "a+b.(c)", True),
        ("*", "", True),
    ],
)
def test_examples(pattern: str, name: str, matches: bool) -> None:
    assert compile_pattern(pattern).matches(name) is matches


def _slow_match(pattern: list[str], name: list[str]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "#":
        return any(_slow_match(pattern[1:], name[i:]) for i in range(len(name) + 1))
    return bool(name) and _slow_glob(pattern[0], name[0]) and _slow_match(pattern[1:], name[1:])


def _slow_glob(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_slow_glob(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and pattern[0] == text[0] and _slow_glob(pattern[1:], text[1:])


segments = st.lists(st.one_of(st.just("#"), st.text("ab*", max_size=4)), min_size=1, max_size=5)
names = st.lists(st.text("ab", max_size=4), min_size=1, max_size=5)


@given(segments, names)
def test_a_pattern_matches_as_the_obvious_matcher_does(pattern: list[str], name: list[str]) -> None:
    text = ".".join(pattern)
    if text:
        assert compile_pattern(text).matches(".".join(name)) is _slow_match(pattern, name)


@given(segments, names)
def test_a_long_pattern_matches_as_the_obvious_matcher_does(
    pattern: list[str], name: list[str]
) -> None:
    """Long enough to go through the automaton, whatever stands before."""
    tail = ["ab"] * 20
    text = ".".join([*pattern, *tail])
    expected = _slow_match([*pattern, *tail], [*name, *tail])
    assert compile_pattern(text).matches(".".join([*name, *tail])) is expected


def test_names_are_no_regular_expressions_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query may name a thousand; to compile one takes 100 µs."""
    monkeypatch.setattr(re, "compile", None)
    for n in range(100):
        assert compile_pattern(f"an.exact.name.{n}").matches(f"an.exact.name.{n}")


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "pattern",
    ["a*" * 500 + "b", "#.a." * 200 + "b", "*a" * 400, "#." * 300 + "#", "*a*.#." * 100 + "b"],
)
def test_a_hostile_pattern_costs_no_more_than_its_length_times_the_names(pattern: str) -> None:
    """A backtracking matcher would not come back from these in a lifetime."""
    compiled = compile_pattern(pattern)
    for name in ("a" * 255, "a." * 127 + "a", "aa." * 85):
        compiled.matches(name)


@pytest.mark.parametrize("pattern", ["", "a b", "a.b#", "##", "#x", 'a"', "x" * 1025, "a\\"])
def test_a_pattern_that_no_name_could_match_is_refused(pattern: str) -> None:
    with pytest.raises(RequestError):
        compile_pattern(pattern)


def test_compiled_patterns_are_kept() -> None:
    assert compile_pattern("keep.*") is compile_pattern("keep.*")


_NAMES = ["a", "a.b", "a.b.c", "b", "b.c", "c"]


@given(
    st.lists(st.sampled_from(["a.#", "*.c", "b", "#.c", "a.b", "#", "x"]), min_size=1),
    st.sets(st.sampled_from(_NAMES)),
    st.sets(st.sampled_from(_NAMES)),
)
def test_known_names_are_selected_as_if_they_were_matched(
    texts: list[str], names: set[str], known: set[str]
) -> None:
    patterns = compile_patterns(texts)
    matching = frozenset([name for name in known if patterns.matches(name)])
    informed = patterns.with_known(matching, dict.fromkeys(known))
    by_name = {name: name for name in names}
    assert sorted(informed.select(by_name)) == sorted(patterns.select(by_name))
    assert set(patterns.select(by_name)) == {name for name in names if patterns.matches(name)}
