"""A daemon that starts with damaged pages: what is damaged is refused, all else is right.

Two bits of a page are changed, so that no one bit explains it and nothing can be mended.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from recordd.config.rules import read_rules
from recordd.config.settings import Configuration
from recordd.conformance.support import row, settle
from recordd.extending.backend import BackendError, LoadedRecord
from recordd.persistence.sqlite import loading
from recordd.persistence.sqlite.check import Verdict, check_file
from recordd.persistence.sqlite.mark import Mark, write_mark
from recordd.persistence.sqlite.mending import StartMender
from recordd.persistence.sqlite.repair import repair
from tests.core_in_memory import configure, running_core
from tests.server.commits import delete, store
from tests.server.sqlite_files import FLAGGED, PAGE_BYTES, epoch_of, log_of, make, quiet

ROWS = 60
FIRST_TS = 10**15
"""Ahead of every clock: a write without `ts` has to take the record's."""


def value_of(rev: int) -> str:
    return f"row {rev} " + "x" * 1000


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A stopped database: `old` has rev 1 and 2, `sole` 3, and `b.0` to `b.3` all later ones."""
    path = tmp_path / "a.db"
    backend = make(path)
    await backend.initialize()
    names = {1: "old", 2: "old", 3: "sole"}
    rows = [
        row(n, names.get(n, f"b.{n % 4}"), FIRST_TS + n, b'"%s"' % value_of(n).encode())
        for n in range(1, ROWS + 1)
    ]
    await store(backend, rows)
    while await backend.maintain(ROWS):
        pass
    await backend.close()
    return path


def damage(path: Path, needle: str) -> int:
    """Change two bits of the page that has `needle`; return the page's number."""
    where = path.read_bytes().rindex(needle.encode())  # not what the root had before it was split
    spoil(path, where)
    return where // PAGE_BYTES + 1


def spoil(path: Path, where: int) -> None:
    image = bytearray(path.read_bytes())
    image[where + 20] ^= 1
    image[where + 40] ^= 2
    path.write_bytes(image)


def latest(answer: Any) -> dict[str, str]:
    return {row["name"]: row["value"] for row in answer["records"]}


def refusal(answer: Any) -> str:
    assert answer["error"]["data"]["reason"] == "unavailable", answer
    text: str = answer["error"]["message"]
    return text


RIGHT = {f"b.{n % 4}": value_of(n) for n in range(ROWS - 3, ROWS + 1)}


async def test_a_record_whose_latest_row_is_damaged_is_refused_alone(path: Path) -> None:
    page = damage(path, value_of(2))
    async with running_core(make(path), configure()) as core:
        peer = core.connect()
        for name in ("old", "sole"):
            text = refusal(await peer.call("record.get", name=name))
            assert f"'{name}'" in text
            assert f"page {page} of the database fails its checksum" in text
        assert latest(await peer.call("record.query", name="b.*")) == RIGHT
        for name, value in RIGHT.items():
            assert (await peer.call("record.get", name=name))["value"] == value
        for method in ("record.query", "record.subscribe"):
            assert "'old'" in refusal(await peer.call(method, name="#"))
            assert "'sole'" in refusal(await peer.call(method, name="sole"))
        refusal(await peer.call("record.query", name="#", paged=False))
        refusal(await peer.call("record.drain", name="old"))
        refusal(await peer.call("record.query", name="old", limit=None))
        assert "subscription" in await peer.call("record.subscribe", name="b.*")


async def test_the_suite_flags_a_daemon_that_takes_a_damaged_value_for_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: it starts, and serves `null`."""
    load_record = loading._load_record

    def load_null(*args: Any) -> LoadedRecord:
        return msgspec.structs.replace(load_record(*args), damage=None)

    monkeypatch.setattr(loading, "_load_record", load_null)
    with pytest.raises(FLAGGED):
        await test_a_record_whose_latest_row_is_damaged_is_refused_alone(path)


async def test_the_suite_flags_a_daemon_that_leaves_a_damaged_record_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: what it shows is right, and lacks records."""
    load = loading.load

    def load_some(*args: Any) -> loading.FoundState:
        found = load(*args)
        left = [record for record in found.loaded.records if record.damage is None]
        loaded = msgspec.structs.replace(found.loaded, records=left)
        return msgspec.structs.replace(found, loaded=loaded)

    monkeypatch.setattr(loading, "load", load_some)
    with pytest.raises(FLAGGED):
        await test_a_record_whose_latest_row_is_damaged_is_refused_alone(path)


