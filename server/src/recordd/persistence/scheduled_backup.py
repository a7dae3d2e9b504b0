"""Scheduled backups: a child process copies, verifies and names; the daemon only looks on.

A process of its own does not fight with the event loop for the interpreter lock, and the daemon
goes on however that process ends. It is `recordd backup FOLDER`, and ends with the daemon. Only
the dated names of scheduled backups are ever rotated, and only after a success.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Final

import msgspec
import trio

from recordd.extending.points import BackupReporter
from recordd.system.clock import SYSTEM_CLOCK
from recordd_protocol.methods import BackupStats

__all__ = ["BackupPolicy", "ScheduledBackup", "find_backups", "rotate"]

logger: Final = logging.getLogger(__name__)

_DATED: Final = re.compile(r"recordd-\d{4}-\d\d-\d\dT\d{6}Z\.db")
_DATE_FORMAT: Final = "%Y-%m-%dT%H%M%SZ"
_RETRY_S: Final = 900.0
"""The wait after a failed backup, which is tried anew before the next one is due."""


class BackupPolicy(msgspec.Struct, frozen=True):
    """The folder of backups, their interval, and the number that is kept."""

    folder: str
    interval_ms: int
    keep: int


class ScheduledBackup(BackupReporter):
    """The runs of scheduled backups, and the outcome of the last one."""

    def __init__(self, database: str, policy: BackupPolicy) -> None:
        self._database: Final = database
        self._policy: Final = policy
        self._runs = 0
        self._started_at_ms: int | None = None
        self._finished_at_ms: int | None = None
        self._succeeded_at_ms: int | None = None
        self._path: str | None = None
        self._error: str | None = None

    async def run(self) -> None:
        """Make backups when they are due, for ever; a start hook.

        Cancelled, it ends the child, which leaves nothing unfinished behind.
        """
        interval_s = self._policy.interval_ms / 1000
        await trio.sleep(await trio.to_thread.run_sync(self._find_wait_s))
        while True:
            await self._back_up()
            await trio.sleep(interval_s if self._error is None else min(_RETRY_S, interval_s))

    def statistics(self) -> BackupStats:
        """Return the policy and the outcome of the last run."""
        return BackupStats(
            folder=self._policy.folder,
            interval_ms=self._policy.interval_ms,
            keep=self._policy.keep,
            runs=self._runs,
            last_started_at_ms=self._started_at_ms,
            last_finished_at_ms=self._finished_at_ms,
            last_success_at_ms=self._succeeded_at_ms,
            last_path=self._path,
            last_error=self._error,
        )

    def _find_wait_s(self) -> float:
        """Return how long until a backup is due, given the newest that is there."""
        interval_s = self._policy.interval_ms / 1000
        try:
            newest = find_backups(self._policy.folder)[-1]
            date = newest.removeprefix("recordd-").removesuffix(".db")
            made_at = datetime.strptime(date, _DATE_FORMAT).replace(tzinfo=UTC).timestamp()
        except (IndexError, ValueError, OSError):
            return 0.0  # there is none; the run will tell any other trouble
        return max(0.0, min(interval_s, made_at + interval_s - time.time()))

    async def _back_up(self) -> None:
        self._started_at_ms = SYSTEM_CLOCK.wall_ms()
        self._runs += 1
        try:
            self._error = await self._run_child()
        except OSError as error:
            self._error = f"{self._policy.folder}: {error.strerror}"
        self._finished_at_ms = SYSTEM_CLOCK.wall_ms()
        if self._error is not None:
            logger.error("backup failed: %s", self._error)
            return
        self._succeeded_at_ms = self._finished_at_ms
        logger.info("backup made: %s", self._path)
        kept = os.path.basename(self._path or "")
        try:
            await trio.to_thread.run_sync(rotate, self._policy.folder, self._policy.keep, kept)
        except OSError as error:
            logger.error("old backups stay: %s: %s", error.filename, error.strerror)

    async def _run_child(self) -> str | None:
        """Return the error of the run, None after a success."""
        os.makedirs(self._policy.folder, mode=0o700, exist_ok=True)
        done = await trio.run_process(
            [
                *(sys.executable, "-m", "recordd", "backup"),
                *("--database", self._database, "--", f"{self._policy.folder}/"),
            ],
            env={
                key: value
                for key, value in os.environ.items()
                if not key.startswith("RECORDD_") and key != "NOTIFY_SOCKET"
            },
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        if done.returncode == 0:
            self._path = done.stdout.decode(errors="replace").rpartition(": ")[0]
            return None
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return said[-1] if said else f"it ended with {done.returncode}"


def find_backups(folder: str) -> list[str]:
    """Return the dated names of regular files in a folder, the oldest first."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if _DATED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []


def rotate(folder: str, keep: int, newest: str) -> None:
    """Remove the oldest backups past a number, never the newest, and partial files of killed runs.

    Raises:
        OSError: one cannot be removed; those after it stay too.
    """
    others = [name for name in find_backups(folder) if name != newest]
    for name in others[: max(0, len(others) - keep + 1)]:
        os.unlink(os.path.join(folder, name))
    for name in os.listdir(folder):
        if name.endswith(".db.partial") and _DATED.fullmatch(name.removesuffix(".partial")):
            _remove_abandoned(os.path.join(folder, name))


def _remove_abandoned(path: str) -> None:
    """Remove a partial file that no process is making."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + suffix)
    except BlockingIOError:
        pass  # somebody's, still being made
    finally:
        os.close(descriptor)
