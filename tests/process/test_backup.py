"""The commands over a file, beside real daemons that run, were stopped, or killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import StartDaemon
from tests.daemon_process import RECORDD, DaemonProcess
from tests.server.sqlite_files import DAMAGE, fill, flip, overwrite, vacuum_by_stock_sqlite
from tests.small_disk import SmallDisk
from tests.wire import Wire


def recordd(
    *arguments: str | Path,
    database: Path,
    enter: Sequence[str] = (),
    program: Sequence[str] = RECORDD,
) -> subprocess.CompletedProcess[str]:
    command = [*enter, *program, *map(str, arguments), "--database", str(database)]
    return subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)


class Writer(threading.Thread):
    """Writes one row after the other; `acknowledged` is the newest rev answered."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.wire = Wire(path)
        self.acknowledged = 0
        self.began = threading.Event()
        self.stop = threading.Event()

    def run(self) -> None:
        n = 0
        while not self.stop.is_set():
            n += 1
            rows = [{"name": f"r.{n % 5}", "value": {"n": n, "pad": "x" * 200}}] * 3
            self.acknowledged = self.wire.call("record.set_many", records=rows)["last_rev"]
            self.began.set()
        self.wire.close()


def test_a_running_daemon_is_backed_up_under_load(daemon: DaemonProcess, tmp_path: Path) -> None:
    writer = Writer(daemon.socket_path)
    writer.start()
    assert writer.began.wait(10)
    before = writer.acknowledged
    done = recordd("backup", tmp_path / "copy.db", database=daemon.database)
    after = writer.acknowledged
    writer.stop.set()
    writer.join(10)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/copy.db: ")
    checked = recordd("check", "--full", "--json", database=tmp_path / "copy.db")
    report = json.loads(checked.stdout)
    assert (checked.returncode, report["verdict"]) == (0, "sound")
    assert before <= report["summary"]["rev"] <= after
    assert recordd("check", "--full", database=daemon.database).returncode == 0
    assert daemon.stop() == 0


def test_a_follower_of_a_restored_database_starts_afresh(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon()
    with Wire(daemon.socket_path) as wire:
        old = [wire.call("record.set", name="a", value=n) for n in range(5)][-1]
        assert recordd("backup", tmp_path / "copy.db", database=daemon.database).returncode == 0
        last = [wire.call("record.set", name="a", value=n) for n in range(5, 9)][-1]
        epoch = wire.call("hello", client="test")["epoch"]
    refused = recordd("restore", tmp_path / "copy.db", database=daemon.database)
    assert (refused.returncode, "another process" in refused.stderr) == (75, True)
    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    done = recordd("restore", tmp_path / "copy.db", database=daemon.database)
    assert done.returncode == 0, done.stderr
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.get", name="a")["value"] == 4
        assert wire.call("hello", client="test")["epoch"] != epoch
        assert wire.call("record.set", name="a", value=99)["rev"] > old["rev"]
        answer = wire.call("record.subscribe", name="a", after=last["rev"], epoch=epoch)
        assert answer["resync"] is True
    [aside] = daemon.folder.glob("recordd.db.before-restore-*Z")
    back = recordd("check", "--full", "--json", database=aside)
    assert json.loads(back.stdout)["summary"]["rev"] == last["rev"]


async def test_exit_codes_tell_what_is_the_matter(tmp_path: Path) -> None:
    path, stale = tmp_path / "a.db", tmp_path / "v.db"
    await fill(path)
    vacuum_by_stock_sqlite(path, stale)
    assert recordd("check", database=path).returncode == 0
    done = recordd("check", database=stale)
    assert (done.returncode, "recordd repair" in done.stdout) == (3, True)
    flip(path, 32 * 300, page=12)
    assert recordd("check", database=path).returncode == 1
    assert recordd("repair", database=path).returncode == 0
    overwrite(path, page=12, offset=500, content=DAMAGE)
    assert recordd("check", "--json", database=path).returncode == 1
    assert recordd("backup", tmp_path / "b.db", database=path).returncode == 78
    assert recordd("repair", database=path).returncode in (0, 1)  # the page may be of the index
    assert recordd("check", database=tmp_path / "none").returncode == 78


@pytest.fixture
def small_disk(short_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(short_path, size_kib=2048)
    yield disk
    disk.close()


async def test_a_full_disk_ends_each_command_with_nothing_lost(
    small_disk: SmallDisk, tmp_path: Path
) -> None:
    """75: another time there may be room."""
    large, small = tmp_path / "large.db", tmp_path / "small.db"
    await fill(large, 15_000)
    await fill(small, 4000)
    assert large.stat().st_size > 2 << 20 > small.stat().st_size > 600_000
    on_disk = small_disk.outside / "a.db"
    shutil.copyfile(small, on_disk)
    shutil.copyfile(f"{small}-mark", f"{on_disk}-mark")
    damaged = bytearray(small.read_bytes())
    damaged[9 * 4096 + 500 : 9 * 4096 + 600] = bytes(100)
    (small_disk.outside / "damaged.db").write_bytes(damaged)
    small_disk.fill()
    inside = small_disk.inside
    for arguments, database in (
        (("backup", inside / "b.db"), large),
        (("restore", large), inside / "a.db"),
        (("compact",), inside / "a.db"),
        (("repair",), inside / "damaged.db"),
    ):
        end_on_full_disk(small_disk, *arguments, database=database)


def end_on_full_disk(
    disk: SmallDisk, *arguments: str | Path, database: Path, program: Sequence[str] = RECORDD
) -> None:
    """Run a command that finds no room, and see that it has changed nothing."""
    before = {path.name: path.read_bytes() for path in disk.outside.iterdir()}
    done = recordd(*arguments, database=database, enter=disk.enter, program=program)
    assert done.returncode == 75, (arguments, done)
    assert "disk is full" in done.stderr or "No space" in done.stderr
    after = {path.name: path.read_bytes() for path in disk.outside.iterdir()}
    assert {name: after.get(name) for name in before} == before
    own = (".lock", "-wal", "-shm")
    assert all(name.endswith(own) for name in after.keys() - before.keys())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_backup_that_is_ended_leaves_nothing(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.db"
    await fill(path, 20_000)
    before = set(os.listdir(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-m", "recordd", "backup", tmp_path / "b.db", "--database", path],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / "b.db.partial").exists():
        assert process.poll() is None
    process.send_signal(number)
    code = process.wait(20)
    left = set(os.listdir(tmp_path)) - before
    assert (code, left) in [(128 + number, set()), (0, {"b.db"})]