async def test_what_is_known_of_a_damaged_record_is_shown_and_counted(path: Path) -> None:
    damage(path, value_of(2))
    async with running_core(make(path), configure()) as core:
        peer = core.connect()
        shown = await peer.call("record.list", name="#")
        known = {info["name"]: (info["ts"], info["rev"]) for info in shown}
        assert known["old"] == (FIRST_TS + 2, 2)
        assert known["sole"] == (FIRST_TS + 3, 3)
        assert len(known) == 6
        assert await peer.call("record.count", name="#") == {"records": 6, "rows": ROWS}
        storage = (await peer.call("server.stats"))["storage"]
        assert (storage["damaged_records"], storage["damaged_pages"]) == (2, 1)


@pytest.mark.parametrize("buffer", ["single_latest", "spmc_ring"])
async def test_a_plain_write_heals_and_conditions_hold_as_ever(path: Path, buffer: str) -> None:
    damage(path, value_of(2))
    configuration = configure()
    rule = {"name": "old", "buffer": buffer} | ({"capacity": 4} if buffer == "spmc_ring" else {})
    rules = read_rules([rule], default_retention_ms=None, max_capacity=10)
    configuration = Configuration(configuration.settings, rules, configuration.sources)
    async with running_core(make(path), configuration) as core:
        peer = core.connect()
        stale = await peer.call("record.set", name="old", value="no", if_rev=1)
        assert stale["error"]["data"]["reason"] == "conflict"
        late = await peer.call("record.set", name="old", value="late", ts=1000)
        assert late["rev"] == ROWS + 1
        refusal(await peer.call("record.get", name="old"))
        done = await peer.call("record.set", name="old", value="new", if_rev=2)
        assert done == {"rev": ROWS + 2, "ts": FIRST_TS + 2} | done
        assert (await peer.call("record.get", name="old"))["value"] == "new"
        assert "'sole'" in refusal(await peer.call("record.query", name="#"))
        assert "'old'" not in refusal(await peer.call("record.query", name="#"))
        drained = await peer.call("record.drain", name="old")
        assert drained["values"] == (["late", "new"] if "capacity" in rule else ["new"])
        assert (await peer.call("record.delete", name="sole"))["deleted"] == 1
        everything = latest(await peer.call("record.query", name="#"))
        assert everything == {"old": "new", **RIGHT}
        assert (await peer.call("server.stats"))["storage"]["damaged_records"] == 0
        assert "subscription" in await peer.call("record.subscribe", name="#")
    async with running_core(make(path), configure()) as core:
        assert latest(await core.connect().call("record.query", name="#")) == everything


