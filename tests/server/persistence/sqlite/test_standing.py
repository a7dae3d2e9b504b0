"""How a file goes on that lacks commits, or that is another one; and files that go away."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import msgspec
import pytest

from recordd.conformance.support import row
from recordd.extending.backend import BackendError, FatalBackendError, Loaded
from recordd.persistence.sqlite import schema, standing
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.mark import (
    Mark,
    MarkFile,
    Standing,
    mark_path,
    read_mark,
    write_mark,
)
from recordd.persistence.sqlite.watch import FileWatch
from recordd.persistence.sqlite.worker import VFS
from tests.server.backends import sqlite_options
from tests.server.commits import store

ROWS = 3


def make(path: Path, *, accept_loss: bool = False) -> SqliteBackend:
    return SqliteBackend(sqlite_options(path, accept_loss=accept_loss))


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteBackend]:
    """A backend that is closed also when a test fails; its threads would outlive that."""
    backend = make(path)
    try:
        await backend.initialize()
        yield backend
    finally:
        await backend.close()


async def start(path: Path, *, accept_loss: bool = False) -> Loaded:
    """Return what a start finds; the backend is closed again."""
    backend = make(path, accept_loss=accept_loss)
    try:
        return await backend.initialize()
    finally:
        await backend.close()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database with `ROWS` rows, closed in order."""
    backend = make(tmp_path / "a.db")
    await backend.initialize()
    await store(backend, [row(n) for n in range(1, ROWS + 1)])
    await backend.close()
    return tmp_path / "a.db"


def mark_of(path: Path) -> Mark:
    mark = read_mark(str(path))
    assert mark is not None
    return mark


async def test_a_clean_stop_is_marked_and_the_epoch_stays(path: Path) -> None:
    mark = mark_of(path)
    assert (mark.rev, mark.is_clean) == (ROWS, True)
    loaded = await start(path)
    assert (loaded.epoch, loaded.rev) == (mark.epoch, ROWS)


async def test_a_file_behind_its_mark_is_refused_and_goes_on_when_told(path: Path) -> None:
    before = mark_of(path)
    write_mark(str(path), msgspec.structs.replace(before, rev=10))
    for _ in range(2):
        with pytest.raises(BackendError, match="7 acknowledged commits are missing, rev 4 to 10"):
            await start(path)
    accepted = await start(path, accept_loss=True)
    assert (accepted.epoch != before.epoch, accepted.rev) == (True, 10)
    again = await start(path)
    assert (again.epoch, again.rev) == (accepted.epoch, 10)


