"""One run from the first load to the last round."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.daemon import call
from benchmarks.load import open_generator
from benchmarks.wire import limit_data, postgres
from benchmarks.wire.data import Scale
from benchmarks.wire.limit_loads import measure_limit_loads
from benchmarks.wire.lines import OURS, Line
from benchmarks.wire.loadgen import LoadGenerator
from benchmarks.wire.questions import Question, make_questions
from benchmarks.wire.rounds import Rounds
from benchmarks.wire.sites import Bench, Site
from benchmarks.wire.specials import Specials, make_specials
from benchmarks.wire.stage import Stage, keys_of, sites_of

__all__ = ["Outcome", "Wish", "lines_of", "measure"]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be measured: how much, of which build, which lines, and beside whom.

    `only` are beginnings of lines' names; none: all lines.
    """

    scale: Scale
    program: tuple[str, ...]
    only: tuple[str, ...] = ()
    has_peers: bool = True


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found out; `refused` and `missing` are reasons in words."""

    lines: list[Line]
    figures: dict[str, dict[str, list[float]]]
    refused: dict[tuple[str, str], str]
    missing: list[str]
    cpu_us: dict[tuple[str, str], list[float]]


def lines_of(scale: Scale) -> list[Line]:
    """Return all lines of the table in their order."""
    return [*make_questions(scale), *make_specials(scale)]


def measure(wish: Wish, generator: LoadGenerator, folder: Path) -> Outcome:
    """Load, start, fill and ask; everything is below `folder`."""
    folder.chmod(0o711)  # PostgreSQL runs as another user where we are root
    chosen = [line for line in lines_of(wish.scale) if _is_wanted(line.name, wish.only)]
    questions = [line for line in chosen if isinstance(line, Question)]
    bench = Bench(generator, folder, {})
    rounds = Rounds(bench)
    with Stage(bench, folder, wish.scale) as stage:
        specials = Specials(stage, rounds, wish.scale, folder, wish.program)
        wanted = {line.name for line in chosen}
        missing = _set_stage(wish, questions, wanted, stage, specials)
        if wish.has_peers:
            _say("loads of the least servers")
            measure_limit_loads(bench, rounds, wish.scale, folder, wanted)
        rounds.check(questions)
        _ask(wish, questions, wanted, bench, rounds, specials)
        _verify_writes(bench, rounds)
    return Outcome(
        lines=chosen,
        figures=rounds.figures,
        refused=rounds.refused,
        missing=missing,
        cpu_us=rounds.cpu_us,
    )


def _is_wanted(name: str, only: Sequence[str]) -> bool:
    return not only or name.startswith(tuple(only))


def _set_stage(
    wish: Wish, questions: list[Question], wanted: set[str], stage: Stage, specials: Specials
) -> list[str]:
    """Fill and open all sites; return the peers that are not installed."""
    _say("loads, starts and memory")
    specials.measure_lives(wanted)
    sites = sites_of(questions, None if wish.has_peers else [OURS])
    if wanted & {"all-rows", "export"}:
        sites.add("recordd flights")
    keys = keys_of(sites, OURS)
    for key in sorted(keys - {"wide"}):
        _say(f"data of {key!r}")
        stage.fill_recordd(key, wish.program)
        stage.open_recordd(key, wish.program)
    if "wide" in keys or "memory-100000" in wanted:
        specials.open_wide()
    _say("peers")
    return stage.open_peers(sites)


def _ask(
    wish: Wish,
    questions: list[Question],
    wanted: set[str],
    bench: Bench,
    rounds: Rounds,
    specials: Specials,
) -> None:
    """Run all rounds; all rows are read by a process of its own between them."""
    with open_generator() as reader:
        for number in range(wish.scale.rounds):
            _say(f"round {number + 1} of {wish.scale.rounds}")
            rounds.measure(questions, wish.scale.seconds)
            if (flights := bench.sites.get("recordd flights")) is not None:
                specials.read_flights(flights.address.removeprefix("unix:"), reader, wanted)


def _verify_writes(bench: Bench, rounds: Rounds) -> None:
    """Compare the rows that are there with the writes that were answered."""
    counts: dict[str, Callable[[Site], int]] = {
        "recordd writes": _count_rows,
        "least write writes": lambda site: limit_data.count_rows(_folder_of(site)),
        "pg writes": lambda site: int(postgres.ask(site, "SELECT count(*) FROM writes.history")),
    }
    for name, count in counts.items():
        if name in rounds.answered:
            expected = rounds.answered[name] + 1000  # what was there before
            check = partial(_verify, bench.sites[name], count, expected)
            rounds.attempt("rows written", name, check)


def _verify(site: Site, count: Callable[[Site], int], expected: int) -> None:
    """Count rows.

    Raises:
        RuntimeError: there are not as many as there have to be.
    """
    if (found := count(site)) != expected:
        raise RuntimeError(f"{found} rows instead of {expected}")


def _count_rows(site: Site) -> int:
    rows: int = call(site.address.removeprefix("unix:"), "record.count")["rows"]
    return rows


def _folder_of(site: Site) -> Path:
    return Path(site.address.removeprefix("unix:")).parent


def _say(what: str) -> None:
    print(f"measuring: {what} …", file=sys.stderr, flush=True)
