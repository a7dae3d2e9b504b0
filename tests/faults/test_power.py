"""Power cuts: what was acknowledged is on disk, whatever else of the disk's cache was.

Each image is what a cut during a random call can leave behind: all that was synced, and any
part of the rest, torn at sectors. A few here; `make faults` opens 500 and `make soak-power`
10,000 (RECORDD_POWER_IMAGES), from workloads numbered from RECORDD_SEED on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from recordd.persistence.sqlite import statements
from recordd.persistence.sqlite.log_rows import LogRows
from tests.faults.model import Violation
from tests.faults.power import check_image, make_power_cuts, record_workload

IMAGES = int(os.environ.get("RECORDD_POWER_IMAGES", "15"))
SEED = int(os.environ.get("RECORDD_SEED", "1"))
IMAGES_PER_WORKLOAD = 100
CONTROL_IMAGES = 400
"""At most; few are needed, and which ones depends on what the machine does beside them."""


async def cut_power(
    folder: Path, images: int, seed: int, *, lies_about_syncs: bool = False, **settings: Any
) -> AsyncGenerator[str, None]:
    """Yield what is broken in images of one workload."""
    (folder / "origin").mkdir()
    record = await record_workload(folder / "origin", seed, **settings)
    for number, cut in enumerate(
        make_power_cuts(record, images, seed, lies_about_syncs=lies_about_syncs)
    ):
        place = folder / str(number)
        place.mkdir()
        try:
            await check_image(place, cut, record.model)
        except Violation as violation:
            yield f"seed {seed}, image {number}, call {cut.moment}: {violation}"
        for file in place.iterdir():
            file.unlink()


@pytest.mark.timeout(60 + IMAGES)
async def test_a_power_cut_loses_nothing_acknowledged_and_tears_no_batch(folder: Path) -> None:
    for seed, first in enumerate(range(0, IMAGES, IMAGES_PER_WORKLOAD), SEED):
        place = folder / f"w{seed}"
        place.mkdir()
        broken = cut_power(place, min(IMAGES_PER_WORKLOAD, IMAGES - first), seed)
        assert [complaint async for complaint in broken] == []


@pytest.mark.parametrize(
    "fault",
    ["lies", *(pytest.param(f, marks=pytest.mark.faults) for f in ("synchronous", "split"))],
)
async def test_the_suite_flags_a_daemon_that_loses_or_tears(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Negative controls: no sync at COMMIT, a disk that lies, a transaction cut in pieces."""
    settings: dict[str, Any] = {"synchronous": "normal"} if fault == "synchronous" else {}
    if fault == "split":
        monkeypatch.setattr(statements, "insert_rows", insert_rows_one_by_one)
    broken = cut_power(folder, CONTROL_IMAGES, SEED, lies_about_syncs=fault == "lies", **settings)
    # The daemon refuses to start where it sees the loss, which is a loss all the same.
    losses = ("lost", "commits are missing", "missing or empty")
    expected = ("torn",) if fault == "split" else losses
    async with contextlib.aclosing(broken):
        async for complaint in broken:
            if any(word in complaint for word in expected):
                return
    pytest.fail("no image shows it")


def insert_rows_one_by_one(
    db: apsw.Connection,
    records: Sequence[tuple[int, str]],
    rows: LogRows,
) -> None:
    """Do what `statements.insert_rows` does, in a transaction for each row."""
    whole(db, records, rows.part(0, 0))
    for place in range(len(rows)):
        db.execute("COMMIT; BEGIN")
        whole(db, [], rows.part(place, place + 1))


whole = statements.insert_rows
