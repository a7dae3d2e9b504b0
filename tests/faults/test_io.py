"""Every I/O call fails in its turn, once or from then on: answers are kept, or refused.

A few here; `make faults` fails every 20th call, `make soak-io` every one (RECORDD_IO_EVERY).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from recordd.persistence.sqlite import worker
from recordd.persistence.sqlite.writing import WritingSide
from tests.faults.conftest import IS_WHOLE
from tests.faults.failing import Fault, Outcome, play_with_fault, prepare
from tests.faults.model import Violation
from tests.faults.vfs import Kind

EVERY = int(os.environ.get("RECORDD_IO_EVERY", "1000"))
SEED = int(os.environ.get("RECORDD_SEED", "1"))
LEAST_OF_A_KIND = 3 if IS_WHOLE else 1

Faulty = tuple[Fault, Outcome | Violation]


def choose_faults(
    calls: dict[Kind, int], every: int, kinds: Sequence[Kind]
) -> Iterator[tuple[Kind, int]]:
    """Return each kind's every so many-th call, and some of each in any case."""
    for kind in kinds:
        count = calls.get(kind, 0)
        step = max(1, min(every, count // LEAST_OF_A_KIND))
        yield from ((kind, number) for number in range(1, count + 1, step))


async def fail_each_call(
    folder: Path,
    *,
    every: int,
    lasts: bool = False,
    is_full: bool = False,
    kinds: Sequence[Kind] = tuple(Kind),
) -> AsyncIterator[Faulty]:
    """Yield what came of each run: its outcome, or the promise that it broke."""
    model = await prepare(folder, SEED)
    (folder / "clean").mkdir()
    clean = await play_with_fault(folder, model, folder / "clean", None)
    assert not clean.refused, "nothing fails unasked"
    for kind, number in choose_faults(clean.calls, every, kinds):
        fault = Fault(kind, number, lasts=lasts, is_full=is_full)
        place = folder / f"{kind.value}{number}"
        place.mkdir()
        try:
            yield fault, await play_with_fault(folder, model, place, fault)
        except Violation as violation:
            yield fault, violation
        shutil.rmtree(place)


@pytest.mark.timeout(120 + 10_000 // EVERY)
@pytest.mark.parametrize(
    "manner", ["once", *(pytest.param(m, marks=pytest.mark.faults) for m in ("lasting", "full"))]
)
async def test_a_failing_call_loses_nothing_and_leaves_nothing_refused(
    folder: Path, manner: str
) -> None:
    broken, runs, refused, stopped = [], 0, 0, 0
    async for fault, outcome in fail_each_call(
        folder, every=EVERY, lasts=manner != "once", is_full=manner == "full"
    ):
        runs += 1
        if isinstance(outcome, Violation):
            broken.append(f"{fault}: {outcome}")
            print(broken[-1])
        else:
            refused += outcome.refused + outcome.reads_refused > 0
            stopped += outcome.fault is not None
    print(f"{manner}: {runs} runs, {refused} with refusals, {stopped} that ended in an error")
    assert broken == []


@pytest.mark.faults
@pytest.mark.parametrize("flaw", ["swallows", "goes on"])
async def test_the_suite_flags_a_daemon_that_ignores_errors(
    folder: Path, monkeypatch: pytest.MonkeyPatch, flaw: str
) -> None:
    """Negative controls: a commit's error is swallowed; a failed fsync is taken for passing."""
    if flaw == "swallows":
        monkeypatch.setattr(WritingSide, "_transact", commit_or_not)
        kind = Kind.WRITE
    else:
        monkeypatch.setattr(worker, "_FATAL", ())
        kind = Kind.SYNC
    runs = fail_each_call(folder, every=20, lasts=True, kinds=[kind])
    assert [fault async for fault, outcome in runs if isinstance(outcome, Violation)]


def commit_or_not(side: WritingSide, *args: Any) -> Any:
    with contextlib.suppress(apsw.Error):
        return commit(side, *args)
    _, rev, *_ = args
    return None if rev is None else [None]  # of the one change: no row went


commit = WritingSide._transact
