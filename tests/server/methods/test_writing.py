"""Writes by the wire: a record is found by name once, when the request is checked."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from recordd.config.rules import read_rules
from recordd.config.settings import Configuration
from recordd.core import Core
from recordd.extending.columns import RowColumns
from recordd.hub.records import RecordState
from recordd_protocol.rows import Row
from tests.core_in_memory import configure, running_core
from tests.server import sqlite_files as sqlite
from tests.server.commits import publish
from tests.wire import request


def note_names(core: Core, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return where the names will be that are looked up, in order."""
    names: list[str] = []
    find = core.hub.catalogue.find

    def find_and_note(name: str) -> RecordState | None:
        names.append(name)
        return find(name)

    monkeypatch.setattr(core.hub.catalogue, "find", find_and_note)
    return names


async def test_a_record_is_looked_up_once_for_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_core() as core:
        looked_up = note_names(core.core, monkeypatch)
        peer, follower = core.connect(), core.connect()
        await follower.call("record.subscribe", name="#")
        first = [{"name": name, "value": 1} for name in "ab"]
        await peer.call("record.set_many", records=first)
        assert sorted(looked_up) == ["a", "a", "b", "b"], "again when what was not there is planned"
        looked_up.clear()
        await peer.call("record.set", name="a", value=2, if_rev=1)
        rows = [{"name": name, "value": 3} for name in "abab"]
        await peer.call("record.set_many", records=rows)
        assert looked_up == ["a", "a", "b", "a", "b"]


async def test_no_row_of_a_load_becomes_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its way from the request to the answer, where nobody follows: each takes 0.3 µs."""
    made: list[int] = []
    make = RowColumns.make

    def note(columns: RowColumns) -> Sequence[Row]:
        made.append(len(columns))
        return make(columns)

    monkeypatch.setattr(RowColumns, "make", note)
    async with running_core(sqlite.make(tmp_path / "a.db")) as core:
        peer, rows = core.connect(), [{"name": name, "value": 1} for name in "abcab"]
        for _ in range(2):
            await peer.call("record.set_many", records=rows)
        assert made == []
        assert [state.row for state in core.core.hub.catalogue.states_after(-1)] == [None] * 3


async def test_a_record_that_goes_while_its_write_waits_is_made_anew() -> None:
    async with running_core() as core:
        peer = core.connect()
        old = await peer.call("record.set", name="a", value=1)
        await peer.send(
            request("record.delete", 1, name="a"), request("record.set", 2, name="a", value=2)
        )
        await trio.testing.wait_all_tasks_blocked()
        answers = [await peer.receive() for _ in range(2)]
        assert {"deleted": 1} in [answer["result"] for answer in answers]
        state = core.core.hub.catalogue.find("a")
        assert state is not None
        assert (old["rev"], state.latest.rev, state.record_id) == (1, 3, 1)


FAULTS: list[dict[str, Any]] = [
    {"name": "a b", "value": 1},
    {"name": "read.only", "value": 1},
    {"name": "old", "value": "x" * 400},
    {"name": "old", "value": json.loads("[" * 101 + "]" * 101)},
    {"name": "old", "value": 10**310},
    {"name": "old", "value": 1, "ts": 5},
    {"name": "old", "value": 1, "ts": 1 << 61},
    {"name": "old", "value": 1, "if_rev": -1},
    {"name": "old", "value": 1, "if_rev": 77},
]
"""Rows that are refused, each for a reason of its own."""


@pytest.mark.parametrize("new_every", [1, 100], ids=["among new records", "among known ones"])
@pytest.mark.parametrize("are_all_writable", [False, True])
async def test_rows_are_taken_or_refused_among_others_as_each_would_be_alone(
    new_every: int, are_all_writable: bool
) -> None:
    """Most are checked many at a time; the settings make all faults possible."""
    chance = random.Random(1)
    rule = {"name": "read.only", "writable": are_all_writable}
    rules = read_rules([rule], default_retention_ms=None, max_capacity=1)
    faults = [fault for fault in FAULTS if fault["name"] != "read.only" or not are_all_writable]
    settings = configure(max_value_bytes=400, max_value_depth=100, min_ts=10).settings
    async with running_core(configuration=Configuration(settings, rules, {})) as core:
        peer = core.connect()
        publish(core.core.hub, [Row(name, b"0", 20, 1) for name in ("old", "read.only")])
        for fault in faults:
            rows = [_make_row(chance) for _ in range(100)]
            for number, row in enumerate(rows[::new_every]):
                row["name"] = f"new.{number}"
            await peer.send(request("record.set", 1, **fault))
            alone = (await peer.receive())["error"]
            await peer.send(request("record.set_many", 1, records=[*rows[:80], fault, *rows]))
            among = (await peer.receive())["error"]
            assert among == {**alone, "message": f"records[80].{alone['message']}"}
            written = await peer.call("record.set_many", records=rows)
            page = await peer.call("record.replay", name="#", after=written["first_rev"] - 1)
            assert [(row["name"], row["value"]) for row in page["records"]] == [
                (row["name"], row["value"]) for row in rows
            ]


def _make_row(chance: random.Random) -> dict[str, Any]:
    value = chance.choice([1, 1.5, None, "ü", [[1]], {"a": "x" * 100}])
    stated: dict[str, Any] = chance.choice([{}, {"ts": int(time.time() * 1000)}])
    return {"name": "old", "value": value, **stated}
