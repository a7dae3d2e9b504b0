"""The lines that are no question to a running server: loads, starts, memory, all rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.load import Generator
from benchmarks.wire.data import Scale, made_up_rows
from benchmarks.wire.lines import OURS, Line, at_least, at_most
from benchmarks.wire.lives import idle_connection_kib, memory_mib, start_seconds
from benchmarks.wire.paging import export_all, read_all_pages
from benchmarks.wire.rounds import Rounds
from benchmarks.wire.stage import Stage

__all__ = ["Specials", "make_specials"]

_MANY: Final = 1000


def make_specials(scale: Scale) -> list[Line]:
    """Return these lines in the order of the table."""
    rows = scale.deep_rows or scale.load_rows * scale.load_rounds
    wide = f"{scale.wide_rows:,} rows of {scale.wide_records:,} records"
    return [
        Line(
            name="all-rows",
            title=f"all {scale.flights:,} rows, page by page",
            unit="rows/s",
            targets=(at_least(250_000),),
        ),
        Line(name="export", title="the same through `recordctl export`", unit="rows/s"),
        Line(
            name="load-1000",
            title=f"`set_many` load of {scale.load_rows:,} rows, {_MANY:,} records",
            unit="rows/s",
            targets=(at_least(250_000),),
        ),
        Line(
            name="load-100000",
            title=f"`set_many` load of {wide}",
            unit="rows/s",
            targets=(at_least(180_000),),
        ),
        Line(
            name="start-rows",
            title=f"start to first answer, {rows:,} rows of {_MANY:,} records",
            unit="s",
            targets=(at_most(0.5),),
        ),
        Line(
            name="start-records",
            title=f"start to first answer, {wide}",
            unit="s",
            targets=(at_most(1.5),),
        ),
        Line(
            name="memory-100000",
            title=f"memory after a start, {scale.wide_records:,} records",
            unit="MiB",
            targets=(at_most(110),),
        ),
        Line(
            name="memory-unix",
            title="memory of an idle connection, Unix socket",
            unit="KiB",
            targets=(at_most(10),),
        ),
        Line(
            name="memory-websocket",
            title="memory of an idle connection, WebSocket",
            unit="KiB",
            targets=(at_most(30),),
        ),
    ]


class Specials:
    """Measures these lines of one build, on folders of its own."""

    def __init__(
        self,
        stage: Stage,
        rounds: Rounds,
        scale: Scale,
        folder: Path,
        program: Sequence[str],
        *,
        build: str = OURS,
    ) -> None:
        """Measure the build that `program` runs; `build` is its name among the contestants."""
        self._stage: Final = stage
        self._rounds: Final = rounds
        self._scale: Final = scale
        self._folder: Final = folder
        self._program: Final = program
        self._build: Final = build

    def measure_lives(self, wanted: set[str]) -> None:
        """Measure loads, then starts on what was loaded, then memory of connections."""
        if wanted & {"load-1000", "start-rows"}:
            deep = self._folder / f"{self._build}-deep"
            self._attempt("load-1000", lambda: self._load_deep(deep))
            if not self._is_refused("load-1000"):
                self._attempt("start-rows", lambda: self._start("start-rows", deep))
            shutil.rmtree(deep)
        if wanted & {"load-100000", "start-records", "memory-100000", "limit-2"}:
            wide = self._folder / f"{self._build}-wide"
            shutil.rmtree(wide, ignore_errors=True)
            self._attempt("load-100000", self._load_wide)
            if not self._is_refused("load-100000"):
                self._attempt("start-records", lambda: self._start("start-records", wide))
        for name in sorted(wanted & {"memory-unix", "memory-websocket"}):
            self._attempt(name, partial(self._measure_connections, name))

    def open_wide(self) -> None:
        """Run the daemon of many records; its memory is looked at before anything is asked."""
        site = self._stage.open_recordd("wide", self._program, self._build)
        self._add("memory-100000", memory_mib(site.pid))

    def read_flights(self, path: str, reader: Generator, wanted: set[str]) -> None:
        """Read all rows of a daemon, and check that they are all."""
        client = self._find_client()
        if "all-rows" in wanted:
            read = partial(reader.run, read_all_pages, path)
            self._attempt("all-rows", lambda: self._add_rows("all-rows", *read()))
        if "export" in wanted and client is not None:
            self._attempt("export", lambda: self._add_rows("export", *export_all(client, path)))

    def _find_client(self) -> str | None:
        beside = Path(self._program[0]).with_name("recordctl")
        return str(beside) if beside.exists() else None

    def _load_wide(self) -> None:
        rate = self._stage.fill_recordd("wide", self._program, self._build)
        self._add("load-100000", rate)

    def _measure_connections(self, name: str) -> None:
        folder = self._folder / f"{self._build}-{name}"
        is_websocket = name == "memory-websocket"
        kib = idle_connection_kib(folder, self._program, is_websocket=is_websocket)
        self._add(name, kib)

    def _load_deep(self, folder: Path) -> None:
        rows_each_round = self._scale.load_rows
        for number in range(self._scale.load_rounds):
            rows = list(made_up_rows(_MANY, rows_each_round, number * rows_each_round // _MANY))
            self._add("load-1000", self._stage.load_recordd(folder, self._program, rows))
        done = rows_each_round * self._scale.load_rounds
        while done < self._scale.deep_rows:
            rows = list(made_up_rows(_MANY, rows_each_round, done // _MANY))
            self._stage.load_recordd(folder, self._program, rows)
            done += rows_each_round

    def _start(self, line: str, folder: Path) -> None:
        for _ in range(self._scale.starts):
            self._add(line, start_seconds(folder, self._program))

    def _add_rows(self, line: str, rows: int, seconds: float) -> None:
        if rows != self._scale.flights:
            raise RuntimeError(f"{line}: {rows} rows instead of {self._scale.flights}")
        self._add(line, rows / seconds)

    def _is_refused(self, line: str) -> bool:
        """Tell whether a line was refused: a start on half of the rows is none on all."""
        return (line, self._build) in self._rounds.refused

    def _attempt(self, line: str, action: Callable[[], object]) -> None:
        self._rounds.attempt(line, self._build, action)

    def _add(self, line: str, figure: float) -> None:
        self._rounds.add(line, self._build, figure)
