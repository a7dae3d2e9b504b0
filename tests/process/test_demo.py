"""The demo is readable on a narrow terminal, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from examples.demo import make_table
from recordd_client import connect
from tests.daemon_process import DaemonProcess

ROOT = Path(__file__).parents[2]


def daemons_of(folder: Path) -> list[str]:
    """Return the process ids of daemons whose database is in the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"recordd" in words and str(folder / "recordd.db").encode() in words:
            found.append(entry.parent.name)
    return found


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGINT, signal.SIGHUP], [signal.SIGKILL]],
)
def test_the_daemon_of_a_demo_ends_with_it(tmp_path: Path, signals: list[signal.Signals]) -> None:
    folder = tmp_path / "demo"
    with subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        env={**os.environ, "DEMO_FOLDER": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if re.search("Ctrl-C stops", line):
                break
        assert daemons_of(folder) != []
        for number in signals:
            demo.send_signal(number)
        demo.stdout.read()
        assert demo.wait(30) == (0 if signals != [signal.SIGKILL] else -signal.SIGKILL)
    deadline = time.monotonic() + 20
    while daemons_of(folder):
        assert time.monotonic() < deadline, "the daemon goes on"
        time.sleep(0.02)


def test_eighty_columns_show_every_column_but_the_airport_whole(
    daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    arrival = {"flight": "US2142", "origin": "LGA", "delay_min": 145, "airport": "Long name " * 9}
    with connect(daemon.url) as db:
        db.set("arrival::BOS", arrival, ts=1359595320000)
        table = make_table(db, height=24)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table)
    (row,) = [line for line in captured.get().splitlines() if "BOS" in line]
    assert re.fullmatch(
        r" *BOS Long name .*… +US2142 +LGA +\+145 min +2013-01-31 01:22:00 +1 *", row
    )
