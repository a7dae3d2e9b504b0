"""The reserve: when it is there, when it is given away, when it comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recordd.extending.backend import BackendError, DiskFull
from recordd.persistence.sqlite.reserve import Reserve, plan_reserve

WANTED = 1 << 20
HALF, QUARTER = WANTED // 2, WANTED // 4


@pytest.mark.parametrize(
    ("held", "free", "reusable", "size"),
    [
        (0, WANTED + HALF, 0, WANTED),
        (0, 10 * WANTED, 0, WANTED),
        (0, WANTED + QUARTER, 0, WANTED - QUARTER),
        (0, WANTED, 0, None),
        (0, WANTED, QUARTER, HALF),
        (0, HALF + 1, QUARTER, None),
        (0, WANTED, None, HALF),
        (HALF, WANTED, 0, WANTED),
        (HALF, QUARTER, QUARTER, HALF),
        (WANTED, 0, 0, WANTED),
    ],
)
def test_it_is_as_large_as_the_room_beside_the_wal_allows(
    held: int, free: int, reusable: int | None, size: int | None
) -> None:
    planned = plan_reserve(WANTED, held_bytes=held, free_bytes=free, reusable_bytes=reusable)
    assert planned == size


def test_it_is_room_on_the_disk_until_released(tmp_path: Path) -> None:
    reserve = Reserve(str(tmp_path / "a.db"), WANTED)
    reserve.start()
    status = (tmp_path / "a.db-reserve").stat()
    assert (status.st_size, status.st_blocks * 512 >= WANTED) == (WANTED, True)
    assert status.st_mode & 0o777 == 0o600
    reserve.release(QUARTER)
    assert (tmp_path / "a.db-reserve").stat().st_blocks * 512 == QUARTER
    assert (reserve.size_bytes, reserve.is_out) == (QUARTER, True)
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


def test_more_than_wished_is_held_where_it_is_needed_and_given_back_after(tmp_path: Path) -> None:
    reserve = Reserve(str(tmp_path / "a.db"), WANTED)
    reserve.start()
    reserve.hold(HALF)
    assert reserve.size_bytes == WANTED, "it is held already"
    reserve.hold(2 * WANTED)
    assert reserve.size_bytes >= 2 * WANTED
    assert Reserve(str(tmp_path / "a.db"), WANTED).size_bytes == reserve.size_bytes, "after kill -9"
    reserve.trim(WANTED + HALF)
    assert reserve.size_bytes == WANTED + HALF
    reserve.trim(0)
    assert (tmp_path / "a.db-reserve").stat().st_size == WANTED


def test_what_the_disk_has_no_room_for_is_refused_and_the_rest_is_held(tmp_path: Path) -> None:
    reserve = Reserve(str(tmp_path / "a.db"), WANTED)
    reserve.start()
    with pytest.raises(DiskFull):
        reserve.hold(reserve.size_bytes + reserve.free_bytes + (1 << 40))
    assert (reserve.size_bytes, reserve.is_out) == (WANTED, False)
    assert (tmp_path / "a.db-reserve").stat().st_size == WANTED


class NearlyFullDisk(Reserve):
    """A reserve on a disk that has no room beside it."""

    free_bytes = 0


def test_it_lends_what_folding_takes(tmp_path: Path) -> None:
    Reserve(str(tmp_path / "a.db"), WANTED).start()
    reserve = NearlyFullDisk(str(tmp_path / "a.db"), WANTED)
    with reserve.lent(QUARTER):
        assert (tmp_path / "a.db-reserve").stat().st_size == WANTED - QUARTER
    assert not reserve.is_out


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    reserve = Reserve(str(tmp_path / "a.db"), WANTED)
    reserve.start()
    (tmp_path / "a.db-reserve").unlink()
    (tmp_path / "a.db-reserve").symlink_to(precious)
    with pytest.raises(BackendError):
        reserve.release(0)
    assert precious.read_text() == "mine"
