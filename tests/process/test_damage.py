"""Files that are lost or damaged under the daemon: what it says, and how it goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recordd.persistence.sqlite.mark import mark_path, read_mark
from tests.daemon_process import START_TIMEOUT_S, DaemonProcess
from tests.server.sqlite_files import leaves_of, spoil
from tests.wire import Wire

ROWS = 30


@pytest.fixture
def killed(daemon: DaemonProcess) -> DaemonProcess:
    """A daemon that was killed when `ROWS` writes were answered, all of them in the -wal."""
    write(daemon, ROWS)
    daemon.stop(signal.SIGKILL)
    return daemon


def write(daemon: DaemonProcess, rows: int) -> None:
    with Wire(daemon.socket_path) as wire:
        for n in range(rows):
            wire.call("record.set", name=f"r.{n % 5}", value=n)


def refused(daemon: DaemonProcess, *flags: str) -> tuple[int, str]:
    """Start a daemon that is to refuse; return its exit code and its last line."""
    process = DaemonProcess(daemon.folder, *flags).popen()
    code = process.wait(START_TIMEOUT_S)
    return code, daemon.log.splitlines()[-1]


def accept_loss(daemon: DaemonProcess) -> DaemonProcess:
    return DaemonProcess(daemon.folder, "--accept-loss").start()


def hello(daemon: DaemonProcess) -> Any:
    with Wire(daemon.socket_path) as wire:
        return wire.call("hello", client="t")


def wal_of(daemon: DaemonProcess) -> Path:
    return Path(f"{daemon.database}-wal")


def flip_bit_of_wal(daemon: DaemonProcess) -> None:
    damaged = bytearray(wal_of(daemon).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    wal_of(daemon).write_bytes(damaged)


def remove_wal(daemon: DaemonProcess) -> None:
    wal_of(daemon).unlink()


def remove_all_but_the_mark(daemon: DaemonProcess) -> None:
    for ending in ("", "-wal", "-shm"):
        Path(f"{daemon.database}{ending}").unlink()


def list_files(daemon: DaemonProcess) -> dict[str, int]:
    """Return the sizes of the files that hold something; the -shm is SQLite's own."""
    sizes = {path.name: path.stat().st_size for path in daemon.folder.glob("*.db*")}
    return {name: size for name, size in sizes.items() if size and not name.endswith("-shm")}


LOSSES = [flip_bit_of_wal, remove_all_but_the_mark]


@pytest.mark.parametrize("lose", LOSSES)
def test_lost_commits_are_refused_and_named_and_accepted_only_when_told(
    killed: DaemonProcess, lose: Callable[[DaemonProcess], None]
) -> None:
    mark = read_mark(str(killed.database))
    assert mark is not None
    assert mark.rev == ROWS, "kill -9 leaves the mark exact"
    lose(killed)
    left = list_files(killed)
    for _ in range(2):
        code, line = refused(killed)
        assert code == 78
        assert "acknowledged commits are missing" in line
        assert f"to {ROWS} " in line
        assert "recordd restore" in line
        assert "--accept-loss" in line
    assert list_files(killed) == left
    daemon = accept_loss(killed)
    try:
        welcome = hello(daemon)
        assert welcome["epoch"] != mark.epoch
        assert welcome["rev"] == ROWS, "a rev is given once"
        with Wire(daemon.socket_path) as wire:
            resumed = wire.call("record.subscribe", name="#", after=ROWS, epoch=mark.epoch)
            assert resumed["resync"] is True
        with Wire(daemon.socket_path) as wire:
            assert wire.call("record.set", name="a", value=1)["rev"] == ROWS + 1
        assert daemon.stop() == 0
    finally:
        daemon.stop(signal.SIGKILL)
    killed.start()
    again = hello(killed)
    assert (again["epoch"], again["rev"]) == (welcome["epoch"], ROWS + 1)


def test_a_kill_and_a_clean_stop_keep_the_epoch(daemon: DaemonProcess) -> None:
    before = hello(daemon)["epoch"]
    write(daemon, 3)
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        daemon.stop(how)
        mark = read_mark(str(daemon.database))
        assert mark is not None
        assert (mark.rev, mark.is_clean) == (3, how is signal.SIGTERM)
        daemon.start()
        assert hello(daemon)["epoch"] == before


def test_a_deletion_counts_as_a_commit_of_the_mark(daemon: DaemonProcess) -> None:
    write(daemon, 3)
    with Wire(daemon.socket_path) as wire:
        wire.call("record.delete", name="r.0")
    daemon.stop(signal.SIGKILL)
    mark = read_mark(str(daemon.database))
    assert mark is not None
    assert mark.rev == 4


