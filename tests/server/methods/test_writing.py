"""Writes by the wire: a record is found by name once, when the request is checked."""

from __future__ import annotations

import pytest
import trio.testing

from recordd.hub.catalogue import Catalogue
from recordd.hub.records import RecordState
from tests.core_in_memory import running_core
from tests.wire import request


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are looked up, in order."""
    names: list[str] = []
    find = Catalogue.find

    def find_and_note(catalogue: Catalogue, name: str) -> RecordState | None:
        names.append(name)
        return find(catalogue, name)

    monkeypatch.setattr(Catalogue, "find", find_and_note)
    return names


async def test_a_record_is_looked_up_once_for_a_write(looked_up: list[str]) -> None:
    async with running_core() as core:
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
