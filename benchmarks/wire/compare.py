"""Compare two builds of recordd in the same rounds; no timing is a failure.

The base is a commit, which is checked out and installed in a temporary folder, or the
program of a build that is there already.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.load import open_generator
from benchmarks.wire.data import Scale
from benchmarks.wire.lines import OURS
from benchmarks.wire.loadgen import LoadGenerator, NoCompilerError, build_generator
from benchmarks.wire.questions import Question, make_questions
from benchmarks.wire.ratios import BASE, NOW, format_ratios
from benchmarks.wire.rounds import Rounds
from benchmarks.wire.sites import Ask, Bench
from benchmarks.wire.specials import Specials, make_specials
from benchmarks.wire.stage import Stage, keys_of, sites_of

__all__ = ["compare", "install_commit", "main"]

_ROOT: Final = Path(__file__).parents[2]
_SCALE: Final = Scale(
    rounds=9,
    seconds=0.25,
    rows_each=300,
    wide_records=20_000,
    wide_rows=60_000,
    load_rows=100_000,
    load_rounds=1,
    starts=1,
    flights=60_000,
    subscribers=500,
)
_LIVES_ROUNDS: Final = 5
_DISTRIBUTIONS: Final = ("./protocol", "./client[cli]", "./server")


def main() -> None:
    """Install the base, measure both, and print how they compare."""
    options = _build_parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="recordd-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        try:
            generator = build_generator(folder)
        except NoCompilerError as error:
            sys.exit(f"not measured: {error}")
        base = options.base_recordd or stack.enter_context(install_commit(options.base, folder))
        scale = msgspec.structs.replace(_SCALE, rounds=options.rounds)
        builds = {BASE: (base,), NOW: (options.recordd,)}
        print(compare(builds, scale, tuple(options.only), generator, folder))


def compare(
    builds: Mapping[str, Sequence[str]],
    scale: Scale,
    only: tuple[str, ...],
    generator: LoadGenerator,
    folder: Path,
) -> str:
    """Measure both builds in shuffled rounds and return the table of their ratios."""
    questions = [_for_builds(q) for q in make_questions(scale) if q.name.startswith(only or "")]
    lines = [line for line in make_specials(scale) if line.name.startswith(only or "")]
    bench = Bench(generator, folder, {})
    rounds = Rounds(bench)
    with Stage(bench, folder, scale) as stage, open_generator() as reader:
        both = {
            build: Specials(stage, rounds, scale, folder, program, build=build)
            for build, program in builds.items()
        }
        wanted = {line.name for line in (*questions, *lines)}
        for _ in range(min(_LIVES_ROUNDS, scale.rounds)):
            for build in random.sample([BASE, NOW], 2):
                both[build].measure_lives(wanted)
        for build, program in builds.items():
            _open_build(build, program, stage, both[build], questions, wanted)
        for number in range(scale.rounds):
            print(f"round {number + 1} of {scale.rounds} …", file=sys.stderr, flush=True)
            rounds.measure(questions, scale.seconds)
            for build in random.sample([BASE, NOW], 2):
                if (site := bench.sites.get(f"{build} flights")) is not None:
                    path = site.address.removeprefix("unix:")
                    both[build].read_flights(path, reader, wanted)
    for (line, build), reason in rounds.refused.items():
        print(f"refused: {line}, {build}: {reason}", file=sys.stderr)
    return format_ratios([*questions, *lines], rounds.figures)


@contextlib.contextmanager
def install_commit(commit: str, folder: Path) -> Iterator[str]:
    """Check a commit out below `folder` and install it there; give its program `recordd`.

    Raises:
        subprocess.CalledProcessError: there is no such commit, or it cannot be installed.
    """
    tree = folder / "base"
    git = ["git", "-C", str(_ROOT)]
    subprocess.run([*git, "worktree", "add", "-q", "--detach", str(tree), commit], check=True)
    try:
        print(f"installing {commit} …", file=sys.stderr, flush=True)
        venv.create(tree / ".venv")
        bin_folder = tree / ".venv" / "bin"
        # Our own pip installs it: to put one into the new environment takes longer than all else.
        command = [sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), "install"]
        command += ["-q", "--disable-pip-version-check", "-c", "constraints.txt", *_DISTRIBUTIONS]
        subprocess.run(command, cwd=tree, check=True)
        yield str(bin_folder / "recordd")
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(tree)], check=True)


def _for_builds(question: Question) -> Question:
    """Ask both builds what recordd is asked, each on sites of its own."""
    ours = question.asks[OURS]
    return msgspec.structs.replace(
        question, asks={build: _at_build(ours, build) for build in (BASE, NOW)}
    )


def _at_build(ask: Ask, build: str) -> Ask:
    followers = ask.followers
    if followers is not None:
        site = followers.site.replace(OURS, build, 1)
        followers = msgspec.structs.replace(followers, site=site)
    return msgspec.structs.replace(ask, site=ask.site.replace(OURS, build, 1), followers=followers)


def _open_build(
    build: str,
    program: Sequence[str],
    stage: Stage,
    specials: Specials,
    questions: Sequence[Question],
    wanted: set[str],
) -> None:
    keys = keys_of(sites_of(questions, [build]), build)
    if wanted & {"all-rows", "export"}:
        keys.add("flights")
    for key in sorted(keys - {"wide"}):
        stage.fill_recordd(key, program, build)
        stage.open_recordd(key, program, build)
    if "wide" in keys or "memory-100000" in wanted:
        specials.open_wide()


def _build_parser() -> argparse.ArgumentParser:
    own = str(Path(sys.executable).with_name("recordd"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire.compare", description=__doc__)
    base = parser.add_mutually_exclusive_group(required=True)
    base.add_argument("--base", metavar="COMMIT", help="the commit to compare with")
    base.add_argument("--base-recordd", metavar="PROGRAM", help="its program, installed already")
    parser.add_argument("--recordd", metavar="PROGRAM", default=own, help="what is compared")
    parser.add_argument("--rounds", type=int, default=_SCALE.rounds)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="lines' beginnings")
    return parser


if __name__ == "__main__":
    main()
