"""A real daemon whose clock leaps. libfaketime sets it; skipped where that is not installed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from recordd_client import connect
from recordd_protocol.methods import RetentionStats
from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
HOUR_MS = 3_600_000

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed")


class Leaping:
    """The environment of a daemon whose clock can be moved by days."""

    def __init__(self, folder: Path) -> None:
        self._offset = folder / "offset"
        self.move(0)
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            "RECORDD_RETENTION": "30d",
            "RECORDD_RETENTION_INTERVAL": "1s",
        }

    def move(self, days: int) -> None:
        self._offset.write_text(f"{days:+d}d")


def wait_for_runs(daemon: DaemonProcess, more: int) -> RetentionStats:
    """Wait until retention has run so many times more; return what it says."""
    with connect(daemon.url) as db:
        first: int | None = None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            stats = db.stats().retention
            assert stats is not None
            first = stats.runs if first is None else first
            if stats.runs >= first + more:
                return stats
            time.sleep(0.02)
    raise AssertionError("retention does not run")


def test_a_leap_of_the_clock_costs_no_row_until_it_is_confirmed(
    start_daemon: StartDaemon, short_path: Path
) -> None:
    clock = Leaping(short_path)
    daemon = start_daemon(**clock.environment)
    now_ms = time.time_ns() // 1_000_000
    with connect(daemon.url) as db:
        db.set_many([("a", n, now_ms - n * 24 * HOUR_MS) for n in range(29)])
        clock.move(365)
        stats = wait_for_runs(daemon, 2)
        assert db.count("a").rows == 29
        assert stats.last_error is not None
        assert stats.clock_leap_ms > 364 * 24 * HOUR_MS
        assert "max_clock_leap" in daemon.log

    daemon.stop()
    daemon.start()
    with connect(daemon.url) as db:
        wait_for_runs(daemon, 1)
        assert db.count("a").rows == 29
        assert db.retention_confirm() > 364 * 24 * HOUR_MS
        wait_for_runs(daemon, 2)
        assert db.count("a").rows == 1


def test_rows_that_a_leap_left_in_the_future_are_mended(
    start_daemon: StartDaemon, short_path: Path
) -> None:
    clock = Leaping(short_path)
    daemon = start_daemon(**clock.environment)
    with connect(daemon.url) as db:
        now_ms = db.set("a", "true").ts
        clock.move(400)
        ahead = db.set("a", "while the clock was ahead").ts
        assert ahead > now_ms + 399 * 24 * HOUR_MS
        clock.move(0)
        assert db.set("a", "takes the time of the latest").ts == ahead
        assert db.set("a", "true again", ts=now_ms + 5).late
        assert db.trim("a", now_ms + HOUR_MS) == 2
        assert db.get("a").value == "true again"
        assert not db.set("a", "and on").late
        assert db.get("a").ts < now_ms + HOUR_MS
