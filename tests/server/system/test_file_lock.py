"""Lock files: one holder, and never somebody else's file."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from recordd.system.file_lock import LockTaken, is_file_locked, take_file_lock, take_lock


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    held = take_lock(path)
    with pytest.raises(LockTaken):
        take_lock(path)
    os.close(held)
    os.close(take_lock(path))


def test_a_lock_file_that_is_a_link_is_refused_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "s.lock").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        take_lock(str(tmp_path / "s"))
    assert not elsewhere.exists()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with two names, `a` and `b`."""
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    return tmp_path / "a"


def test_a_file_is_locked_by_all_its_names(file: Path) -> None:
    other = str(file.with_name("b"))
    assert not is_file_locked(other)
    held = take_file_lock(str(file))
    assert is_file_locked(other)
    with pytest.raises(LockTaken):
        take_file_lock(other)
    os.close(held)
    assert not is_file_locked(other)
    os.close(take_file_lock(other))


def test_a_files_lock_is_held_though_its_holder_closes_other_descriptors(file: Path) -> None:
    held = take_file_lock(str(file))
    os.close(os.open(file, os.O_RDWR))
    assert is_file_locked(str(file))
    os.close(held)


def test_a_files_lock_and_those_of_sqlite_leave_each_other_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    sqlite3.connect(path).execute("CREATE TABLE x (y)").connection.close()
    held = take_file_lock(str(path))
    lock = f"import sqlite3; sqlite3.connect({str(path)!r}).execute('BEGIN EXCLUSIVE')"
    subprocess.run([sys.executable, "-c", lock], check=True, timeout=20)
    db = sqlite3.connect(path)
    db.execute("BEGIN EXCLUSIVE")
    assert is_file_locked(str(path)) is True
    db.close()
    os.close(held)


def test_a_file_that_is_replaced_while_it_is_locked_is_not_locked(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the old one would go on beside whoever comes for the new one."""
    (file.parent / "new").write_bytes(b"y")
    fstat = os.fstat

    def replace_and_look(descriptor: int) -> os.stat_result:
        if (file.parent / "new").exists():
            (file.parent / "new").rename(file)
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", replace_and_look)
    with pytest.raises(LockTaken):
        take_file_lock(str(file))


def test_a_system_without_such_locks_has_others(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = fcntl.fcntl

    def know_no_such_locks(descriptor: int, command: int, argument: bytes | int = 0) -> object:
        if command in (fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return control(descriptor, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", know_no_such_locks)
    held = take_file_lock(str(file))
    with pytest.raises(LockTaken):
        take_file_lock(str(file.with_name("b")))
    assert not is_file_locked(str(file)), "it cannot be asked for"
    os.close(held)
