"""The extension map, and a foreign part in it."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest
import trio

from recordd.core import CoreBuilder
from recordd.extending.extensions import ExtensionError, Extensions
from recordd.extending.moments import Moment
from recordd.extending.points import HistoryQuery, QueryHandler
from recordd.persistence.backends import make_backend
from recordd.persistence.memory import MemoryBackend
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import Replay
from recordd_protocol.rows import Page, Row
from tests.core_in_memory import running_core
from tests.server.backends import sqlite_options


def test_an_instance_is_found_by_its_type() -> None:
    extensions = Extensions()
    assert extensions.get(int) is None
    extensions.insert(int, 5)
    assert extensions.get(int) == 5


def test_a_type_is_taken_once_and_nothing_after_freezing() -> None:
    extensions = Extensions()
    extensions.insert(int, 5)
    with pytest.raises(ExtensionError, match="int"):
        extensions.insert(int, 6)
    extensions.freeze()
    with pytest.raises(ExtensionError, match="frozen"):
        extensions.insert(str, "x")
    with pytest.raises(ExtensionError, match="frozen"):
        extensions.on_start(trio.sleep_forever)


class Oracle(QueryHandler):
    """A query handler that is none of ours."""

    def query(self, query: HistoryQuery) -> Page | Awaitable[Page]:
        return Page([Row("oracle", b'"42"', 1, 1)], rev=1, epoch="delphi")

    def replay(self, params: Replay) -> Page | Awaitable[Page]:
        raise RequestError(Reason.DENIED, "the past is closed")

    async def at(self, rev: int) -> Row:
        return Row("oracle", b"%d" % rev, 1, rev)


async def test_a_foreign_query_handler_and_start_hook() -> None:
    started = trio.Event()

    async def hook() -> None:
        started.set()
        await trio.sleep_forever()

    def extension(builder: CoreBuilder) -> None:
        builder.extensions.insert(QueryHandler, Oracle())
        builder.extensions.on_start(hook)

    async with running_core(extensions=[extension]) as core:
        await started.wait()
        peer = core.connect()
        assert (await peer.call("record.query", limit=None))["epoch"] == "delphi"
        assert (await peer.call("record.at", rev=7))["value"] == 7
        refused = await peer.call("record.replay", after=0)
        assert refused["error"]["data"]["reason"] == "denied"


class Parrot(MemoryBackend):
    """A backend that is none of ours: it says its last row's name backwards."""

    async def at(self, rev: int, moment: Moment) -> Row | None:
        row = await super().at(rev, moment)
        return None if row is None else Row(row.name[::-1], row.value, row.ts, row.rev)


async def test_a_foreign_backend() -> None:
    async with running_core(Parrot()) as core:
        peer = core.connect()
        await peer.call("record.set", name="abc", value=1)
        assert (await peer.call("record.at", rev=1))["name"] == "cba"


def test_an_unknown_backend_is_named_with_those_there_are() -> None:

    with pytest.raises(RequestError, match=r"'nope' is not installed \(there is: memory, sqlite\)"):
        make_backend("nope", sqlite_options(""))
