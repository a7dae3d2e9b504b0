"""The mark beside a database: what it holds, what survives, and what it says of a file."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd.extending.backend import BackendError
from recordd.persistence.sqlite.mark import (
    Mark,
    MarkFile,
    Standing,
    judge,
    mark_path,
    read_mark,
    remove_mark,
    write_mark,
)

MARK = Mark("e" * 16, 7, is_clean=False, boot_id="b" * 36)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "a.db")


def test_a_mark_is_read_back_as_written(database: str) -> None:
    assert read_mark(database) is None
    write_mark(database, MARK)
    assert read_mark(database) == MARK


def test_a_mark_is_small_text_for_this_user_alone(database: str) -> None:
    write_mark(database, Mark("e" * 16, 2**63 - 1, is_clean=True, boot_id="b" * 36))
    path = Path(mark_path(database))
    assert path.stat().st_size < 512
    assert path.read_text().endswith("\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_noted_rev_is_there_at_once_and_never_goes_back(database: str) -> None:
    file = MarkFile(database, MARK)
    file.note(9)
    file.note(8)
    assert read_mark(database) == Mark(MARK.epoch, 9, is_clean=False, boot_id=MARK.boot_id)
    file.release()


def test_closing_says_whether_the_stop_was_clean(database: str) -> None:
    for is_clean in (False, True):
        file = MarkFile(database, MARK)
        file.note(9)
        file.close(is_clean=is_clean)
        file.close(is_clean=is_clean)
        found = read_mark(database)
        assert found is not None
        assert (found.rev, found.is_clean) == (9, is_clean)


def test_any_damaged_byte_makes_a_mark_count_as_missing(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_mark(database, MARK)
    path = Path(mark_path(database))
    whole = path.read_bytes()
    for position in range(len(whole.rstrip())):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        assert read_mark(database) in (None, MARK), position
    for length in range(len(whole.rstrip())):
        path.write_bytes(whole[:length])
        caplog.clear()
        assert read_mark(database) is None
        assert "taken for missing" in caplog.text


def test_a_link_in_the_marks_place_is_not_followed(database: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    os.symlink(precious, mark_path(database))
    with pytest.raises(BackendError, match=r"a\.db-mark"):
        write_mark(database, MARK)
    assert read_mark(database) is None
    assert precious.read_text() == "mine"


def test_a_pipe_in_the_marks_place_holds_nobody_up(database: str) -> None:
    os.mkfifo(mark_path(database))
    with pytest.raises(BackendError, match="no regular file"):
        write_mark(database, MARK)
    assert read_mark(database) is None


def test_a_removed_mark_is_gone_and_may_be_removed_again(database: str) -> None:
    write_mark(database, MARK)
    remove_mark(database)
    remove_mark(database)
    assert read_mark(database) is None


@pytest.mark.parametrize(
    ("mark", "standing"),
    [
        (Mark("e", 7, is_clean=False), Standing.WHOLE),
        (Mark("e", 6, is_clean=True), Standing.WHOLE),
        (Mark("e", 8, is_clean=False), Standing.BEHIND),
        (Mark("f", 7, is_clean=True), Standing.UNMATCHED),
        (Mark("f", 9, is_clean=True), Standing.UNMATCHED),
        (Mark("e", 8, is_clean=False, is_durable=False), Standing.BEHIND_AS_PROMISED),
        (Mark("e", 8, is_clean=True, is_durable=False), Standing.BEHIND),
        (Mark("e", 8, is_clean=False, is_durable=False, boot_id="now"), Standing.BEHIND),
        (Mark("e", 8, is_clean=False, is_durable=False, boot_id="b"), Standing.BEHIND_AS_PROMISED),
    ],
)
def test_a_mark_tells_how_a_file_stands(mark: Mark, standing: Standing) -> None:
    assert judge(mark, epoch="e", rev=7, had_mark=True, boot_id="now") is standing


def test_a_missing_mark_matters_only_to_a_file_that_had_one() -> None:
    for had_mark, standing in ((False, Standing.UNMARKED), (True, Standing.UNMATCHED)):
        assert judge(None, epoch="e", rev=7, had_mark=had_mark, boot_id="") is standing


@given(
    mark_rev=st.integers(0, 99),
    rev=st.integers(0, 99),
    is_clean=st.booleans(),
    is_durable=st.booleans(),
    boot_id=st.sampled_from(["", "b", "c"]),
)
def test_a_file_that_lacks_a_commit_of_its_mark_never_counts_as_whole(
    mark_rev: int, rev: int, is_clean: bool, is_durable: bool, boot_id: str
) -> None:
    mark = Mark("e", mark_rev, is_clean, is_durable, "b")
    standing = judge(mark, epoch="e", rev=rev, had_mark=True, boot_id=boot_id)
    assert (standing is Standing.WHOLE) == (rev >= mark_rev)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are brought to disk, in order."""
    fsync, found = os.fsync, []

    def note_and_sync(descriptor: int) -> None:
        found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note_and_sync)
    return found


def test_a_noted_rev_is_brought_to_disk_by_sync_and_once(database: str, synced: list[str]) -> None:
    file = MarkFile(database, MARK)
    synced.clear()
    file.note(9)
    assert synced == [], "an fsync for each commit would double what it costs"
    file.sync()
    file.sync()
    assert synced == [mark_path(database)]
    file.release()


def test_a_noted_rev_is_brought_to_disk_within_a_second_of_commits(
    database: str, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    file = MarkFile(database, MARK)
    synced.clear()
    file.note(9)
    assert synced == []
    now_s += 1.0
    file.note(10)
    assert synced == [mark_path(database)]
    file.release()


def test_a_mark_that_had_no_room_is_written_when_there_is_some(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, pwrite = MarkFile(database, MARK), os.pwrite

    def find_no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", find_no_room)
    file.note(9)
    file.sync()
    assert read_mark(database) == MARK
    monkeypatch.setattr(os, "pwrite", pwrite)
    file.sync()
    found = read_mark(database)
    assert found is not None
    assert found.rev == 9
    file.release()
