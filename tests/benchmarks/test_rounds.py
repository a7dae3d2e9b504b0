"""Rounds ask everybody everything, and a refusal ends the asking of one alone."""

from __future__ import annotations

from pathlib import Path

from benchmarks.wire.lines import OURS
from benchmarks.wire.loadgen import Load, LoadGenerator, Measured
from benchmarks.wire.plans import Request
from benchmarks.wire.questions import Question
from benchmarks.wire.rounds import Rounds
from benchmarks.wire.sites import Ask, Bench, Site


class CannedGenerator(LoadGenerator):
    """Measures nothing: every answer takes 5 µs; what is sent to one address is refused."""

    def __init__(self, refusing: str = "") -> None:
        super().__init__(Path("unused"))
        self._refusing = refusing
        self.asked: list[str] = []

    def run(self, load: Load, seconds: float = 1.0, warm_up_s: float = 0.1) -> Measured:
        self.asked.append(load.address)
        if load.address == self._refusing:
            raise RuntimeError("refused")
        return Measured(
            rate=7,
            p50_us=5,
            p99_us=6,
            counted=2,
            answered=3,
            seconds=seconds,
            bytes_in=1,
            own_cpu_us=0.5,
        )

    def show(self, load: Load) -> bytes:
        return b'{"samples":1}{"samples":2}'


def make_rounds(folder: Path, generator: LoadGenerator) -> Rounds:
    sites = {name: Site(address=f"unix:/{name}", protocol="lines") for name in ("ours", "theirs")}
    return Rounds(Bench(generator, folder, sites))


def make_question(name: str, values: int | None = None) -> Question:
    asks = {
        contestant: Ask(site=site, requests=lambda: [Request(b"ask\n")], values=values)
        for contestant, site in ((OURS, "ours"), ("Redis", "theirs"), ("NATS", "absent"))
    }
    return Question(name=name, title=name, unit="µs", asks=asks)


def test_everybody_who_is_there_is_asked_everything_once_a_round(tmp_path: Path) -> None:
    generator = CannedGenerator()
    rounds = make_rounds(tmp_path, generator)
    questions = [make_question("one"), make_question("two")]
    rounds.measure(questions, 0.1)
    rounds.measure(questions, 0.1)
    assert rounds.figures == {
        name: {OURS: [5.0, 5.0], "Redis": [5.0, 5.0]} for name in ("one", "two")
    }
    assert rounds.answered == {"ours": 12, "theirs": 12}
    pairs = [set(generator.asked[n : n + 2]) for n in range(0, 8, 2)]
    assert pairs == [{"unix:/ours", "unix:/theirs"}] * 4


def test_who_has_refused_is_not_asked_again_and_the_others_are(tmp_path: Path) -> None:
    generator = CannedGenerator(refusing="unix:/theirs")
    rounds = make_rounds(tmp_path, generator)
    for _ in range(3):
        rounds.measure([make_question("one")], 0.1)
    assert generator.asked.count("unix:/theirs") == 1
    assert rounds.figures == {"one": {OURS: [5.0] * 3}}
    assert rounds.refused == {("one", "Redis"): "refused"}


def test_an_answer_with_other_values_than_there_have_to_be_is_a_refusal(tmp_path: Path) -> None:
    rounds = make_rounds(tmp_path, CannedGenerator())
    rounds.check([make_question(str(values), values=values) for values in (1, 2, 3)])
    assert {line for line, _ in rounds.refused} == {"1", "3"}
    assert "2 values instead of 3" in rounds.refused["3", OURS]
