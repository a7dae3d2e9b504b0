"""A disk that is really full, again and again: what is answered stays, deleting makes room.

One round here with `make faults` three, with `make soak-full` a hundred (RECORDD_FULLS). A
round fills the disk with rows or with another's file, reads everything meanwhile, frees room
by deleting or by taking the file away, and ends the daemon in order or not, full or not.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.core_in_memory import Peer
from tests.daemon_process import DaemonProcess
from tests.faults.failing import Client, Outcome
from tests.faults.model import Delete, Model, Put, Violation
from tests.faults.workload import make_request_at_random, read_all
from tests.small_disk import SmallDisk
from tests.wire import request as make_request

FULLS = int(os.environ.get("RECORDD_FULLS", "1"))
SEED = int(os.environ.get("RECORDD_SEED", "1"))
DISK_KIB = 3072
RECOVERY_S = 20.0
_TS = time.time_ns() // 1_000_000 - 1_000_000


@pytest.fixture
def disk(short_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(short_path, size_kib=DISK_KIB)
    yield disk
    disk.close()


class FullDiskPlay:
    """Rounds on one disk, and the model of what must be there."""

    def __init__(self, disk: SmallDisk, daemon: DaemonProcess) -> None:
        self.refused_in_full = 0
        self._disk = disk
        self._daemon = daemon
        self._chance = random.Random(SEED)
        self._model = Model(pruned_prefix="never")
        self._outcome = Outcome()
        self._client = Client(self._model, self._outcome)
        self._number = 0

    async def play_round(self) -> None:
        """Fill, read, free, end."""
        self._daemon.start()
        async with await trio.open_unix_socket(str(self._daemon.socket_path)) as stream:
            peer = Peer(stream)
            await self._check(peer)
            await self._fill(peer)
            await self._check(peer)
            await self._free(peer)
            await self._check(peer)
            if self._chance.random() < 0.5:
                await self._fill(peer)
        if self._chance.random() < 0.5:
            self._disk.fill()
        code = self._daemon.stop(self._chance.choice([signal.SIGKILL, signal.SIGTERM]))
        if code not in (0, -signal.SIGKILL):
            raise Violation(f"the daemon ended with {code}:\n{self._daemon.log[-2000:]}")

    async def _check(self, peer: Peer) -> None:
        found = await read_all(peer)
        self._model.check(found, answered=len(self._model.requests), moment=0)

    async def _fill(self, peer: Peer) -> None:
        if self._chance.random() < 0.3:
            self._disk.fill()
        refused = self._outcome.refused
        while self._outcome.refused == refused:
            numbers = range(self._number, self._number + 20)
            self._number += 20
            requests = [make_request_at_random(self._chance, n) for n in numbers]
            await self._client.play(peer, requests)
        if self._outcome.unknown or self._client.is_cut_off:
            raise Violation(f"a full disk ended the daemon:\n{self._daemon.log[-2000:]}")
        self.refused_in_full += 1

    async def _free(self, peer: Peer) -> None:
        """Make room, by deleting records if need be all, until a write is taken again."""
        (self._disk.outside / "filler").unlink(missing_ok=True)
        doomed = list(self._model.state().rows)
        self._chance.shuffle(doomed)
        for name in doomed:
            refused = self._outcome.refused
            await self._client.play(peer, [Delete(name)])
            if self._outcome.refused > refused:
                refusal = f"a record cannot be deleted: {await self._describe(peer)}"
                raise Violation(refusal)
            if await self._takes_writes(peer, tries=3):
                return
        if not await self._takes_writes(peer, tries=200):
            raise Violation(f"no write is taken, all is deleted: {await self._describe(peer)}")

    async def _describe(self, peer: Peer) -> str:
        """Say what is on the disk, and what the daemon says but for each refused write."""
        await peer.send(make_request("server.stats", 1))
        storage = (await peer.receive())["result"]["storage"]
        sizes = {path.name: path.stat().st_size for path in self._disk.outside.iterdir()}
        lines = [line for line in self._daemon.log.splitlines() if "writes refused" not in line]
        return "\n".join([f"{self._disk.free_bytes} free, {sizes}", str(storage), *lines[-20:]])

    async def _takes_writes(self, peer: Peer, tries: int) -> bool:
        for _ in range(tries):
            refused = self._outcome.refused
            await self._client.play(peer, [Put([("probe", 1, _TS)])])
            if self._outcome.refused == refused:
                return True
            await trio.sleep(RECOVERY_S / 200)  # housekeeping takes the reserve back in its time
        return False


async def play(disk: SmallDisk, folder: Path, rounds: int, **environment: str) -> FullDiskPlay:
    """Play rounds; the daemon is gone after."""
    daemon = DaemonProcess(folder, "--database", str(disk.inside / "recordd.db"), **environment)
    daemon.enter = disk.enter
    played = FullDiskPlay(disk, daemon)
    try:
        for _ in range(rounds):
            await played.play_round()
    finally:
        daemon.stop(signal.SIGKILL)
    return played


@pytest.mark.faults
@pytest.mark.timeout(60 + 30 * FULLS)
async def test_a_full_disk_loses_nothing_and_is_emptied_by_deleting(
    disk: SmallDisk, short_path: Path
) -> None:
    played = await play(disk, short_path, FULLS)
    assert played.refused_in_full >= FULLS


@pytest.mark.faults
async def test_the_suite_flags_a_daemon_without_a_reserve(
    disk: SmallDisk, short_path: Path
) -> None:
    """Negative control: to delete takes room, and there is none."""
    with pytest.raises((Violation, AssertionError)):
        await play(disk, short_path, 3, RECORDD_RESERVE_BYTES="0")
