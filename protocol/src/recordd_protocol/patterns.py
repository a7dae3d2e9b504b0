r"""Patterns over record names, compiled once and matched in linear time.

Grammar: segments separated by `.`; a segment `#` matches zero or more whole segments,
anywhere; `*` within a segment matches any run of characters other than `.`, the empty
run included. All other characters stand for themselves; case counts.

Theory of operation. A pattern is matched over the name with a `.` appended, so that every
segment of the name ends in a `.` and `#` is simply `(segment.)*`. There are two ways.

A short one becomes a regular expression. Of several ways to place the text between two
wildcards the leftmost one is always good enough, because what follows can only gain room;
so each wildcard but the last is an atomic group that never gives back (the technique of
`fnmatch.translate`). That leaves one anchored wildcard to try at each position: at most
|pattern|·|name| steps, in C, for the part behind the leading text.

A long one becomes an automaton (`automaton.py`): |name| steps, whatever the pattern, but in
Python. At the length where the two change over, the dearest pattern costs the same either way,
some 8 µs for a name of 255 characters. Ordinary patterns are short: a regular expression takes
0.3 µs.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Final, TypeVar

from recordd_protocol.automaton import Automaton
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.names import UNWRITABLE, refuse_character

__all__ = [
    "MAX_PATTERN_BYTES",
    "Pattern",
    "PatternSet",
    "compile_one",
    "compile_pattern",
    "compile_patterns",
]

MAX_PATTERN_BYTES: Final = 1024
"""Longest pattern in bytes: four names' worth."""

_MAX_REGEX_CHARACTERS: Final = 32
"""Longest pattern behind its leading text that becomes a regular expression."""

_FORBIDDEN: Final = re.compile(f"[{UNWRITABLE}]")
_WILDCARD: Final = re.compile(r"[*#]")
V = TypeVar("V")

_ANY_SEGMENTS: Final = r"(?:[^.]*+\.)"


class Pattern:
    """A compiled pattern. Make one with `compile_pattern`, which caches."""

    __slots__ = ("_fullmatch", "_long", "is_exact", "matches_all", "text")

    def __init__(self, text: str) -> None:
        """Compile `text`, which `compile_pattern` has checked."""
        self.text: Final = text
        self.is_exact: Final = "*" not in text and "#" not in text
        self.matches_all: Final = text == "#"
        self._fullmatch: Callable[[str], object] | None = None
        self._long: _LongMatcher | None = None
        if self.is_exact or self.matches_all:
            return
        prefix = _WILDCARD.split(text, maxsplit=1)[0]
        if len(text) - len(prefix) <= _MAX_REGEX_CHARACTERS:
            self._fullmatch = re.compile(_translate(text), re.DOTALL).fullmatch
        else:
            self._long = _LongMatcher(text, prefix)

    def matches(self, name: str) -> bool:
        """Tell whether the pattern covers `name`, in a number of steps linear in its length."""
        if self._fullmatch is not None:
            return self._fullmatch(name + ".") is not None
        if self.is_exact:
            return name == self.text
        return self._long is None or self._long.matches(name)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


@functools.lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Pattern:
    """Compile a pattern; the last 4,096 are kept.

    Raises:
        RequestError: `invalid_params` when empty, over `MAX_PATTERN_BYTES`, with a
            character that no name can hold, or with `#` beside other characters.
    """
    if not text:
        raise RequestError(Reason.INVALID_PARAMS, "name: a pattern must not be empty")
    if len(text.encode()) > MAX_PATTERN_BYTES:
        raise RequestError(
            Reason.INVALID_PARAMS, f"name: pattern longer than {MAX_PATTERN_BYTES} bytes"
        )
    if found := _FORBIDDEN.search(text):
        raise refuse_character(found)
    if any("#" in segment and segment != "#" for segment in text.split(".")):
        raise RequestError(
            Reason.INVALID_PARAMS, "name: '#' must be a whole segment, as in 'a.#' or '#.b'"
        )
    return Pattern(text)


