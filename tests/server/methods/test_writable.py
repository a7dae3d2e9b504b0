"""What `hello` lists as writable: everything in it may be written."""

from __future__ import annotations

from typing import Any

import pytest

from recordd.config.rules import read_rules
from recordd.hub.hub import Hub
from recordd.methods.writable import list_writable
from recordd_protocol.patterns import compile_pattern
from recordd_protocol.rows import Row
from tests.server.commits import publish

NAMES = ["a", "a.x", "a.y", "b", "b.x", "ab", "c.x.y"]


def make_hub(*rules: dict[str, Any]) -> Hub:
    hub = Hub(read_rules(list(rules), default_retention_ms=None, max_capacity=1), max_records=5000)
    publish(hub, [Row(name, b"1", 1, rev) for rev, name in enumerate(NAMES, 1)])
    return hub


def read_only(name: str) -> dict[str, Any]:
    return {"name": name, "writable": False}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], ["#"]),
        ([{"name": "a.*"}, {"name": "b"}], ["a.*", "b", "#"]),
        ([read_only("a.x")], ["a", "a.y", "b", "b.x", "ab", "c.x.y"]),
        ([read_only("a.*")], ["a", "b", "b.x", "ab", "c.x.y"]),
        ([read_only("a.#")], ["b", "b.x", "ab", "c.x.y"]),
        ([{"name": "a.x"}, read_only("a.*"), {"name": "b.*"}, {"name": "a*"}],
         ["a.x", "b.*", "a", "b", "ab", "c.x.y"]),
        ([read_only("#"), {"name": "a.*"}], []),
    ],
)  # fmt: skip
def test_patterns_where_they_say_it_all_and_names_where_not(
    rules: list[dict[str, Any]], expected: list[str]
) -> None:
    hub = make_hub(*rules)
    listed = list_writable(hub)
    assert listed == expected
    for name in NAMES:
        if any(compile_pattern(pattern).matches(name) for pattern in listed):
            assert hub.rules.rule_for(name).writable


def test_names_are_bounded() -> None:
    hub = make_hub(read_only("a.x"))
    publish(hub, [Row(f"n{n}", b"1", 1, 100 + n) for n in range(2000)])
    assert len(list_writable(hub)) == 1000
