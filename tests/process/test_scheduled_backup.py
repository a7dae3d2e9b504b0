"""Scheduled backups of a real daemon: made, rotated, told of, and ended with it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from recordd.persistence.scheduled_backup import BackupPolicy, ScheduledBackup, find_backups, rotate
from recordd.persistence.sqlite.check import Verdict, check_file
from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.server.sqlite_files import fill_and_kill, quiet
from tests.wire import Wire


def wait_for_runs(daemon: DaemonProcess, runs: int) -> dict[str, Any]:
    """Return the statistics once so many runs are done."""
    deadline = time.monotonic() + 30
    with Wire(daemon.socket_path) as wire:
        while time.monotonic() < deadline:
            stats: dict[str, Any] = wire.call("server.stats")["backup"]
            if stats["runs"] >= runs and stats["last_finished_at_ms"] is not None:
                return stats
            time.sleep(0.05)
    raise AssertionError(stats)


def test_backups_are_made_and_the_oldest_go(start_daemon: StartDaemon, short_path: Path) -> None:
    folder = short_path / "kept"
    folder.mkdir()
    for day in ("01", "02", "03"):
        (folder / f"recordd-2020-01-{day}T000000Z.db").write_text("old")
    (folder / "recordd-2020-01-01T000000Z.db.partial").write_text("left by a kill")
    (folder / "recordd-2020.db").write_text("somebody else's")
    daemon = start_daemon(RECORDD_BACKUP_FOLDER=str(folder), RECORDD_BACKUP_KEEP="2")
    stats = wait_for_runs(daemon, 1)
    assert (stats["last_error"], stats["keep"]) == (None, 2)
    assert stats["last_success_at_ms"] == stats["last_finished_at_ms"]
    assert check_file(stats["last_path"], quiet, is_full=True).verdict is Verdict.SOUND
    assert daemon.stop() == 0
    assert "backup made" in daemon.log
    newest = Path(stats["last_path"]).name
    assert sorted(os.listdir(folder)) == sorted(
        ["recordd-2020-01-03T000000Z.db", newest, "recordd-2020.db"]
    )
    daemon.start()  # one is there, so none is due for a day
    with Wire(daemon.socket_path) as wire:
        assert wire.call("server.stats")["backup"]["runs"] == 0
    assert daemon.stop() == 0


def test_a_backup_that_fails_harms_nobody_and_is_told(
    start_daemon: StartDaemon, short_path: Path
) -> None:
    (short_path / "kept").write_text("a file, no folder")
    daemon = start_daemon(RECORDD_BACKUP_FOLDER=str(short_path / "kept"))
    stats = wait_for_runs(daemon, 1)
    assert stats["last_error"]
    assert stats["last_success_at_ms"] is None
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.set", name="a", value=1)["rev"] == 1
    assert daemon.stop() == 0
    assert "backup failed" in daemon.log


def test_a_backup_ends_with_its_daemon(start_daemon: StartDaemon, short_path: Path) -> None:
    folder = short_path / "kept"
    daemon = start_daemon(RECORDD_BACKUP_FOLDER=str(folder))
    assert daemon.stop(signal.SIGTERM) == 0
    assert not list(folder.glob("*.partial"))


def test_rotation_removes_nothing_but_its_own(tmp_path: Path) -> None:
    names = [f"recordd-2020-01-0{day}T000000Z.db" for day in range(1, 6)]
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / "recordd-2020-01-09T000000Z.db").symlink_to(tmp_path / names[0])
    (tmp_path / "recordd.db").write_text("")
    rotate(str(tmp_path), 2, names[1])
    assert find_backups(str(tmp_path)) == [names[1], names[4]]
    assert (tmp_path / "recordd.db").exists()
    assert (tmp_path / "recordd-2020-01-09T000000Z.db").is_symlink()


class RotatesAnyway(ScheduledBackup):
    """Makes room for a backup that was not made."""

    async def _back_up(self) -> None:
        await super()._back_up()
        rotate(self._policy.folder, self._policy.keep, "")


async def check_that_a_failure_removes_nothing(kind: type[ScheduledBackup], folder: Path) -> None:
    """Let a backup of no database fail where there are more backups than are kept."""
    kept = folder / "kept"
    kept.mkdir()
    for day in range(1, 4):
        (kept / f"recordd-2020-01-0{day}T000000Z.db").write_text("")
    before = sorted(os.listdir(kept))
    backup = kind(str(folder / "none.db"), BackupPolicy(str(kept), 1000, 2))
    await backup._back_up()
    assert "no such file" in (backup.statistics().last_error or "")
    assert sorted(os.listdir(kept)) == before


async def test_a_backup_that_fails_removes_nothing(tmp_path: Path) -> None:
    await check_that_a_failure_removes_nothing(ScheduledBackup, tmp_path)


async def test_the_suite_flags_a_rotation_after_a_failure(tmp_path: Path) -> None:
    """Negative control: a broken backup every day, and the last good one is gone."""
    with pytest.raises(AssertionError):
        await check_that_a_failure_removes_nothing(RotatesAnyway, tmp_path)


async def test_a_backup_that_lacks_commits_counts_as_failed_and_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    await fill_and_kill(tmp_path / "a.db")
    os.unlink(tmp_path / "a.db-wal")
    backup = ScheduledBackup(str(tmp_path / "a.db"), BackupPolicy(str(kept), 1000, 2))
    await backup._back_up()
    assert "1901 to 2000 are missing" in (backup.statistics().last_error or "")
    assert len(find_backups(str(kept))) == 1
