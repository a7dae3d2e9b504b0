"""Shuffled rounds: each question to each contestant once a round, in another order each time."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from benchmarks.wire.loadgen import Measured
from benchmarks.wire.questions import Question
from benchmarks.wire.sites import Bench

__all__ = ["Rounds"]

T = TypeVar("T")


class Rounds:
    """The figures of all rounds so far, and what was refused."""

    def __init__(self, bench: Bench, seed: int = 0) -> None:
        """Ask through `bench`; the order of a round comes of `seed`."""
        self._bench: Final = bench
        self._random: Final = random.Random(seed)
        self.figures: Final[dict[str, dict[str, list[float]]]] = {}
        self.refused: Final[dict[tuple[str, str], str]] = {}
        self.answered: Final[dict[str, int]] = {}
        self.cpu_us: Final[dict[tuple[str, str], list[float]]] = {}

    def check(self, questions: Sequence[Question]) -> None:
        """Look into one answer of every contestant to every question; keep refusals."""
        self._walk(questions, lambda question, contestant: self._check(question, contestant))

    def measure(self, questions: Sequence[Question], seconds: float) -> None:
        """Run one round, contestants of a question behind one another."""
        self._walk(
            questions, lambda question, contestant: self._measure(question, contestant, seconds)
        )

    def add(self, line: str, contestant: str, figure: float) -> None:
        """Keep a figure."""
        self.figures.setdefault(line, {}).setdefault(contestant, []).append(figure)

    def attempt(self, line: str, contestant: str, action: Callable[[], object]) -> None:
        """Do something for a line; a refusal is kept, and the other lines go on."""
        if (line, contestant) in self.refused:
            return
        try:
            action()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            self.refused[line, contestant] = str(error)

    def _walk(self, questions: Sequence[Question], visit: Callable[[Question, str], None]) -> None:
        for question in self._shuffled(questions):
            for contestant in self._shuffled(list(question.asks)):
                if question.asks[contestant].site in self._bench.sites:
                    self.attempt(question.name, contestant, partial(visit, question, contestant))

    def _shuffled(self, items: Sequence[T]) -> list[T]:
        return self._random.sample(items, len(items))

    def _check(self, question: Question, contestant: str) -> None:
        ask = question.asks[contestant]
        self._bench.check(f"{question.name}, {contestant}", ask)

    def _measure(self, question: Question, contestant: str, seconds: float) -> None:
        ask = question.asks[contestant]
        measured = self._bench.measure(
            f"{question.name}, {contestant}",
            ask,
            connections=question.connections,
            in_flight=question.in_flight,
            seconds=seconds,
        )
        self.add(question.name, contestant, question.figure_of(measured))
        self.answered[ask.site] = self.answered.get(ask.site, 0) + measured.answered
        self._keep_cpu(question.name, contestant, measured)

    def _keep_cpu(self, line: str, contestant: str, measured: Measured) -> None:
        """Keep the CPU of a request; the system tells that of one process only."""
        self.cpu_us.setdefault((line, "load generator"), []).append(measured.own_cpu_us)
        if measured.server_cpu_us is not None:
            self.cpu_us.setdefault((line, contestant), []).append(measured.server_cpu_us)
