"""One process has a database, whatever name of the file others come by; with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.broken_daemon import BrokenDaemon
from tests.daemon_process import START_TIMEOUT_S, DaemonProcess
from tests.wire import Wire

Give = Callable[[Path, Path], Sequence[str]]
"""Gives a file a second name; returns a command that enters a place where it has it."""


def link_hard(file: Path, name: Path) -> Sequence[str]:
    name.hardlink_to(file)
    return ()


def mount(file: Path, name: Path) -> Sequence[str]:
    name.touch()
    return _mounting(file, name)


def mount_folder(file: Path, name: Path) -> Sequence[str]:
    return _mounting(file.parent, name.parent)


def _mounting(what: Path, where: Path) -> Sequence[str]:
    how = "-m" if os.geteuid() == 0 else "-Urm"
    return ("unshare", how, "sh", "-c", f'mount --bind {what} {where} && exec "$@"', "sh")


WAYS: dict[str, Give] = {"hard link": link_hard, "mount": mount, "folder": mount_folder}


def find_second_owner(daemon: DaemonProcess, give: Give) -> list[str]:
    """Return what could be done to the file of a running daemon by another name of it."""
    daemon.start()
    try:
        with Wire(daemon.socket_path) as wire:
            for n in range(5):
                wire.call("record.set", name="a", value=n)
        other = daemon.folder / "other"
        other.mkdir()
        # A folder that is mounted has the file by its own name.
        name = other / (daemon.database.name if give is mount_folder else "b.db")
        enter = give(daemon.database, name)
        return [*_serve(daemon, name, enter), *_run_commands(daemon, name, enter)]
    finally:
        daemon.stop(signal.SIGKILL)


def _serve(daemon: DaemonProcess, name: Path, enter: Sequence[str]) -> list[str]:
    """Return whether a second daemon runs."""
    second = DaemonProcess(name.parent)
    second.database, second.command, second.enter = name, daemon.command, [*enter]
    try:
        second.start()
    except AssertionError:
        assert second.process is not None
        assert second.process.wait(START_TIMEOUT_S) == 78, second.log
        assert "another process has this database open" in second.log
        return []
    finally:
        second.stop(signal.SIGKILL)
    return ["serve"]


def _run_commands(daemon: DaemonProcess, name: Path, enter: Sequence[str]) -> list[str]:
    """Return the commands that go ahead; `check` and `backup` may where the WAL is beside."""
    copy = daemon.folder / "copy.db"
    commands: list[tuple[str, ...]] = [("repair",), ("compact",)]
    if name.name != daemon.database.name:
        commands += [("check",), ("backup", str(copy))]
    running = {
        command: subprocess.Popen(
            [*enter, *daemon.command, *command, "--database", str(name)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    }
    done = []
    for command, process in running.items():
        _, words = process.communicate(timeout=START_TIMEOUT_S)
        if process.returncode == 75 and "another process has this database open" in words:
            continue
        done.append(command[0])
    return done


@pytest.mark.parametrize("give", WAYS.values(), ids=WAYS)
def test_no_name_of_the_file_makes_a_second_owner(short_path: Path, give: Give) -> None:
    assert find_second_owner(DaemonProcess(short_path), give) == []


@pytest.mark.parametrize("give", [link_hard, mount], ids=["hard link", "mount"])
def test_the_suite_flags_a_daemon_that_locks_names(short_path: Path, give: Give) -> None:
    """Negative control: the lock is that of the name alone."""
    found = find_second_owner(BrokenDaemon("lock-names", short_path), give)
    assert "serve" in found


def test_a_killed_owner_leaves_no_lock_behind(daemon: DaemonProcess) -> None:
    other = daemon.folder / "b.db"
    other.hardlink_to(daemon.database)
    daemon.stop(signal.SIGKILL)
    other.unlink()
    daemon.start()
    assert daemon.stop() == 0


def test_a_backup_of_the_owners_own_name_is_taken_beside_it(daemon: DaemonProcess) -> None:
    (daemon.folder / "b.db").hardlink_to(daemon.database)
    command = [sys.executable, "-m", "recordd", "backup", str(daemon.folder / "copy.db")]
    done = subprocess.run(
        [*command, "--database", str(daemon.database)], timeout=START_TIMEOUT_S, check=False
    )
    assert done.returncode == 0
    assert os.path.exists(daemon.folder / "copy.db")
