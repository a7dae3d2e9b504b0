"""The reserve: when it is there, when it is given away, when it comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recordd.backend import BackendError
from recordd.persistence.sqlite.reserve import Reserve, plan_reserve

WANTED = 1 << 20
HALF, QUARTER = WANTED // 2, WANTED // 4


@pytest.mark.parametrize(
    ("held", "free", "reusable", "size"),
    [
        (0, WANTED + HALF, 0, WANTED),
        (0, 10 * WANTED, 0, WANTED),
        (0, WANTED + QUARTER, 0, WANTED - QUARTER),
        (0, WANTED, 0, 0),
        (0, WANTED, QUARTER, HALF),
        (0, HALF + 1, QUARTER, 0),
        (0, WANTED, None, HALF),
        (HALF, WANTED, 0, WANTED),
        (HALF, QUARTER, QUARTER, HALF),
        (WANTED, 0, 0, WANTED),
    ],
)
def test_it_is_as_large_as_the_room_beside_the_wal_allows(
    held: int, free: int, reusable: int | None, size: int
) -> None:
    planned = plan_reserve(WANTED, held_bytes=held, free_bytes=free, reusable_bytes=reusable)
    assert planned == size


def test_it_is_room_on_the_disk_until_released(tmp_path: Path) -> None:
    reserve = Reserve(str(tmp_path / "a.db"), WANTED)
    reserve.start()
    status = (tmp_path / "a.db-reserve").stat()
    assert (status.st_size, status.st_blocks * 512 >= WANTED) == (WANTED, True)
    assert status.st_mode & 0o777 == 0o600
    assert reserve.release()
    assert not (tmp_path / "a.db-reserve").exists()
    assert reserve.is_out
    assert not reserve.release(), "there is nothing left to give"
    reserve.take_back(0)
    assert (reserve.size_bytes, reserve.is_out) == (WANTED, False)


def test_it_is_taken_over_from_the_daemon_before(tmp_path: Path) -> None:
    Reserve(str(tmp_path / "a.db"), WANTED).start()
    assert Reserve(str(tmp_path / "a.db"), WANTED).size_bytes == WANTED


def test_zero_means_none_and_gives_an_old_one_back(tmp_path: Path) -> None:
    Reserve(str(tmp_path / "a.db"), WANTED).start()
    reserve = Reserve(str(tmp_path / "a.db"), 0)
    reserve.start()
    assert (reserve.size_bytes, reserve.is_out) == (0, False)
    assert not (tmp_path / "a.db-reserve").exists()


def test_a_file_that_holds_no_room_is_no_reserve(tmp_path: Path) -> None:
    (tmp_path / "a.db-reserve").touch()
    os.truncate(tmp_path / "a.db-reserve", WANTED)
    assert Reserve(str(tmp_path / "a.db"), WANTED).size_bytes == 0


def test_something_else_of_its_name_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "a.db-reserve").symlink_to(precious)
    with pytest.raises(BackendError, match="no regular file"):
        Reserve(str(tmp_path / "a.db"), WANTED)
    assert precious.read_text() == "mine"
