"""Files that are not what they should be: nothing is touched, and the way on is said."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.wire import Wire


def run(command: str, database: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recordd", command, "--database", str(database), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
    )


def write(daemon: DaemonProcess, count: int) -> None:
    with Wire(daemon.socket_path) as wire:
        for n in range(count):
            assert "rev" in wire.call("record.set", name="a", value=n)


@pytest.mark.parametrize("is_empty", [False, True])
def test_a_wal_without_its_database_is_left_alone(daemon: DaemonProcess, is_empty: bool) -> None:
    """SQLite would delete it, with the commits in it."""
    write(daemon, 30)
    daemon.stop(signal.SIGKILL)
    kept, wal = daemon.folder / "kept", Path(f"{daemon.database}-wal")
    shutil.move(daemon.database, kept)
    if is_empty:
        daemon.database.touch()
    before = wal.read_bytes()
    refused = daemon.popen()
    assert refused.wait(20) == 78
    assert "put the database back" in daemon.log
    for command, arguments in (("repair", ()), ("check", ()), ("backup", (str(kept) + ".b",))):
        assert run(command, daemon.database, *arguments).returncode != 0
        assert wal.read_bytes() == before
    shutil.move(kept, daemon.database)
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.get", name="a")["value"] == 29


def test_a_link_to_the_database_is_the_database(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    write(daemon, 3)
    link = daemon.folder / "link.db"
    os.symlink(daemon.database, link)
    done = run("compact", link)
    assert (done.returncode, "open" in done.stderr) == (75, True), done
    assert daemon.stop() == 0
    assert run("compact", link).returncode == 0
    served = DaemonProcess(daemon.folder)
    served.database = link
    served.start()
    with Wire(served.socket_path) as wire:
        assert wire.call("record.get", name="a")["value"] == 2
    assert served.stop() == 0
    assert not Path(f"{link}-mark").exists()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
@pytest.mark.parametrize("command", ["serve", "check", "repair"])
def test_a_path_that_is_no_file_is_refused_for_good(
    short_path: Path, make: object, command: str
) -> None:
    database = short_path / "a.db"
    assert callable(make)
    make(database)
    listening = ("--socket", str(short_path / "s"), "--listen", "127.0.0.1:0")
    done = run(command, database, *(listening if command == "serve" else ()))
    assert done.returncode == 78, done
    assert "no regular file" in done.stderr or "not an SQLite database" in done.stderr


def test_a_backup_replaces_nothing_but_files(daemon: DaemonProcess) -> None:
    fifo = daemon.folder / "fifo"
    os.mkfifo(fifo)
    done = run("backup", daemon.database, "--force", str(fifo))
    assert (done.returncode, "no regular file" in done.stderr) == (78, True), done
    assert fifo.is_fifo()


@pytest.mark.parametrize("left", [0.95, 0.5])
def test_the_rest_of_a_file_that_was_cut_off_is_saved(daemon: DaemonProcess, left: float) -> None:
    with Wire(daemon.socket_path) as wire:
        for first in range(0, 3000, 500):
            rows = [{"name": "a", "value": n, "ts": n + 1} for n in range(first, first + 500)]
            wire.call("record.set_many", records=rows)
    assert daemon.stop() == 0
    size = daemon.database.stat().st_size
    os.truncate(daemon.database, int(size * left) // 4096 * 4096)
    assert run("check", daemon.database).returncode == 1
    done = run("repair", daemon.database)
    assert "cut off" in done.stdout, done
    assert done.returncode == ("lost: " in done.stdout)
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        found = wire.call("record.query", name="a", limit=None)["records"]
        assert len(found) > 500
        assert all(row["value"] == row["ts"] - 1 == row["rev"] - 1 for row in found)
