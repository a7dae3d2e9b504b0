"""A disk that is full: reads go on, deleting makes room, and the daemon starts.

On a real small file system (`tests/small_disk.py`). `RECORDD_FULL_DISKS` plays the last
test more often.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon_process import START_TIMEOUT_S, DaemonProcess
from tests.small_disk import SmallDisk
from tests.wire import Wire, request

ROUNDS = int(os.environ.get("RECORDD_FULL_DISKS", "1"))
VALUE = "x" * 1000
MANY = 50
"""Writes that are sent together."""


@pytest.fixture
def disk(short_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(short_path, size_kib=4096)
    yield disk
    disk.close()


StartOnDisk = Callable[..., DaemonProcess]


@pytest.fixture
def on_disk(disk: SmallDisk, short_path: Path) -> Iterator[StartOnDisk]:
    """Return a function that makes a daemon with its database on the small disk."""
    daemons: list[DaemonProcess] = []

    def make(*flags: str, **environment: str) -> DaemonProcess:
        database = ("--database", str(disk.inside / "recordd.db"))
        daemon = DaemonProcess(short_path, *database, *flags, **environment)
        daemon.enter = disk.enter
        daemons.append(daemon)
        return daemon

    yield make
    for daemon in daemons:
        if daemon.process is not None:
            daemon.stop(signal.SIGKILL)


def fill_with_rows(wire: Wire) -> int:
    """Write rows of two records, in stretches, until one is refused; return how many went in."""
    written = 0
    while True:
        name = f"r.{written // 300 % 2}"
        wire.send(*(request("record.set", n, name=name, value=VALUE) for n in range(MANY)))
        answers = [wire.receive() for _ in range(MANY)]
        written += sum("result" in answer for answer in answers)
        refused = [answer["error"] for answer in answers if "error" in answer]
        if refused:
            assert all(error["data"]["reason"] == "unavailable" for error in refused)
            assert "the disk is full" in refused[0]["message"]
            return written


def wait_for(wire: Wire, is_so: Callable[[Any], bool]) -> Any:
    """Ask for `server.stats` until it shows something; return it."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_so(stats := wire.call("server.stats")):
        assert time.monotonic() < deadline, stats
        time.sleep(0.05)
    return stats


def write_when_there_is_room(wire: Wire) -> None:
    """Try to write until the daemon takes it again, which it comes to by itself."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while "rev" not in (answer := wire.call("record.set", name="r.2", value=VALUE)):
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)


def test_on_a_full_disk_deleting_makes_room_and_writing_goes_on(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    daemon = on_disk().start()
    with Wire(daemon.socket_path) as wire:
        written = fill_with_rows(wire)
        assert disk.free_bytes < 65_536
        assert wire.call("record.count")["rows"] == written
        assert "deleted" in wire.call("record.delete", name="r.0")
        assert "reserve are released" in daemon.log
        write_when_there_is_room(wire)
        count = wire.call("record.count")
        wire.call("record.delete", name="r.1")
    assert daemon.stop() == 0
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        assert count["records"] == 2
        assert [row["name"] for row in wire.call("record.query")["records"]] == ["r.2"]


def test_retention_makes_room_on_a_full_disk(disk: SmallDisk, on_disk: StartOnDisk) -> None:
    daemon = on_disk("--retention", "1s", RECORDD_RETENTION_INTERVAL="1s").start()
    with Wire(daemon.socket_path) as wire:
        fill_with_rows(wire)
        stats = wait_for(wire, lambda stats: stats["rows"] == 2)
        assert stats["retention"]["last_error"] is None
        write_when_there_is_room(wire)


def test_retention_says_why_it_failed_also_where_merging_failed_before(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    flags = ("--retention", "1s", "--config", str(disk.inside / "c.toml"))
    (disk.outside / "c.toml").write_text('retention_interval = "1s"\nreserve_bytes = 0\n')
    daemon = on_disk(*flags).start()
    with Wire(daemon.socket_path) as wire:
        fill_with_rows(wire)
        stats = wait_for(wire, lambda stats: stats["retention"]["last_error"] is not None)
        assert stats["retention"]["last_error"] == "the disk is full"


def test_the_daemon_starts_on_a_full_disk_and_serves_and_deletes(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    daemon = on_disk().start()
    with Wire(daemon.socket_path) as wire:
        for name in ("a", "b"):
            wire.call("record.set", name=name, value=VALUE)
    assert daemon.stop() == 0
    disk.fill()
    assert disk.free_bytes == 0
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.get", name="a")["value"] == VALUE
        refused = wire.call("record.set", name="c", value=VALUE)["error"]
        assert "reserve_bytes" in refused["message"]
        assert wire.call("record.delete", name="a") == {"deleted": 1}
        (disk.outside / "filler").unlink()
        wait_for(wire, lambda stats: stats["storage"]["reserve_bytes"] > 0)
        assert "rev" in wire.call("record.set", name="c", value=VALUE)


def test_without_any_room_a_start_is_to_be_tried_again(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    disk.fill()
    daemon = on_disk()
    process = daemon.popen()
    assert process.wait(START_TIMEOUT_S) == 75
    assert "full" in daemon.log or "No space" in daemon.log
    (disk.outside / "filler").unlink()
    daemon.start()


@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_no_answered_write_is_lost_however_often_the_disk_is_full(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    daemon = on_disk()
    newest: dict[str, int] = {}
    for _ in range(ROUNDS):
        daemon.start()
        with Wire(daemon.socket_path) as wire:
            for name, rev in newest.items():
                assert wire.call("record.get", name=name)["rev"] == rev
            wait_for(wire, lambda stats: stats["storage"]["reserve_bytes"] > 0)
            fill_with_rows(wire)
            newest = {row["name"]: row["rev"] for row in wire.call("record.query")["records"]}
            if newest:
                rows = {name: wire.call("record.count", name=name)["rows"] for name in newest}
                doomed = max(newest, key=rows.__getitem__)
                assert "deleted" in wire.call("record.delete", name=doomed)
                del newest[doomed]
        assert daemon.stop(random.choice([signal.SIGKILL, signal.SIGTERM])) in (0, -9)
