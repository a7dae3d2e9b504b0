"""The demo leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
