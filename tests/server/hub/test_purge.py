"""Purges: the hub is told of every row that storage deleted, before anybody may miss it."""

from __future__ import annotations

import contextlib

import pytest
import trio
import trio.testing

from recordd.config.rules import read_rules
from recordd.extending.backend import Loaded, LoadedRecord, Purged
from recordd.extending.commit import Deletion
from recordd.hub.hub import Hub
from recordd.hub.purge import Purges
from recordd_protocol.patterns import compile_pattern
from recordd_protocol.rows import Row, RowKind
from tests.server.commits import publish


def make_hub(*stored: LoadedRecord) -> Hub:
    """A hub with these stored rows; those of `t.*` are archived."""
    rules = read_rules(
        [{"name": "t.*", "persist": False}], default_retention_ms=None, max_capacity=1
    )
    hub = Hub(rules, max_records=100)
    rev = max([record.latest.rev or 0 for record in stored], default=0)
    hub.restore(Loaded(epoch="e", rev=rev, records=list(stored)))
    return hub


async def test_a_wait_ends_with_the_purges_that_were_open_at_its_begin() -> None:
    purges = Purges()
    with contextlib.ExitStack() as first:
        first.enter_context(purges.hold())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(purges.wait)
            await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks
            with purges.hold():
                first.close()
                with trio.fail_after(1):
                    while nursery.child_tasks:
                        await trio.lowlevel.checkpoint()


async def test_a_purge_that_storage_refuses_is_waited_for_no_longer() -> None:
    hub = make_hub()
    with pytest.raises(OSError, match="refused"), hub.purge():
        raise OSError("refused")
    with trio.fail_after(1):
        await hub.gaps.wait_purged()


def test_a_record_that_lost_its_last_row_ends_as_the_commit_says() -> None:
    hub = make_hub(LoadedRecord(Row("a", b"1", 10, 3), 2, 0))
    with hub.purge() as purge:
        purge.note({"a": Purged(1, 2)})
        purge.note_deletion(Deletion("a", 0, 99, 4))
    assert (hub.catalogue.find("a"), hub.rev, hub.rows) == (None, 4, 0)
    assert hub.gaps.newest_gap(compile_pattern("a"), 3) == 4
    (told,) = list(hub.changes.backlog.rows_after(hub.changes.before_commit[0]) or ())
    assert (told.name, told.ts, told.rev, told.kind) == ("a", 99, 4, RowKind.DELETED)


def test_the_last_archived_row_takes_no_transient_value_with_it() -> None:
    hub = make_hub(LoadedRecord(Row("t.a", b"1", 10, 3), 1, 0))
    publish(hub, [Row("t.a", b"2", 20, None)])
    with hub.purge() as purge:
        purge.note_deletion(Deletion("t.a", 0, 99, 4, is_of_history=True))
    assert hub.catalogue.find("t.a") is not None
    assert ("t.a" in hub.archive, hub.rows, hub.rev) == (False, 0, 4)
    assert hub.changes.before_commit == (hub.catalogue.tick, 3)


def test_a_deletion_takes_the_archived_rows_and_the_transient_value() -> None:
    hub = make_hub(LoadedRecord(Row("t.a", b"1", 10, 3), 1, 0))
    publish(hub, [Row("t.a", b"2", 20, None)])
    with hub.purge() as purge:
        purge.note_deletion(Deletion("t.a", 0, 99, 4))
    assert hub.catalogue.find("t.a") is None
    assert ("t.a" in hub.archive, hub.rows) == (False, 0)
