"""The memory of a record that was loaded, and its buffer, which it has when it needs one."""

import gc
import tracemalloc

import pytest

from recordd.config.rules import Rule
from recordd.config.settings import load
from recordd.core import build_core
from recordd.extending.backend import Loaded, LoadedRecord
from recordd.hub.records import RecordState
from recordd_protocol.patterns import compile_pattern
from recordd_protocol.rows import Row

RECORDS = 2000
MOST_BYTES = 850
"""A record with a value of 46 bytes takes some 700, the text of its row counted in."""


def measure(rule: str = "") -> float:
    """Return the bytes that each of many records takes in the hub, after a start."""
    core = build_core(load({"socket": "s", "database": "x"}, {}, None), [])
    gc.collect()
    tracemalloc.start()
    try:
        value = b'{"accuracy":0.1234,"samples":977,"model":"v7"}'
        records = [
            LoadedRecord(
                Row(f"accuracy::city-{n:05}", value, 1_700_000_000_000 + n, 10**6 + n), 9, n
            )
            for n in range(RECORDS)
        ]
        core.hub.restore(Loaded(epoch="e", rev=2 * 10**6, records=records))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(core.hub.catalogue) == RECORDS
    return taken / RECORDS


def test_a_loaded_record_takes_little() -> None:
    assert measure() < MOST_BYTES


def test_a_buffer_for_each_record_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    make = RecordState.__init__

    def make_with_buffer(self: RecordState, *of: object) -> None:
        make(self, *of)  # type: ignore[arg-type]
        self.forget_buffered()

    monkeypatch.setattr(RecordState, "__init__", make_with_buffer)
    monkeypatch.setattr(
        "recordd.config.rules.RuleTable.rule_for", lambda *_: make_rule("spmc_ring", 1)
    )
    assert measure() > MOST_BYTES


def make_rule(buffer: str, capacity: int) -> Rule:
    return Rule(pattern=compile_pattern("#"), buffer=buffer, capacity=capacity)  # type: ignore[arg-type]
