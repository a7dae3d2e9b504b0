"""Negative controls that need a process: suites flag what breaks the promises they keep."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.broken_daemon import BrokenDaemon
from tests.process.test_backup import end_on_full_disk
from tests.process.test_deletions import check_who_starts_afresh
from tests.server.sqlite_files import fill
from tests.small_disk import SmallDisk


@pytest.mark.parametrize("variant", ["forget-names", "forget-deletions"])
def test_the_suite_flags_a_daemon_that_forgets_deletions(short_path: Path, variant: str) -> None:
    daemon = BrokenDaemon(variant, short_path).start()
    try:
        with pytest.raises(AssertionError):
            check_who_starts_afresh(daemon)
    finally:
        daemon.stop(signal.SIGKILL)


async def test_the_suite_flags_a_backup_that_leaves_a_partial_file(
    short_path: Path, tmp_path: Path
) -> None:
    await fill(tmp_path / "a.db", 1000)
    disk = SmallDisk(short_path, size_kib=64)
    try:
        database = tmp_path / "a.db"
        end_on_full_disk(disk, "backup", disk.inside / "b.db", database=database)
        program = (sys.executable, "-m", "tests.broken_daemon", "leave-partials")
        with pytest.raises(AssertionError):
            end_on_full_disk(
                disk, "backup", disk.inside / "b.db", database=database, program=program
            )
    finally:
        disk.close()
