"""A bit flips on disk: each answer is right or refused, and no loss goes without a word.

A few flips here; `make faults` makes 100 in the database and 50 in the WAL, `make soak-bits`
2,000 and 1,000 (RECORDD_BITS, half as many in the WAL).
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from recordd.persistence.sqlite import standing, worker
from recordd.persistence.sqlite.mark import Standing
from recordd.persistence.sqlite.mending import StartMender
from tests.faults.bits import Flipped, Prepared, flip_and_look, prepare_clean, prepare_killed
from tests.faults.model import Violation
from tests.faults.workload import DATABASE, WAL

BITS = int(os.environ.get("RECORDD_BITS", "10"))
SEED = int(os.environ.get("RECORDD_SEED", "1"))
CONTROL_BITS = 40


async def flip(
    prepared: Prepared, folder: Path, file: str, count: int, *, enough: int = 10
) -> tuple[list[Flipped], list[str]]:
    """Return what came of flips, and what was broken."""
    chance = random.Random(SEED)
    results, broken = [], []
    for number in range(count):
        place = folder / f"flip{number}"
        place.mkdir()
        try:
            results.append(await flip_and_look(prepared, place, file, chance))
        except Violation as violation:
            broken.append(str(violation))
        shutil.rmtree(place)
        if len(broken) == enough:
            break
    return results, broken


def summarize(results: list[Flipped]) -> str:
    started = [result for result in results if result.has_started]
    refusing = sum(result.refused > 0 for result in started)
    return f"{len(results)} flips, {len(started)} starts, {refusing} that refused some requests"


@pytest.mark.timeout(60 + BITS)
async def test_a_flipped_bit_in_the_database_gives_no_wrong_answer(folder: Path) -> None:
    results, broken = await flip(await prepare_clean(folder, SEED), folder, DATABASE, BITS)
    print("database:", summarize(results))
    assert broken == []


@pytest.mark.timeout(60 + BITS)
async def test_a_flipped_bit_in_the_wal_loses_nothing_in_silence(folder: Path) -> None:
    results, broken = await flip(await prepare_killed(folder, SEED), folder, WAL, BITS // 2)
    print("WAL:", summarize(results))
    assert broken == []
    refusals = [result.refusal for result in results if not result.has_started]
    assert all("commits are missing" in refusal for refusal in refusals), refusals


@pytest.mark.faults
async def test_the_suite_flags_a_database_without_checksums(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: plain SQLite serves what it finds, if nobody has put it right before."""
    prepared = await prepare_clean(folder, SEED)
    monkeypatch.setattr(StartMender, "mend_first", lambda _: None)
    monkeypatch.setattr(StartMender, "mend", lambda _: False)
    monkeypatch.setattr(worker, "VFS", "unix")
    _, broken = await flip(prepared, folder, DATABASE, CONTROL_BITS, enough=1)
    assert broken


@pytest.mark.faults
async def test_the_suite_flags_a_database_without_a_mark(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: SQLite takes a damaged WAL for one that ends there."""

    def trust(*_: Any, **__: Any) -> Standing:
        return Standing.WHOLE

    prepared = await prepare_killed(folder, SEED)
    monkeypatch.setattr(standing, "judge", trust)
    _, broken = await flip(prepared, folder, WAL, CONTROL_BITS, enough=1)
    assert broken
