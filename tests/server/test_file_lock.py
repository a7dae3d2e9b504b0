"""Lock files: one holder, and never somebody else's file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recordd.file_lock import LockTaken, take_lock


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
