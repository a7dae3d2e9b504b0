"""What is no question: a start counts only behind its whole load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.wire.data import Row, Scale
from benchmarks.wire.lines import OURS
from benchmarks.wire.loadgen import LoadGenerator
from benchmarks.wire.rounds import Rounds
from benchmarks.wire.sites import Bench
from benchmarks.wire.specials import Specials
from benchmarks.wire.stage import Stage

SCALE = Scale(
    rounds=1,
    seconds=0.1,
    rows_each=1,
    wide_records=1,
    wide_rows=1,
    load_rows=1000,
    load_rounds=2,
    starts=1,
)


class RefusingStage(Stage):
    """Its daemon takes the first load, and refuses the second."""

    loads = 0

    def load_recordd(self, folder: Path, program: Sequence[str], rows: Sequence[Row]) -> float:
        self.loads += 1
        folder.mkdir(exist_ok=True)
        if self.loads == 2:
            raise RuntimeError("refused")
        return 1.0


def test_no_start_is_measured_on_a_part_of_the_rows(tmp_path: Path) -> None:
    bench = Bench(LoadGenerator(Path("unused")), tmp_path, {})
    rounds = Rounds(bench)
    with RefusingStage(bench, tmp_path, SCALE) as stage:
        specials = Specials(stage, rounds, SCALE, tmp_path, ["no such program"])
        specials.measure_lives({"load-1000", "start-rows"})
    assert rounds.refused == {("load-1000", OURS): "refused"}
    assert rounds.figures == {"load-1000": {OURS: [1.0]}}
