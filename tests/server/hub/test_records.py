"""The memory of a record that was loaded, and its buffer, which it has when it needs one."""

import gc
import random
import tracemalloc

import pytest

from recordd.config.rules import Rule
from recordd.config.settings import load
from recordd.core import build_core
from recordd.extending.backend import Loaded, LoadedRecord
from recordd.hub.records import RecordState, memory_of
from recordd_protocol.patterns import compile_pattern
from recordd_protocol.rows import Row, RowKind

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


@pytest.mark.parametrize(("buffer", "capacity"), [
    ("single_latest", 1), ("spmc_ring", 1), ("spmc_ring", 3),
])  # fmt: skip
@pytest.mark.parametrize("seed", range(5))
def test_the_buffer_is_that_of_a_list_of_rows(buffer: str, capacity: int, seed: int) -> None:
    chance = random.Random(seed)
    first = latest = Row("a", b"0", 1, 1)
    state = RecordState(0, "a", make_rule(buffer, capacity), first, 1)
    kept, taken = [first], memory_of(first)
    for rev in range(2, 40):
        if chance.random() < 0.1:
            state.forget_buffered()
            kept, taken = [], 0
        is_late = chance.random() < 0.4
        kind = RowKind.LATE if is_late else RowKind.LATEST
        row = Row("a", b"1" * chance.randint(1, 9), rev, rev, kind)
        taken += state.take(row)
        latest = latest if is_late else row
        if buffer == "spmc_ring" or not is_late:
            kept = [*kept, row][-capacity:]
        assert list(state.buffer) == kept
        assert state.latest is latest
        assert taken == state.memory == sum(map(memory_of, kept))
