"""A disk that is full: reads go on, deleting makes room, and the daemon starts.

On a real small file system (`tests/small_disk.py`). `RECORDD_FULL_DISKS` plays the last
test more often.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
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
RESERVE_BYTES = 1 << 20
"""A quarter of the disk."""

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
        environment.setdefault("RECORDD_MAX_MESSAGE_BYTES", str(2 << 20))
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


def write_at_once(wire: Wire, size_bytes: int, name: str = "big") -> Any:
    """Write about so many bytes in one transaction; return the answer."""
    rows = [{"name": name, "value": "x" * 4000} for _ in range(size_bytes // 4096)]
    return wire.call("record.set_many", records=rows)


def leave_free(disk: SmallDisk, size_bytes: int) -> None:
    """Take all room of the disk but so much."""
    with (disk.outside / "filler").open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, disk.free_bytes - size_bytes)


@contextlib.contextmanager
def reading(disk: SmallDisk) -> Iterator[None]:
    """Have another program hold what it sees of the database, as a long backup does."""
    script = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('BEGIN');"
        "print(db.execute('SELECT count(*) FROM log').fetchone()[0], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [*disk.enter, sys.executable, "-c", script, str(disk.inside / "recordd.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"1\n"
        yield
        reader.communicate()


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


def fill_when_there_is_room(wire: Wire) -> None:
    """Fill the disk with rows of both records, as soon as what was deleted has given room.

    A small write may be taken before that: what is deleted is purged behind the answer, with
    the room of the reserve, and until that is back writes are refused.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while (written := fill_with_rows(wire)) <= 300:
        assert time.monotonic() < deadline, written
        time.sleep(0.05)


def test_on_a_full_disk_deleting_makes_room_and_writing_goes_on(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    daemon = on_disk().start()
    with Wire(daemon.socket_path) as wire:
        written = fill_with_rows(wire)
        assert disk.free_bytes < RESERVE_BYTES // 2
        assert wire.call("record.count")["rows"] == written
        assert "deleted" in wire.call("record.delete", name="r.0")
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


def test_room_that_deleting_took_in_the_wal_comes_back(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    """Each row has a page of its own, so that deleting them fills the WAL, and the disk."""
    daemon = on_disk().start()
    with Wire(daemon.socket_path) as wire:
        write_at_once(wire, 1_500_000)
    assert daemon.stop() == 0
    disk.fill()
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.delete", name="big") == {"deleted": 1_500_000 // 4096}
        write_when_there_is_room(wire)


def test_a_wal_larger_than_the_room_beside_the_reserve_is_folded_in(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    daemon = on_disk().start()
    with Wire(daemon.socket_path) as wire:
        leave_free(disk, 1_350_000)
        assert "last_rev" in write_at_once(wire, 950_000)
        disk.fill()
        assert wire.call("record.delete", name="big") == {"deleted": 950_000 // 4096}
        write_when_there_is_room(wire)


def test_a_write_that_could_not_be_folded_in_is_refused(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    """The WAL has room for it, and then nothing could be deleted any more."""
    daemon = on_disk(RECORDD_RESERVE_BYTES="300000").start()
    with Wire(daemon.socket_path) as wire:
        leave_free(disk, 1_900_000)
        wire.call("record.set", name="small", value=1)
        assert write_at_once(wire, 1_400_000)["error"]["message"] == "the disk is full"
        assert "last_rev" in write_at_once(wire, 700_000)
        disk.fill()
        assert wire.call("record.delete", name="small") == {"deleted": 1}
        assert wire.call("record.delete", name="big") == {"deleted": 700_000 // 4096}
        write_when_there_is_room(wire)


def test_a_disk_that_is_full_again_and_again_leaves_the_reserve_whole(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    """Deleting gives pages of the file free; filling it anew may not let the file grow on."""
    daemon = on_disk().start()
    with Wire(daemon.socket_path) as wire:
        for _ in range(4):
            fill_when_there_is_room(wire)
            for name in ("r.0", "r.1"):
                assert "error" not in wire.call("record.delete", name=name)
        write_when_there_is_room(wire)
    assert daemon.stop() == 0
    assert (disk.outside / "recordd.db-reserve").stat().st_size == RESERVE_BYTES


def test_the_reserve_grows_for_a_large_write_and_shrinks_behind_it(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    daemon = on_disk(RECORDD_RESERVE_BYTES="65536").start()
    with Wire(daemon.socket_path) as wire:
        assert "last_rev" in write_at_once(wire, 1_400_000)
        wait_for(wire, lambda stats: stats["storage"]["reserve_bytes"] == 65_536)


def test_a_reader_that_holds_the_wal_does_not_lock_deleting_out(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    daemon = on_disk().start()
    with Wire(daemon.socket_path) as wire:
        wire.call("record.set", name="before", value=1)
        with reading(disk):
            written = fill_with_rows(wire)
            disk.fill()
            assert wire.call("record.delete", name="before") == {"deleted": 1}
        assert wire.call("record.count")["rows"] == written
        for name in ("r.0", "r.1"):
            assert "error" not in wire.call("record.delete", name=name)
        write_when_there_is_room(wire)


def test_the_index_of_many_small_rows_has_room_too(disk: SmallDisk, on_disk: StartOnDisk) -> None:
    """What is not indexed cannot be purged: the index must fit beside the full log."""
    daemon = on_disk(RECORDD_TAIL_ROWS="1000000").start()
    with Wire(daemon.socket_path) as wire:
        leave_free(disk, 1 << 20)
        rows = [{"name": f"t.{n % 8}", "value": n} for n in range(1000)]
        while "last_rev" in wire.call("record.set_many", records=rows):
            pass
        for n in range(8):
            assert "deleted" in wire.call("record.delete", name=f"t.{n}")
        write_when_there_is_room(wire)


def test_a_daemon_that_ends_with_its_reserve_out_leaves_room_for_the_next_start(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    daemon = on_disk().start()
    with Wire(daemon.socket_path) as wire:
        wire.call("record.set", name="a", value=1)
    assert daemon.stop() == 0
    disk.fill()
    daemon.start()  # in the room of the reserve
    (disk.outside / "filler").unlink()
    leave_free(disk, 600_000)  # less than what brings the reserve back
    assert daemon.stop() == 0
    disk.fill("another")
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.delete", name="a") == {"deleted": 1}


def test_rows_that_wait_for_the_index_have_room_on_a_disk_that_others_fill(
    disk: SmallDisk, on_disk: StartOnDisk
) -> None:
    settings = {"RECORDD_TAIL_ROWS": "1000000", "RECORDD_RESERVE_BYTES": "400000"}
    daemon = on_disk(**settings).start()
    with Wire(daemon.socket_path) as wire:
        for _ in range(16):
            rows = [{"name": f"t.{n % 8}", "value": n} for n in range(1000)]
            assert "last_rev" in wire.call("record.set_many", records=rows)
        disk.fill()
        wait_for(wire, lambda stats: stats["storage"]["unmerged_rows"] == 0)


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