class PatternSet:
    """Several patterns at once. Exact names are looked up; only wildcards are matched."""

    __slots__ = ("_exact", "_known", "_matching", "_wild", "key", "matches_all")

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        unique = {pattern.text: pattern for pattern in patterns}
        self.key: Final = tuple(unique)
        self._exact: Final = {p.text: None for p in unique.values() if p.is_exact}  # in order
        self._wild: Final = [p for p in unique.values() if not p.is_exact]
        self.matches_all: Final = any(pattern.matches_all for pattern in self._wild)
        """Whether one of the patterns is `#`."""
        self._matching: Set[str] = frozenset()
        self._known: Mapping[str, object] = {}

    def with_known(self, matching: Set[str], known: Mapping[str, object]) -> PatternSet:
        """Return the same patterns, which need not be matched against the names in `known` again.

        Of these only those in `matching` match.
        """
        informed = copy.copy(self)
        informed._matching, informed._known = matching, known
        return informed

    @property
    def only_name(self) -> str | None:
        """The name where all is one exact name, else None."""
        return self.key[0] if len(self.key) == 1 and not self._wild else None

    @property
    def wildcards(self) -> int:
        """How many patterns have to be matched against every name."""
        return len(self._wild)

    def matches(self, name: str) -> bool:
        """Tell whether any pattern covers `name`."""
        if name in self._matching or name in self._exact:
            return True
        if name in self._known:
            return False
        # No generator: to make one takes as long as to match.
        for pattern in self._wild:  # noqa: SIM110
            if pattern.matches(name):
                return True
        return False

    def select(self, by_name: Mapping[str, V]) -> list[V]:
        """Return the values whose names match, each once."""
        if self.matches_all:
            return list(by_name.values())
        if not self._wild:
            return [by_name[name] for name in self._exact if name in by_name]
        if not self._known:
            return [value for name, value in by_name.items() if self.matches(name)]
        if by_name.keys() <= self._matching:  # all of 100,000: 5 ms, and 60 to look each one up
            return list(by_name.values())
        # Of a hundred thousand names all but a few are known: those are not looked at one by one.
        unknown = set(by_name).difference(self._known)
        names = {name for name in unknown if self.matches(name)}
        names.update(self._exact, self._matching)
        return [by_name[name] for name in names if name in by_name]


def compile_patterns(texts: str | Iterable[str]) -> PatternSet:
    """Compile one pattern or several; raises as `compile_pattern` does."""
    return PatternSet(map(compile_pattern, [texts] if isinstance(texts, str) else texts))


@functools.lru_cache(maxsize=4096)
def compile_one(text: str) -> PatternSet:
    """Return a set of one pattern; the last 4,096 are kept. Raises as `compile_pattern` does."""
    return PatternSet([compile_pattern(text)])


class _LongMatcher:
    """An automaton, behind cheap checks that rule out most names."""

    __slots__ = ("_automaton", "_min_length", "_prefix", "_text")

    def __init__(self, text: str, prefix: str) -> None:
        segments = re.sub(r"\*+", "*", text).split(".")
        pairs = zip(segments, ["", *segments], strict=False)
        self._text: Final = ".".join([s for s, before in pairs if not s == before == "#"])
        self._prefix: Final = prefix.removesuffix(".")  # "a.#" matches "a" too
        literal = [len(s) - s.count("*") + 1 for s in segments if s != "#"]
        self._min_length: Final = sum(literal) - 1
        self._automaton: Automaton | None = None

    def matches(self, name: str) -> bool:
        if len(name) < self._min_length or not name.startswith(self._prefix):
            return False
        if self._automaton is None:
            self._automaton = Automaton(self._text)
        return self._automaton.matches(name)


def _translate(text: str) -> str:
    """Turn a pattern into a regular expression over the name with a `.` appended."""
    blocks: list[list[str]] = [[]]
    for segment in text.split("."):
        if segment == "#":
            if blocks[-1] or len(blocks) == 1:
                blocks.append([])  # two adjacent '#' say no more than one
        else:
            blocks[-1].append(segment)
    first, *rest = ["".join(map(_translate_segment, block)) for block in blocks]
    if not rest:
        return first
    middle = "".join(f"(?>{_ANY_SEGMENTS}*?{block})" for block in rest[:-1])
    if not rest[-1]:  # the rest of the name ends in a `.`: it is whole segments
        return f"{first}{middle}.*"
    return f"{first}{middle}{_ANY_SEGMENTS}*{rest[-1]}"


def _translate_segment(segment: str) -> str:
    """Turn one segment, wildcards inside, into an expression that ends in its `.`."""
    first, *rest = map(re.escape, re.sub(r"\*+", "*", segment).split("*"))
    if not rest:
        return rf"{first}\."
    middle = "".join(f"(?>[^.]*?{text})" for text in rest[:-1])
    return rf"{first}{middle}[^.]*{rest[-1]}\."
