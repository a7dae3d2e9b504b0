"""Memory has bounds for all connections and records together, and each is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import trio
import trio.testing

from recordd.config.settings import Configuration, load
from recordd.daemon import configured_extensions
from tests.core_in_memory import CoreInMemory, Peer, running_core
from tests.server.backends import most_memory_of
from tests.wire import request

MIB = 1 << 20


def configure(**settings: str) -> Configuration:
    environment = {f"RECORDD_{key.upper()}": value for key, value in settings.items()}
    return load({"retention": "off", "socket": "s"}, environment, None)


def overload_of(answer: Any) -> str | None:
    """Return the setting that refused, if one did."""
    if "error" not in answer:
        return None
    assert answer["error"]["data"]["reason"] == "overloaded", answer
    return str(answer["error"]["message"]).split(":")[0]


async def fill(peer: Peer, values: int, size: int) -> list[str | None]:
    results = []
    for n in range(values):
        answer = await peer.call("record.set", name=f"r.{n}", value="x" * size)
        results.append(overload_of(answer))
    return results


async def test_latest_values_have_a_bound_and_the_same_fit_after_a_restart(tmp_path: Path) -> None:
    configuration = configure(database=str(tmp_path / "d.db"), max_latest_bytes=str(1 * MIB))
    async with running_core(
        configuration=configuration, extensions=configured_extensions(configuration)
    ) as core:
        peer = core.connect()
        assert await fill(peer, 7, 100_000) == [None] * 5 + ["max_latest_bytes"] * 2
        # What takes no more room than it has is taken; so is a late row, and a deletion.
        assert overload_of(await peer.call("record.set", name="r.0", value="y" * 100_000)) is None
        late = await peer.call("record.set", name="r.0", value="z" * 300_000, ts=10**12)
        assert late["late"]
        too_many = [{"name": "r.0", "value": 1}, {"name": "new", "value": "x" * 200_000}]
        assert (
            overload_of(await peer.call("record.set_many", records=too_many)) == "max_latest_bytes"
        )
        await peer.call("record.delete", name="r.4")
        assert overload_of(await peer.call("record.set", name="new", value="x" * 100_000)) is None
        held = (await peer.call("server.stats"))["latest_bytes"]
        assert held == core.core.hub.catalogue.latest_bytes <= MIB
    async with running_core(
        configuration=configuration, extensions=configured_extensions(configuration)
    ) as core:
        assert core.core.hub.catalogue.latest_bytes == held
        assert (await core.connect().call("record.count"))["records"] == 5


async def test_what_latest_values_take_is_what_the_records_hold(core: CoreInMemory) -> None:
    peer = core.connect()
    for n in range(20):
        await peer.call(
            "record.set", name=f"r.{n % 3}", value="x" * (n * 7 % 50), ts=10**12 + n % 5
        )
    await peer.call("record.delete", name="r.1")
    hub = core.core.hub
    assert (
        hub.catalogue.latest_bytes
        == sum(state.memory for state in hub.catalogue.states_after(-1))
        > 0
    )
    for name in ("r.0", "r.2"):
        await peer.call("record.delete", name=name)
    assert hub.catalogue.latest_bytes == 0


async def test_answers_that_nobody_takes_have_a_bound() -> None:
    configuration = configure(max_waiting_bytes=str(MIB))
    async with running_core(configuration=configuration) as core:
        good = core.connect()
        await good.call("record.set", name="big", value="x" * 900_000)
        greedy = [core.connect() for _ in range(2)]
        for peer in greedy:
            await peer.send(*[request("record.get", n, name="big") for n in range(3)])
        await trio.testing.wait_all_tasks_blocked()
        assert core.core.waiting.size > 2 * MIB
        assert overload_of(await good.call("record.get", name="big")) == "max_waiting_bytes"
        assert (await good.call("record.set", name="a", value=1))["rev"] == 2
        for peer in greedy:
            for _ in range(3):
                await peer.receive()
        await trio.testing.wait_all_tasks_blocked()
        assert core.core.waiting.size == 0
        assert len((await good.call("record.get", name="big"))["value"]) == 900_000


async def test_peers_that_take_nothing_are_closed_soon_while_too_much_waits() -> None:
    """Over a second, instead of the 30 that they have otherwise."""
    configuration = configure(max_waiting_bytes=str(MIB))
    async with running_core(configuration=configuration) as core:
        good = core.connect()
        await good.call("record.set", name="big", value="x" * 900_000)
        stuck = core.connect()
        await stuck.send(*[request("record.get", n, name="big") for n in range(3)])
        with trio.fail_after(20):
            while not core.core.connections.statistics().slow_peers_closed:
                await trio.sleep(0.01)
            while core.core.waiting.size:
                await trio.sleep(0.01)
        assert len((await good.call("record.get", name="big"))["value"]) == 900_000


async def test_what_waited_for_a_connection_that_is_gone_is_forgotten() -> None:
    async with running_core() as core:
        peer = core.connect()
        await peer.call("record.set", name="big", value="x" * 900_000)
        await peer.send(*[request("record.get", n, name="big") for n in range(3)])
        await trio.testing.wait_all_tasks_blocked()
        assert core.core.waiting.size > 0
        await peer.stream.aclose()
        with trio.fail_after(5):
            while core.core.waiting.size:
                await trio.sleep(0.001)


def test_the_units_limit_follows_from_the_settings() -> None:
    unit = (Path(__file__).parents[3] / "systemd" / "recordd.service").read_text()
    found = re.search(r"^MemoryMax=(\d+)M$", unit, re.MULTILINE)
    assert found is not None
    most = most_memory_of(load({"socket": "s"}, {}, None))
    assert most <= int(found[1]) * MIB <= 1.05 * most, f"{most / MIB:.0f} MiB"
