"""The demo: a daemon, a month of real flights and weather, and the latest per airport.

January 2013 at New York's airports is imported but for its last day, which is then
played back in quick motion while a table asks, again and again, for the latest arrival
of every destination: one `record.query`, whatever the history behind it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from recordd_client import Client, ClientError, ConnectionFailed, Row, connect
from recordd_client.cli.times import format_time

ROOT: Final = Path(__file__).parents[1]
DATA: Final = ROOT / "examples" / "nyc-2013-01.ndjson.gz"
FOLDER: Final = Path(os.environ.get("DEMO_FOLDER", ROOT / "demo"))
PLAYED_BACK_ROWS: Final = 900
ROWS_PER_SECOND: Final = 30.0
REFRESH_S: Final = 0.5
PIPED_REFRESH_S: Final = 5.0
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG: Final = 1


class Observation(msgspec.Struct):
    """A line of the data: what was observed, when."""

    name: str
    ts: int
    value: msgspec.Raw


class Arrival(msgspec.Struct):
    """What is shown of a flight; times in minutes."""

    flight: str
    origin: str
    delay_min: int
    airport: str


class _Ended(BaseException):
    """A signal has ended the demo, Ctrl-C or another."""


def main() -> int:
    """Run until a signal; return the exit code."""
    console = Console()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    _end_on_signals()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="recordd-demo-") as runtime,
            _daemon(runtime) as url,
            connect(url) as db,
        ):
            _show(db, url, console)
    except _Ended:
        with contextlib.suppress(OSError):  # its terminal may be gone
            console.print("stopped; the database is in demo/")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read it has enough of it
    except ClientError as error:
        print(f"demo: {error}; the daemon's log is demo/recordd.log", file=sys.stderr)
        return 1
    return 0


def _end_on_signals() -> None:
    def end(number: int, frame: object) -> None:
        _ignore_signals()  # a second one must not keep the daemon from being stopped
        raise _Ended

    for number in SIGNALS:
        signal.signal(number, end)


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _daemon(runtime: str) -> Iterator[str]:
    """Run a daemon; yield its address. However this ends, the daemon ends with it."""
    daemon = _start_daemon(runtime)
    try:
        url = f"unix://{runtime}/s"
        _wait_for_socket(url, daemon)
        yield url
    finally:
        _ignore_signals()
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()


def _start_daemon(runtime: str) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECORDD_")}
    command = [
        *(sys.executable, "-m", "recordd", "serve"),
        *("--socket", f"{runtime}/s", "--listen", ""),
        *("--database", str(FOLDER / "recordd.db")),
        *("--retention", "off"),  # the data are of 2013
    ]
    with (FOLDER / "recordd.log").open("wb") as log:
        # Its own session: Ctrl-C is for us, and we stop it in order.
        return subprocess.Popen(
            command,
            env=environment,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def _die_with_parent() -> None:
    """Have the kernel stop the daemon where nobody else can: we may be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_for_socket(url: str, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with connect(url):
                return
        except ConnectionFailed:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _show(db: Client, url: str, console: Console) -> None:
    observations = list(_read())
    imported, played_back = observations[:-PLAYED_BACK_ROWS], observations[-PLAYED_BACK_ROWS:]
    started = time.monotonic()
    for start in range(0, len(imported), 500):
        db.set_many((o.name, o.value, o.ts) for o in imported[start : start + 500])
    elapsed_s = time.monotonic() - started
    console.print(
        f"{len(imported):,} observations imported in {elapsed_s:.1f} s; in another terminal:\n"
        f"  .venv/bin/recordctl --connect {url} query 'weather.*'\nCtrl-C stops.",
        highlight=False,
        soft_wrap=True,  # the command is to be copied
    )
    _play_back(db, played_back, console)


def _play_back(db: Client, observations: list[Observation], console: Console) -> None:
    """Feed observations at their pace and refresh the table; a pipe gets it line by line."""
    started = time.monotonic()
    sent = 0
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            due = min(len(observations), int((time.monotonic() - started) * ROWS_PER_SECOND))
            if due > sent:
                db.set_many((o.name, o.value, o.ts) for o in observations[sent:due])
                sent = due
            table = make_table(db, console.height)
            if console.is_terminal:
                live.update(table, refresh=True)
            else:
                print(_render(table), flush=True)
            time.sleep(REFRESH_S if console.is_terminal else PIPED_REFRESH_S)


def _render(table: Table) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def make_table(db: Client, height: int) -> Table:
    """Return the newest arrivals that a terminal of so many lines has room for."""
    asked = time.perf_counter()
    page = db.query_latest("arrival::*", as_type=Arrival)
    elapsed_ms = (time.perf_counter() - asked) * 1000
    counts = db.count()
    title = f"latest of {len(page.rows)} airports, {counts.rows:,} rows, in {elapsed_ms:.1f} ms"
    table = Table(box=SIMPLE_HEAD, title=title)
    table.add_column("airport")  # the one column that gives way on a narrow terminal
    for column in ("flight", "from", "delay", "landed", "rev"):
        table.add_column(
            column, justify="right" if column in ("delay", "rev") else "left", no_wrap=True
        )
    for row in reversed(page.rows[-max(5, height - 10) :]):
        table.add_row(*_cells(row))
    return table


def _cells(row: Row[Arrival]) -> tuple[Text | str, ...]:
    arrival = row.value
    code = row.name.removeprefix("arrival::")
    return (
        Text(f"{code} {arrival.airport}", no_wrap=True, overflow="ellipsis"),
        arrival.flight,
        arrival.origin,
        f"{arrival.delay_min:+d} min",
        format_time(row.ts),
        str(row.rev),
    )


def _read() -> Iterator[Observation]:
    decode = msgspec.json.Decoder(Observation).decode
    with gzip.open(DATA, "rb") as lines:
        for line in lines:
            yield decode(line)


if __name__ == "__main__":
    sys.exit(main())
