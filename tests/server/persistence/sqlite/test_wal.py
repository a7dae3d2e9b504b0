"""Which pages a WAL has, of those that SQLite itself would take from it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

from recordd.persistence.sqlite.wal import is_orphaned, pages_in_wal

PAGE_BYTES = 512
HEADER_BYTES = 32
FRAME_BYTES = 24 + PAGE_BYTES


@pytest.fixture
def wal(tmp_path: Path) -> tuple[Path, Path]:
    """A database whose WAL holds three commits, and that WAL."""
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    db = apsw.Connection(str(path))
    db.pragma("page_size", PAGE_BYTES)
    db.pragma("journal_mode", "wal")
    db.pragma("wal_autocheckpoint", 0)
    db.execute("CREATE TABLE t (v)")
    for value in range(2):
        db.execute("INSERT INTO t VALUES (?)", (f"{value}" * 1200,))
    for suffix in ("", "-wal"):
        Path(f"{copy}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    db.close()
    return copy, Path(f"{copy}-wal")


def frames_of(content: bytes | bytearray) -> list[tuple[int, int]]:
    """Return page and size after commit (0: none ends here) of each frame."""
    starts = range(HEADER_BYTES, len(content), FRAME_BYTES)
    return [struct.unpack_from(">2I", content, start) for start in starts]


def committed(frames: Sequence[tuple[int, int]]) -> set[int]:
    last = max((n for n, (_, size) in enumerate(frames, 1) if size), default=0)
    return {page for page, _ in frames[:last]}


def test_pages_count_up_to_the_last_whole_commit(wal: tuple[Path, Path]) -> None:
    database, log = wal
    content = log.read_bytes()
    frames = frames_of(content)
    assert sum(size > 0 for _, size in frames) == 3
    assert any(not size for _, size in frames)
    for count in range(len(frames) + 1):
        end = HEADER_BYTES + count * FRAME_BYTES
        for cut in (end, end + FRAME_BYTES - 1):
            log.write_bytes(content[:cut])
            assert pages_in_wal(str(database)) == committed(frames[:count])


def test_a_frame_that_its_checksum_rejects_ends_it(wal: tuple[Path, Path]) -> None:
    database, log = wal
    content = bytearray(log.read_bytes())
    frames = frames_of(content)
    content[HEADER_BYTES + 4 * FRAME_BYTES + 100] ^= 1
    log.write_bytes(content)
    assert pages_in_wal(str(database)) == committed(frames[:4])


def test_frames_of_an_earlier_round_do_not_count(wal: tuple[Path, Path]) -> None:
    """Their salts are others: a WAL begun anew overwrites the old from its start."""
    database, log = wal
    content = bytearray(log.read_bytes())
    content[16] ^= 1
    log.write_bytes(content)
    assert pages_in_wal(str(database)) == set()


@pytest.mark.parametrize("content", [b"", b"short", b"\x00" * 2000, None])
def test_what_is_no_wal_has_no_pages(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.db-wal").write_bytes(content)
    assert pages_in_wal(str(tmp_path / "a.db")) == set()


def test_sums_are_of_words_in_the_order_that_the_header_says(wal: tuple[Path, Path]) -> None:
    """A machine with the other order wrote it: the same file with its sums made anew."""
    database, log = wal
    content = bytearray(log.read_bytes())
    frames = frames_of(content)
    other = ">" if struct.unpack_from(">I", content)[0] & 1 == 0 else "<"
    struct.pack_into(">I", content, 0, struct.unpack_from(">I", content)[0] ^ 1)
    sums = add(content[:24], other, (0, 0))
    struct.pack_into(">2I", content, 24, *sums)
    for start in range(HEADER_BYTES, len(content), FRAME_BYTES):
        sums = add(content[start : start + 8], other, sums)
        sums = add(content[start + 24 : start + FRAME_BYTES], other, sums)
        struct.pack_into(">2I", content, start + 16, *sums)
    log.write_bytes(content)
    assert pages_in_wal(str(database)) == committed(frames)


def add(content: bytes | bytearray, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """The sums of the file format, §4.4, word by word."""
    first, second = sums
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) % 2**32
        second = (second + words[at + 1] + first) % 2**32
    return first, second


@pytest.mark.parametrize(
    ("database", "log", "orphaned"),
    [
        (b"x", b"y", False),
        (b"", b"y", True),
        (None, b"y", True),
        (None, b"", False),
        (None, None, False),
    ],
)
def test_a_wal_with_content_beside_no_database_is_an_orphan(
    tmp_path: Path, database: bytes | None, log: bytes | None, orphaned: bool
) -> None:
    for name, content in (("a.db", database), ("a.db-wal", log)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    assert is_orphaned(str(tmp_path / "a.db")) is orphaned
