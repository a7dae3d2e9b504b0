"""Record rules: which records are kept, for how long, and who may write them.

Rules come from `[[record]]` tables; for a record the first whose pattern matches its
name holds, and the defaults where none does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec

from recordd_protocol.errors import RequestError
from recordd_protocol.methods import BufferType, RuleInfo
from recordd_protocol.patterns import Pattern, compile_pattern

__all__ = ["Rule", "RuleTable", "format_age", "parse_age", "read_rules"]

_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the records that `pattern` matches. Ages in ms; None: no bound."""

    pattern: Pattern
    persist: bool = True
    buffer: BufferType = "single_latest"
    capacity: int = 1
    writable: bool = True
    retention_ms: int | None = None
    max_rows: int | None = None
    schema_type: str | None = None

    def as_info(self) -> RuleInfo:
        """Return the rule as `server.stats` shows it."""
        return RuleInfo(
            name=self.pattern.text,
            persist=self.persist,
            writable=self.writable,
            retention_ms=self.retention_ms,
            max_rows=self.max_rows,
        )


class RuleTable:
    """The rules in order; the last one matches every name."""

    def __init__(self, rules: Iterable[Rule], default: Rule) -> None:
        self.rules: Final = (*rules, default)
        self.all_persist: Final = all(rule.persist for rule in self.rules)
        """Whether no record is transient, whatever its name."""
        self.all_writable: Final = all(rule.writable for rule in self.rules)

    def rule_for(self, name: str) -> Rule:
        """Return the first rule that matches."""
        for rule in self.rules:
            if rule.pattern.matches(name):
                return rule
        raise AssertionError("the last rule matches every name")

    def is_ring(self, name: str) -> bool:
        """Tell whether the record of a name keeps every value that comes, up to a number."""
        return self.rule_for(name).buffer == "spmc_ring"


class _RuleRow(msgspec.Struct, forbid_unknown_fields=True):
    """One `[[record]]` table as it stands in the file."""

    name: str
    persist: bool = True
    buffer: BufferType = "single_latest"
    capacity: Annotated[int, msgspec.Meta(ge=1)] | None = None
    writable: bool = True
    retention: str | int | None = None
    max_rows: Annotated[int, msgspec.Meta(ge=1)] | None = None
    schema_type: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None


def read_rules(rows: Any, *, default_retention_ms: int | None, max_capacity: int) -> RuleTable:
    """Read the `[[record]]` tables of a configuration file.

    Raises:
        ValueError: naming the table (counted from 1) and what is wrong with it.
    """
    if not isinstance(rows, list):
        raise ValueError("record: must be an array of tables, [[record]]")
    rules = []
    for index, row in enumerate(rows, 1):
        try:
            parsed = msgspec.convert(row, _RuleRow)
            rules.append(_rule_of(parsed, default_retention_ms, max_capacity))
        except (ValueError, RequestError) as error:
            raise ValueError(f"[[record]] number {index}: {error}") from None
    default = Rule(pattern=compile_pattern("#"), retention_ms=default_retention_ms)
    return RuleTable(rules, default)


def _rule_of(row: _RuleRow, default_retention_ms: int | None, max_capacity: int) -> Rule:
    if row.buffer == "spmc_ring" and row.capacity is None:
        raise ValueError("buffer 'spmc_ring' needs a capacity")
    if row.buffer != "spmc_ring" and row.capacity is not None:
        raise ValueError(f"buffer {row.buffer!r} takes no capacity")
    if row.capacity is not None and row.capacity > max_capacity:
        raise ValueError(f"capacity {row.capacity} is over max_ring_capacity {max_capacity}")
    retention_ms = default_retention_ms if row.retention is None else parse_age(row.retention)
    if retention_ms == 0:
        raise ValueError("retention: 0 would delete everything; 'off' keeps it")
    return Rule(
        pattern=compile_pattern(row.name),
        persist=row.persist,
        buffer=row.buffer,
        capacity=row.capacity or 1,
        writable=row.writable,
        retention_ms=retention_ms,
        max_rows=row.max_rows,
        schema_type=row.schema_type,
    )


def parse_age(text: object) -> int | None:
    """Return the milliseconds of an age like `500ms`, `30s`, `24h` or `7d`; None for `off`.

    Raises:
        ValueError: where it is no age.
    """
    if text == "off":
        return None
    found = re.fullmatch(r"(\d{1,9})(ms|s|m|h|d)", text) if isinstance(text, str) else None
    if not found:
        raise ValueError(f"{text!r} is not an age: write a number with ms, s, m, h or d, or 'off'")
    return int(found[1]) * _UNITS_MS[found[2]]


def format_age(age_ms: int | None) -> str:
    """Write an age in its largest whole unit; the inverse of `parse_age`."""
    if age_ms is None:
        return "off"
    unit = next(u for u in ("d", "h", "m", "s", "ms") if age_ms % _UNITS_MS[u] == 0)
    return f"{age_ms // _UNITS_MS[unit]}{unit}"
