"""A real daemon in a process of its own, for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from tests.forked import ForkedProcess

START_TIMEOUT_S = 20.0
RECORDD = (sys.executable, "-m", "recordd")


class Process(Protocol):
    """What is asked of a process, whoever started it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...


class DaemonProcess:
    """`recordd serve` on a folder; start it as often as needed.

    Any `ts` is old enough, so that tests may count 1, 2, 3. A process of its own it is in any
    case; it is forked where a new interpreter would come to the same.
    """

    def __init__(self, folder: Path, *flags: str, **environment: str) -> None:
        self.folder = folder
        self.socket_path = folder / "s"
        self.database = folder / "recordd.db"
        self.log_path = folder / "log"
        self.enter: list[str] = []
        """A command that runs the daemon's in a place of its own."""
        self.command: tuple[str, ...] = RECORDD
        self._flags = flags
        self._environment = environment
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def port(self) -> int:
        """The port that the system gave; in the log once the daemon listens."""
        found = re.findall(r"listening on ws://127\.0\.0\.1:(\d+)/ws", self.log_path.read_text())
        return int(found[-1])

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def keep_port(self) -> None:
        """Listen on the same port at each start from now on."""
        self._flags = (*self._flags, "--listen", f"127.0.0.1:{self.port}")

    def start(self) -> DaemonProcess:
        """Start the daemon and wait until it says that it listens."""
        already = self.log.count("listening on ws://") if self.log_path.exists() else 0
        self.process = self._fork() if self._may_be_forked else self.popen()
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.log.count("listening on ws://") == already:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the daemon did not start:\n{self.log}")
            time.sleep(0.01)
        return self

    def popen(self) -> subprocess.Popen[bytes]:
        """Start the daemon in an interpreter of its own, and wait for nothing."""
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [*self.enter, *self.command, *self._arguments()],
                env=self._whole_environment(),
                stdout=log,
                stderr=log,
            )

    @property
    def _may_be_forked(self) -> bool:
        """Whether nothing is asked for that only a new interpreter or another command does."""
        is_plain = all(key.startswith("RECORDD_") for key in self._environment)
        return is_plain and not self.enter and self.command == RECORDD

    def _fork(self) -> ForkedProcess:
        self.log_path.touch()
        return ForkedProcess(self._arguments(), self._whole_environment(), self.log_path)

    def _arguments(self) -> list[str]:
        return [
            "serve",
            *("--socket", str(self.socket_path)),
            *("--database", str(self.database)),
            *("--listen", "127.0.0.1:0"),
            *self._flags,
        ]

    def _whole_environment(self) -> dict[str, str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RECORDD_")}
        defaults = {"RECORDD_RETENTION": "off", "RECORDD_MIN_TS": "0"}
        return environment | defaults | self._environment

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(START_TIMEOUT_S)
