"""Daemons forked from a process that has imported them: most of a start is imports.

The standard library's fork server is a process of its own, without threads, that has done
nothing but import; each child is as fresh as a new interpreter, in a quarter of the time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["ForkedProcess"]

_context: Final = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["recordd.cli"])


class ForkedProcess:
    """A `recordd` with these arguments, as `subprocess.Popen` would show it."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self._process: Final = _context.Process(target=_run, args=(arguments, environment, log))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None, "it has been started"
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, return the exit code."""
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("recordd", timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)


def _run(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    """Be a daemon: with its environment, its streams, and signals as a shell leaves them."""
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    from recordd.cli import main

    sys.exit(main(arguments))
