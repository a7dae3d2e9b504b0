"""A signal that comes before a command is ready for it ends it in a word: no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Sends a signal to itself when a module is to be imported, so that no time is left to chance.
AT_IMPORT = """
import os, signal, sys

_, module, number, *arguments = sys.argv

class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Signal())
sys.argv[1:] = arguments
"""
RECORDD = (
    AT_IMPORT
    + """
import runpy
runpy.run_module("recordd", run_name="__main__")
"""
)
RECORDCTL = (
    AT_IMPORT
    + """
from recordd_client.cli import main
sys.exit(main())
"""
)


@pytest.mark.parametrize(
    ("code", "module", "number", "arguments", "expected"),
    [
        (RECORDD, "recordd.cli", signal.SIGINT, ("check",), 130),
        (RECORDD, "apsw", signal.SIGTERM, ("backup", "x"), 143),
        (RECORDD, "recordd.persistence.sqlite.commands", signal.SIGINT, ("repair",), 130),
        (RECORDD, "trio", signal.SIGTERM, ("serve",), 0),
        (RECORDD, "recordd.daemon", signal.SIGINT, (), 0),
        (RECORDCTL, "click", signal.SIGINT, ("ping",), 130),
        (RECORDCTL, "recordd_client.blocking", signal.SIGINT, ("ping",), 130),
    ],
)
def test_a_signal_during_the_imports_ends_a_command_quietly(
    tmp_path: Path,
    code: str,
    module: str,
    number: signal.Signals,
    arguments: tuple[str, ...],
    expected: int,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code, module, str(int(number)), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=tmp_path,
        preexec_fn=take_signals,
        check=False,
    )
    assert (done.returncode, done.stderr, os.listdir(tmp_path)) == (expected, "", [])


def take_signals() -> None:
    """Have a signal its effect, also where the suite runs in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