async def test_the_newest_page_of_the_log_may_be_damaged_after_a_clean_stop(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = damage(path, value_of(ROWS))
    image = path.read_bytes()[(page - 1) * PAGE_BYTES : page * PAGE_BYTES]
    first = min(n for n in range(1, ROWS + 1) if value_of(n).encode() in image)
    async with running_core(make(path), configure()) as core:
        peer = core.connect()
        assert core.core.hub.rev == ROWS
        refusal(await peer.call("record.get", name=f"b.{ROWS % 4}"))
        caplog.clear()
        before = (await peer.call("server.stats"))["storage"]["damage_errors"]
        for _ in range(2):
            words = refusal(await peer.call("record.set", name="old", value=1))
            assert f"the log ends with rev {first} to {ROWS} on page {page}" in words
            assert "'recordd repair' saves all other rows" in words
        assert (await peer.call("server.stats"))["storage"]["damage_errors"] == before + 2
        assert (await peer.call("record.delete", name="sole"))["deleted"] == 1
        assert (await peer.call("record.get", name="old"))["value"] == value_of(2)


async def test_a_file_whose_pages_cannot_be_looked_at_starts_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torn first page that the WAL overrules keeps the mender off, as nothing of ours."""
    damage(path, value_of(2))
    monkeypatch.setattr(StartMender, "_is_ours", lambda _: False)
    async with running_core(make(path), configure()) as core:
        peer = core.connect()
        refusal(await peer.call("record.get", name="old"))
        assert latest(await peer.call("record.query", name="b.*")) == RIGHT


async def test_a_large_file_is_mended_where_a_latest_value_is_met(path: Path) -> None:
    image = bytearray(path.read_bytes())
    where = image.rindex(value_of(2).encode())
    image[where // 4 * 4 + 400] ^= 1
    path.write_bytes(image)
    os.truncate(path, (64 << 20) + PAGE_BYTES)
    async with running_core(make(path), configure()) as core:
        assert (await core.connect().call("record.get", name="old"))["value"] == value_of(2)


@pytest.mark.parametrize("stop", ["deleted", "killed"])
async def test_rows_that_may_not_be_indexed_are_not_taken_for_none(path: Path, stop: str) -> None:
    backend = make(path)
    await backend.initialize()
    await store(backend, [row(ROWS + 1, "b.0", FIRST_TS * 2, b'"%s"' % value_of(777).encode())])
    if stop == "deleted":
        await delete(backend, "sole", ROWS + 2)
    await backend.close()
    damage(path, value_of(777))
    needed = f"the start needs all rows of the log behind rev {ROWS}: page .* fails its checksum"
    with pytest.raises(BackendError, match=needed):
        async with running_core(make(path), configure()):
            pass


def pages_of(path: Path, tree: str) -> list[int]:
    """Return the pages of a table or an index, root first."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (tree,)).get
    db.close()
    assert isinstance(root, int)
    page = path.read_bytes()[(root - 1) * PAGE_BYTES : root * PAGE_BYTES]
    if page[0] not in (2, 5):
        return [root]
    return [root, int.from_bytes(page[8:12], "big")]


@pytest.mark.parametrize("rows", [0, 600])
async def test_a_damaged_index_is_made_anew_from_the_log(
    path: Path, rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    backend = make(path)
    loaded = await backend.initialize()
    more = range(ROWS + 1, ROWS + 1 + rows)
    if rows:
        await store(backend, [row(n, "c", FIRST_TS + n) for n in more[:-9]])
        await settle(backend)
        await store(backend, [row(n, "c", FIRST_TS + n) for n in more[-9:]])  # not indexed
    await delete(backend, "sole", ROWS + rows + 1)
    await backend.close()
    before, epoch = log_of(path), loaded.epoch
    for page in pages_of(path, "history"):
        spoil(path, (page - 1) * PAGE_BYTES)
    async with running_core(make(path), configure()) as core:
        peer = core.connect()
        assert "the index was damaged" in caplog.text
        assert core.core.hub.epoch == epoch
        assert core.core.hub.rev == ROWS + rows + 1
        everything = await peer.call("record.query", name="#", limit=None)
        revs = [found["rev"] for found in everything["records"]]
        assert revs == [1, 2, *range(4, ROWS + 1), *more]
        assert {r["name"]: r["value"] for r in everything["records"]} == {
            **RIGHT, "old": value_of(2), **({"c": more[-1]} if rows else {}),
        }  # fmt: skip
        assert (await peer.call("record.count", name="#"))["rows"] == ROWS + rows - 1
        await peer.call("record.set", name="old", value=1)
    assert [entry for entry in log_of(path) if entry[0] <= ROWS + rows] == [
        entry for entry in before if entry[0] != 3
    ]
    assert put_right(path) == sorted([*revs, ROWS + rows + 2])


def put_right(path: Path) -> list[int]:
    """Repair what is left over; return the revs that are there then."""
    repair(str(path), quiet, is_dry_run=False)
    assert check_file(str(path), quiet, is_full=True).verdict is Verdict.SOUND
    return [rev for rev, _ in log_of(path)]


@pytest.mark.parametrize("tree", ["meta", "record", "log", "commits"])
async def test_a_damaged_index_is_left_where_more_is_damaged(path: Path, tree: str) -> None:
    pages = pages_of(path, "history")
    if tree == "commits":
        write_mark(str(path), Mark(epoch_of(path), ROWS + 1, is_clean=True))
    else:
        pages += pages_of(path, tree)
    if tree == "record":
        pages += pages_of(path, "sqlite_autoindex_record_1")
    for page in pages:
        spoil(path, (page - 1) * PAGE_BYTES)
    before = path.read_bytes()
    needed = "the index" if tree in ("log", "commits") else f"the table {tree}"
    words = rf"the start needs {needed}.*: page \d+ of the database fails its checksum"
    with pytest.raises(BackendError, match=words):
        async with running_core(make(path), configure()):
            pass
    assert path.read_bytes() == before
