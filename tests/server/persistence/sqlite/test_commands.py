"""All commands alike: what keeps the daemon and them apart, and what they say."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from recordd.cli import main
from recordd.extending.backend import BackendError
from recordd.persistence.sqlite import files
from recordd.persistence.sqlite.backup import back_up
from recordd.persistence.sqlite.check import Verdict, check_file
from recordd.persistence.sqlite.files import FileError
from recordd.persistence.sqlite.repair import compact, repair
from recordd.persistence.sqlite.restore import restore
from tests.server.sqlite_files import (
    fill,
    make,
    quiet,
    verdict,
)


async def test_what_changes_the_file_waits_for_the_daemon_to_stop(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    await fill(path)
    back_up(str(path), str(copy), quiet, replaces=False)
    backend = make(path)
    await backend.initialize()
    try:
        for change in (
            lambda: restore(str(path), str(copy), quiet),
            lambda: repair(str(path), quiet, is_dry_run=False),
            lambda: compact(str(path), quiet),
        ):
            with pytest.raises(FileError, match="another process") as caught:
                change()
            assert caught.value.exit_code == 75
    finally:
        await backend.close()


@pytest.mark.parametrize("make_odd", [os.mkdir, os.mkfifo, lambda path: os.symlink("x", path)])
async def test_what_is_no_mark_is_refused_in_the_same_words_by_all(
    tmp_path: Path, make_odd: Callable[[str], None]
) -> None:
    path = tmp_path / "a.db"
    await fill(path, 10)
    os.unlink(f"{path}-mark")
    make_odd(f"{path}-mark")
    refusals = []
    for look in (
        lambda: check_file(str(path), quiet, is_full=False),
        lambda: repair(str(path), quiet, is_dry_run=False),
        lambda: repair(str(path), quiet, is_dry_run=True),
        lambda: compact(str(path), quiet),
    ):
        with pytest.raises(FileError) as caught:
            look()
        assert caught.value.exit_code == 78
        refusals.append(str(caught.value))
    backend = make(path)
    with pytest.raises(BackendError) as refused:
        await backend.initialize()
    await backend.close()
    assert {*refusals, str(refused.value)} == {f"{path}-mark: no regular file: move it away"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_in_the_last_step_gives_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Else a command would say so of a file that is in its place."""
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    await fill(path, 10)
    sync = files.sync_folder

    def sync_and_signal(what: str) -> None:
        sync(what)
        signal.raise_signal(number)  # to this thread: a command has no other

    monkeypatch.setattr(files, "sync_folder", sync_and_signal)
    assert main(["backup", "--database", str(path), str(copy)]) == 0
    assert main(["restore", "--database", str(path), str(copy)]) == 0
    assert verdict(path) is Verdict.SOUND