async def test_commits_lost_with_the_whole_file_are_named_when_they_are_accepted(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = mark_of(path)
    path.unlink()
    with pytest.raises(BackendError, match=f"missing, rev 1 to {ROWS}"):
        await start(path)
    accepted = await start(path, accept_loss=True)
    assert (accepted.epoch != before.epoch, accepted.rev) == (True, ROWS)
    assert f"rev 1 to {ROWS} are lost (accepted)" in caplog.text


async def test_a_file_that_was_just_made_in_place_of_a_lost_one_accepts_nothing(
    path: Path,
) -> None:
    """A start that accepts the loss is killed when the file is there and nothing is in it."""
    before = mark_of(path)
    path.unlink()
    db = apsw.Connection(str(path), vfs=VFS)
    schema.prepare(db, str(path), "full")
    db.close()
    with pytest.raises(BackendError, match=f"missing, rev 1 to {ROWS}"):
        await start(path)
    assert mark_of(path) == before
    assert (await start(path, accept_loss=True)).rev == ROWS


async def test_what_a_power_cut_may_take_is_taken_with_a_new_epoch(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = mark_of(path)
    write_mark(str(path), Mark(before.epoch, 10, is_clean=False, is_durable=False))
    loaded = await start(path)
    assert (loaded.epoch != before.epoch, loaded.rev) == (True, 10)
    assert "rev 4 to 10 are lost" in caplog.text


async def test_killed_between_file_and_mark_a_new_epoch_is_made_once_more(path: Path) -> None:
    old = msgspec.structs.replace(mark_of(path), rev=10)
    write_mark(str(path), old)
    first = await start(path, accept_loss=True)
    write_mark(str(path), old)
    second = await start(path)
    assert len({old.epoch, first.epoch, second.epoch}) == 3
    assert second.rev == 10


async def test_a_file_of_an_older_version_gets_a_mark_and_keeps_its_epoch(path: Path) -> None:
    epoch = mark_of(path).epoch
    os.unlink(mark_path(str(path)))
    db = apsw.Connection(str(path), vfs=VFS)
    db.execute("DELETE FROM meta WHERE key = 'marked'")
    db.close()
    assert (await start(path)).epoch == epoch
    assert mark_of(path).rev == ROWS


async def test_a_torn_mark_begins_a_new_epoch(path: Path) -> None:
    epoch = mark_of(path).epoch
    Path(mark_path(str(path))).write_text('{"mark":')
    assert (await start(path)).epoch != epoch


@pytest.mark.parametrize("ending", ["", "-wal"])
def test_a_watch_knows_a_file_that_is_gone_or_replaced(tmp_path: Path, ending: str) -> None:
    for name in ("a.db", "a.db-wal"):
        (tmp_path / name).write_text("x")
    watch = FileWatch(str(tmp_path / "a.db"))
    watch.check()
    shutil.copy(tmp_path / f"a.db{ending}", tmp_path / "copy")
    (tmp_path / "copy").rename(tmp_path / f"a.db{ending}")
    with pytest.raises(FatalBackendError, match="replaced"):
        watch.check()
    (tmp_path / f"a.db{ending}").unlink()
    with pytest.raises(FatalBackendError, match="removed"):
        watch.check()


async def test_a_look_at_the_storage_brings_the_mark_to_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    async with opened(path) as backend:
        await backend.check()
        await store(backend, [row(ROWS + 1)])
        monkeypatch.setattr(
            os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        )
        await backend.check()
        await backend.check()
        assert synced == [mark_path(str(path))]


async def test_a_stop_is_not_clean_while_another_program_keeps_the_wal(path: Path) -> None:
    read = f"""if True:
        import sqlite3
        input()
        db = sqlite3.connect({str(path)!r})
        print(db.execute("SELECT count(*) FROM log").fetchone(), flush=True)  # and hold it open
        input()
    """
    command = [sys.executable, "-c", read]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        async with opened(path) as backend:
            await store(backend, [row(ROWS + 1)])
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write(b"\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == b"(%d,)\n" % (ROWS + 1)
        mark = mark_of(path)
        assert (mark.rev, mark.is_clean) == (ROWS + 1, False)
        reader.communicate(b"\n")
    await start(path)
    assert mark_of(path).is_clean


async def check_that_a_lost_file_is_noticed(path: Path, ending: str) -> None:
    async with opened(path) as backend:
        await store(backend, [row(ROWS + 1)])
        shutil.copy(f"{path}{ending}", f"{path}.copy")
        os.replace(f"{path}.copy", f"{path}{ending}")
        for call in (backend.check, lambda: store(backend, [row(ROWS + 2)])):
            with pytest.raises(FatalBackendError, match="replaced"):
                await call()
    assert (mark_of(path).rev, mark_of(path).is_clean) == (ROWS + 1, False)


@pytest.mark.parametrize("ending", ["", "-wal"])
async def test_nothing_is_committed_to_a_file_that_was_replaced(path: Path, ending: str) -> None:
    await check_that_a_lost_file_is_noticed(path, ending)


@pytest.mark.parametrize("ending", ["", "-wal"])
async def test_the_suite_flags_a_backend_that_does_not_look_at_its_files(
    path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: what is committed is gone with the process."""
    monkeypatch.setattr(FileWatch, "check", lambda self: None)
    with pytest.raises(pytest.fail.Exception):
        await check_that_a_lost_file_is_noticed(path, ending)


async def check_that_lost_commits_are_refused(path: Path) -> None:
    """A file from before the last commits is put in the place of the one that has them."""
    before = path.read_bytes()
    async with opened(path) as backend:
        await store(backend, [row(ROWS + 1), row(ROWS + 2)])
    path.write_bytes(before)
    with pytest.raises(BackendError, match=f"missing, rev {ROWS + 1} to {ROWS + 2}"):
        await start(path)


async def test_a_file_from_before_the_last_commits_is_refused(path: Path) -> None:
    await check_that_lost_commits_are_refused(path)


@pytest.mark.parametrize(
    "fault",
    [
        lambda patch: patch.setattr(standing, "judge", lambda *_, **__: Standing.WHOLE),
        lambda patch: patch.setattr(MarkFile, "note", lambda self, rev: None),
    ],
    ids=["a mark that nobody looks at", "a mark that knows of no commit"],
)
async def test_the_suite_flags_a_backend_that_starts_without_its_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Negative control."""
    fault(monkeypatch)
    with pytest.raises(pytest.fail.Exception):
        await check_that_lost_commits_are_refused(path)
