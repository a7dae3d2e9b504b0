"""Database files for tests: filled, killed, flipped, and gone through another SQLite."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from recordd.conformance.support import row
from recordd.extending.backend import Loaded, PageLimits, QueryParams
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.check import Verdict, check_file
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import Row
from tests.server.backends import sqlite_options
from tests.server.commits import store

PAGE_BYTES = 4096
_PAGE = PageLimits(rows=10_000, bytes=1 << 24)

FLAGGED = (AssertionError, KeyError, BaseExceptionGroup, pytest.fail.Exception)
"""What a test raises that fails, maybe out of a nursery."""

DAMAGE = b'"\x01{' * 30
"""Neither JSON nor a row."""


def quiet(what: str, done: int, total: int) -> None:
    """A `Progress` that nobody hears."""


def make(path: Path) -> SqliteBackend:
    return SqliteBackend(sqlite_options(path))


def rows_of(count: int) -> list[Row]:
    """Rows of seven records, of many sizes, all of them text that a flip may leave valid."""
    return [
        row(n, f"r.{n % 7}", value=b'{"v":"%s","n":%d}' % (b"x" * (n * 37 % 300), n))
        for n in range(1, count + 1)
    ]


async def fill(path: Path, count: int = 2000) -> None:
    """Make a database that was stopped in order, its index merged."""
    backend = make(path)
    await backend.initialize()
    await store(backend, rows_of(count))
    while await backend.maintain(1 << 40):
        pass
    await backend.close()


async def fill_and_kill(path: Path, count: int = 2000) -> None:
    """Make a database as a killed daemon leaves it, its last rows in the WAL alone."""
    open_path = path.with_name("open-" + path.name)
    await fill(open_path, count - 100)
    backend = make(open_path)
    await backend.initialize()
    await store(backend, rows_of(count)[-100:])
    for suffix in ("", "-wal", "-mark"):
        if Path(f"{open_path}{suffix}").exists():
            shutil.copyfile(f"{open_path}{suffix}", f"{path}{suffix}")
    await backend.close()


def flip(path: Path, bit: int, *, page: int) -> None:
    """Flip a bit of a page, counted from its first byte's lowest."""
    image = bytearray(path.read_bytes())
    image[(page - 1) * PAGE_BYTES + bit // 8] ^= 1 << bit % 8
    path.write_bytes(image)


def overwrite(path: Path, *, page: int, offset: int = 0, content: bytes) -> None:
    image = bytearray(path.read_bytes())
    start = (page - 1) * PAGE_BYTES + offset
    image[start : start + len(content)] = content
    path.write_bytes(image)


def vacuum_by_stock_sqlite(path: Path, copy: Path) -> None:
    """Leave a copy whose checksums are all stale."""
    db = sqlite3.connect(path)
    db.execute("VACUUM INTO ?", (str(copy),))
    db.close()


def verdict(path: Path, *, is_full: bool = True) -> Verdict:
    return check_file(str(path), quiet, is_full=is_full).verdict


def log_of(path: Path) -> list[tuple[int, str]]:
    """Return (`rev`, value) of every row, as any SQLite reads them, from a throw-away copy."""
    copy = path.with_name("look-" + path.name)
    for suffix in ("", "-wal"):
        if Path(f"{path}{suffix}").exists():
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    db = sqlite3.connect(copy)
    found = db.execute("SELECT rev, value FROM log ORDER BY rev").fetchall()
    db.close()
    copy.unlink()
    return found


def epoch_of(path: Path) -> str:
    db = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    found: str = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0]
    db.close()
    return found


def leaves_of(path: Path, tree: str) -> list[int]:
    """Return the pages at the bottom of a table or an index, in order."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
    found = cast("list[tuple[int]]", db.execute(query, (tree,)).fetchall())
    db.close()
    return [page for (page,) in found]


def spoil(path: Path, page: int) -> None:
    """Change two bits of a page, so that no one bit explains it."""
    image = bytearray(path.read_bytes())
    where = (page - 1) * PAGE_BYTES
    image[where + 2000] ^= 1
    image[where + 2040] ^= 2
    path.write_bytes(image)


async def ask(backend: SqliteBackend, pattern: str, **bounds: Any) -> list[int | None]:
    """Return the revs of all pages of a query of the present."""
    found: list[int | None] = []
    after, moment = None, backend.take_moment(1 << 40)
    while True:
        params = QueryParams(moment=moment, page=_PAGE, page_cursor=after, **bounds)
        page = await backend.query(compile_patterns(pattern), params)
        found += [row.rev for row in page.rows]
        after = page.next
        if after is None:
            return found


@contextlib.asynccontextmanager
async def closing_all(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Close what a test leaves open that fails: a thread of it would keep the process alive."""
    opened: list[SqliteBackend] = []
    initialize = SqliteBackend.initialize

    async def note(backend: SqliteBackend) -> Loaded:
        opened.append(backend)
        return await initialize(backend)

    monkeypatch.setattr(SqliteBackend, "initialize", note)
    try:
        yield
    finally:
        for backend in opened:
            await backend.close()


def names(folder: Path) -> set[str]:
    """Return what is in a folder."""
    return {path.name for path in folder.iterdir()}