def test_an_older_copy_in_place_of_the_file_is_refused(daemon: DaemonProcess) -> None:
    write(daemon, 3)
    daemon.stop()
    shutil.copy(daemon.database, daemon.folder / "copy")
    daemon.start()
    write(daemon, 2)
    daemon.stop()
    shutil.copy(daemon.folder / "copy", daemon.database)
    code, line = refused(daemon)
    assert (code, "2 acknowledged commits are missing, rev 4 to 5" in line) == (78, True)


def test_a_copied_or_exchanged_file_begins_a_new_epoch(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    write(daemon, 3)
    before = hello(daemon)["epoch"]
    daemon.stop()
    os.unlink(mark_path(str(daemon.database)))
    daemon.start()
    assert "was copied or put in place: a new epoch begins" in daemon.log
    second = hello(daemon)
    assert (second["epoch"] != before, second["rev"]) == (True, 3)
    daemon.stop()
    mark = Path(mark_path(str(daemon.database)))
    mark.write_bytes(mark.read_bytes().replace(b"e", b"f"))
    daemon.start()
    assert hello(daemon)["epoch"] not in (before, second["epoch"])


def replace_database(daemon: DaemonProcess) -> None:
    shutil.copy(daemon.database, daemon.folder / "copy")
    (daemon.folder / "copy").rename(daemon.database)


@pytest.mark.parametrize("take", [remove_wal, replace_database])
def test_an_idle_daemon_notices_that_its_files_are_gone(
    daemon: DaemonProcess, take: Callable[[DaemonProcess], None]
) -> None:
    write(daemon, 3)
    take(daemon)
    assert daemon.process is not None
    assert daemon.process.wait(START_TIMEOUT_S) == 1
    assert "CRITICAL" in daemon.log
    assert str(daemon.database) in daemon.log.split("CRITICAL")[1]


def test_no_write_is_answered_once_the_wal_is_gone_and_none_is_lost(daemon: DaemonProcess) -> None:
    write(daemon, 3)
    with Wire(daemon.socket_path) as wire:
        remove_wal(daemon)
        answer = wire.call("record.set", name="a", value=1)
    assert "rev" not in answer
    assert daemon.process is not None
    assert daemon.process.wait(START_TIMEOUT_S) == 1
    daemon.start()
    assert hello(daemon)["rev"] >= 3, "the end of the connection folds the open -wal in"


def test_rows_that_cannot_be_indexed_end_the_daemon_with_75_and_the_next_start_mends(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket_path) as wire:
        rows = [{"name": f"r.{n % 5}", "value": n, "ts": 10**12 + n} for n in range(600)]
        wire.call("record.set_many", records=rows)
    assert daemon.stop() == 0
    spoil(daemon.database, leaves_of(daemon.database, "timeline")[-1])
    os.truncate(daemon.database, (64 << 20) + 4096)  # too large to be looked at without a reason
    failing = DaemonProcess(daemon.folder, RECORDD_TAIL_ROWS="8").start()
    written = 0
    with Wire(failing.socket_path) as wire, contextlib.suppress(ConnectionError):
        while "rev" in wire.call("record.set", name="new", value=written):
            written += 1
    assert failing.process is not None
    assert failing.process.wait(START_TIMEOUT_S) == 75
    assert "the next start makes the index anew" in failing.log
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.count", name="#")["rows"] == 600 + written
        page_of_all = wire.call("record.query", name="#", limit=None)
        assert len(page_of_all["records"]) == 600 + written
        assert wire.call("server.stats")["storage"]["unmerged_rows"] == 0


def test_a_daemon_starts_with_a_damaged_latest_value_and_a_write_heals_it(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket_path) as wire:
        first = wire.call("record.set", name="lost", value="lost" * 500)
        for n in range(ROWS):
            wire.call("record.set", name=f"r.{n % 5}", value=f"{n} " + "x" * 1000)
    assert daemon.stop() == 0
    image = bytearray(daemon.database.read_bytes())
    where = image.rindex(b"lost" * 500)
    image[where + 20] ^= 1
    image[where + 40] ^= 2
    daemon.database.write_bytes(image)
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        refusal = wire.call("record.get", name="lost")["error"]
        assert refusal["data"]["reason"] == "unavailable"
        assert "record 'lost'" in refusal["message"]
        assert f"page {where // 4096 + 1} of" in refusal["message"]
        assert [row["name"] for row in wire.call("record.list", name="lost")] == ["lost"]
        for n in range(ROWS - 5, ROWS):
            assert wire.call("record.get", name=f"r.{n % 5}")["value"] == f"{n} " + "x" * 1000
        wire.call("record.set", name="lost", value="found", if_rev=first["rev"])
        rows = wire.call("record.query", name="#")["records"]
        assert {row["name"]: row["value"] for row in rows}["lost"] == "found"
        assert len(rows) == 6
    assert daemon.stop() == 0
