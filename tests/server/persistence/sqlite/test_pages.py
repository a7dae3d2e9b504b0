"""Checksums of pages: told good from bad, and flipped bits from stale sums."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd.conformance.support import row
from recordd.persistence.sqlite.diagnosis import diagnose_pages
from recordd.persistence.sqlite.page_image import is_plausible
from recordd.persistence.sqlite.pages import PageFile, find_flips, flip_bit, stamp
from recordd.persistence.sqlite.wal import pages_in_wal
from tests.server.commits import delete, store
from tests.server.sqlite_files import PAGE_BYTES, fill, fill_and_kill, flip, make, overwrite, quiet

PAGE = stamp(random.Random(1).randbytes(PAGE_BYTES))


@given(bit=st.integers(0, PAGE_BYTES * 8 - 1))
def test_a_flipped_bit_is_among_those_found(bit: int) -> None:
    found = find_flips(flip_bit(PAGE, bit))
    assert bit in found
    assert all(stamp(back := flip_bit(flip_bit(PAGE, bit), each)) == back for each in found)


def test_most_flipped_bits_are_known_for_certain() -> None:
    """The rest are upper bits of words, where the sums repeat within a page."""
    lowest = [find_flips(flip_bit(PAGE, word * 32 + 5)) == [word * 32 + 5] for word in range(1021)]
    assert all(lowest)
    generator = random.Random(2)
    bits = [generator.randrange(PAGE_BYTES * 8) for _ in range(500)]
    assert sum(find_flips(flip_bit(PAGE, bit)) == [bit] for bit in bits) > 300


@given(st.sets(st.tuples(st.integers(0, 1021), st.integers(0, 19)), min_size=2, max_size=8))
def test_what_is_wrong_in_several_bits_is_not_taken_for_one(places: set[tuple[int, int]]) -> None:
    page, bits = PAGE, [word * 32 + bit for word, bit in places]
    for bit in bits:
        page = flip_bit(page, bit)
    assert find_flips(page) == []


def test_a_stale_sum_is_no_flipped_bit() -> None:
    for seed in range(200):
        content = random.Random(seed).randbytes(PAGE_BYTES - 8)
        assert find_flips(content + PAGE[-8:]) == []


async def test_the_pages_of_a_sound_file_all_match(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    with PageFile(str(tmp_path / "a.db")) as file:
        assert file.has_checksums()
        assert [page for _, found in file.find_faults() for page in found] == []
        assert stamp(file.read(3)) == file.read(3)


async def test_every_page_that_was_written_is_plausible(tmp_path: Path) -> None:
    """Rows of all sizes, values that go on elsewhere, deleted ones, free pages."""
    path = tmp_path / "a.db"
    await fill(path)
    backend = make(path)
    await backend.initialize()
    long = [row(2001 + n, f"straße.{n}", value=b'"%s"' % (b"y" * n * 700)) for n in range(40)]
    await store(backend, long)
    await delete(backend, "r.3", 2041)
    await delete(backend, "straße.39", 2042)
    while await backend.maintain(1 << 40):
        pass
    await backend.close()
    generator = random.Random(4)
    known = single = 0
    with PageFile(str(path)) as file:
        count = file.page_count
        for number in range(1, count + 1):
            page = file.read(number)
            assert is_plausible(page, number=number, page_count=count), number
            bit = generator.randrange(PAGE_BYTES * 8)
            found = find_flips(flip_bit(page, bit))
            single += len(found) == 1
            left = [
                each
                for each in found
                if is_plausible(
                    flip_bit(flip_bit(page, bit), each), number=number, page_count=count
                )
            ]
            assert bit in left
            known += len(left) == 1
    assert single < known > count * 0.75


@pytest.mark.parametrize("bit", [16 * 8 + 4, 20 * 8 + 3, 0, 500 * 8])
async def test_a_flipped_bit_of_the_first_page_is_found_too(tmp_path: Path, bit: int) -> None:
    """In the page size, in the note that there are checksums, in the magic, further behind."""
    await fill(tmp_path / "a.db")
    flip(tmp_path / "a.db", bit, page=1)
    diagnosis = diagnose_pages(str(tmp_path / "a.db"), quiet)
    assert [(fault.page, fault.certain_flip) for fault in diagnosis.faults] == [(1, bit)]
    assert diagnosis.has_checksums


async def test_what_the_wal_holds_newer_is_no_fault_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill_and_kill(path)
    newer = pages_in_wal(str(path))
    assert newer
    pages = path.stat().st_size // PAGE_BYTES
    page = max(page for page in newer if page <= pages)
    overwrite(path, page=page, content=b"\0torn" * 100)
    assert diagnose_pages(str(path), quiet).faults == ()
    older = next(page for page in range(2, pages) if page not in newer)
    overwrite(path, page=older, content=b"\0torn" * 100)
    assert [fault.page for fault in diagnose_pages(str(path), quiet).stale] == [older]


async def test_a_wal_counts_up_to_its_first_damaged_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill_and_kill(path)
    wal = Path(f"{path}-wal")
    content = bytearray(wal.read_bytes())
    content[32 + 24 + 100] ^= 1
    wal.write_bytes(content)
    assert pages_in_wal(str(path)) == set()
    wal.write_bytes(b"no WAL at all, but longer than the header of one would be")
    assert pages_in_wal(str(path)) == set()


async def test_a_page_with_a_byte_that_belongs_to_nothing_is_not_plausible(tmp_path: Path) -> None:
    """SQLite counts the bytes between cells that are too few for a free block."""
    await fill(tmp_path / "a.db", 300)
    looked_at = 0
    with PageFile(str(tmp_path / "a.db")) as file:
        count = file.page_count
        for number in range(2, count + 1):
            page = file.read(number)
            if page[0] not in (2, 5, 10, 13):
                continue
            looked_at += 1
            for fragments in {page[7] ^ 1, page[7] ^ 4, page[7] ^ 128}:
                changed = page[:7] + bytes([fragments]) + page[8:]
                assert not is_plausible(changed, number=number, page_count=count), number
    assert looked_at > 5
