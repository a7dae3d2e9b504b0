"""Which records clients may write, as `hello` tells it: patterns that grant nothing else."""

from __future__ import annotations

from typing import Final

from recordd.config.rules import Rule
from recordd.hub.hub import Hub
from recordd_protocol.patterns import Pattern

__all__ = ["list_writable"]

_MAX_NAMES: Final = 1000
"""Names that stand for themselves: the welcome stays below its limit whatever they are."""


def list_writable(hub: Hub) -> list[str]:
    """Return patterns of records that are writable, none of which matches a read-only one.

    A rule that no read-only one comes before is there as its pattern. Of another no pattern
    says what is left of it: it is there by the names of the records that exist, up to 1,000.
    """
    by_pattern: list[str] = []
    by_name: set[int] = set()
    read_only: list[Rule] = []
    for rule in hub.rules.rules:
        if not rule.writable:
            read_only.append(rule)
        elif any(_may_overlap(rule.pattern, other.pattern) for other in read_only):
            by_name.add(id(rule))
        else:
            by_pattern.append(rule.pattern.text)
    return [*by_pattern, *_names_under(hub, by_name)]


def _names_under(hub: Hub, rules: set[int]) -> list[str]:
    names: list[str] = []
    for name in hub.catalogue.names() if rules else ():
        state = hub.catalogue.find(name)
        if state is not None and id(state.rule) in rules:
            names.append(name)
            if len(names) == _MAX_NAMES:
                break
    return names


def _may_overlap(one: Pattern, other: Pattern) -> bool:
    """Tell whether a name may match both; sure only where it says no."""
    if one.is_exact:
        return other.matches(one.text)
    if other.is_exact:
        return one.matches(other.text)
    a, b = _start_of(one.text), _start_of(other.text)
    return a.startswith(b) or b.startswith(a)


def _start_of(pattern: str) -> str:
    """Return what every name that matches begins with; `a.#` matches `a` too."""
    start = pattern.partition("*")[0].partition("#")[0]
    return start.removesuffix(".") if pattern[len(start) :].startswith("#") else start
