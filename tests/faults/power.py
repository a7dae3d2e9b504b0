"""Power cuts: a workload is recorded, and every state that a cut can leave behind is opened."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.core_in_memory import CoreInMemory
from tests.faults.model import Found, Model, Violation
from tests.faults.recording import Disk, Event, Image, Recording
from tests.faults.vfs import installed
from tests.faults.workload import (
    MARK,
    Writer,
    checkpoint,
    make_request_at_random,
    read_all,
    run_retention,
    running,
)

__all__ = ["PowerCut", "Record", "check_image", "make_power_cuts", "record_workload"]

_SESSIONS: Final = 3
_BURSTS: Final = 12


class Record(msgspec.Struct, frozen=True):
    """A workload as the disk saw it, and as the client did."""

    model: Model
    events: list[Event]


class PowerCut(msgspec.Struct, frozen=True):
    """What a cut during an event left behind, and what had been answered by then."""

    image: Image
    moment: int
    answered: int


async def record_workload(folder: Path, seed: int, **settings: Any) -> Record:
    """Play a random workload, with restarts, retention and checkpoints, and record it."""
    chance = random.Random(seed)
    model = Model()
    writer = Writer(model)
    recording = Recording(folder / MARK, writer.count_answers)
    with installed(recording):
        for _ in range(_SESSIONS):
            recording.session += 1
            async with running(folder, prunes=True, **settings) as core:
                writer.connect(core)
                await _play(core, chance, model, writer, recording)
            writer.close()
    return Record(model, recording.events)


async def _play(
    core: CoreInMemory, chance: random.Random, model: Model, writer: Writer, recording: Recording
) -> None:
    for _ in range(_BURSTS):
        first = len(model.requests)
        burst = range(first, first + chance.choice((1, 1, 2, 5, 20)))
        await writer.send([make_request_at_random(chance, number) for number in burst])
        if chance.random() < 0.7:
            await writer.receive_all()
        if chance.random() < 0.15:
            await writer.receive_all()
            assert await run_retention(core.core)
            model.note_retention(len(recording.events))
        if chance.random() < 0.15:
            await checkpoint(core.core)
    await writer.receive_all()


def make_power_cuts(
    record: Record, count: int, seed: int, *, lies_about_syncs: bool = False
) -> list[PowerCut]:
    """Return what power cuts at random moments leave behind."""
    chance = random.Random(seed)
    moments = sorted(chance.randrange(len(record.events)) for _ in range(count))
    disk = Disk(lies_about_syncs=lies_about_syncs)
    cuts: list[PowerCut] = []
    for moment, event in enumerate(record.events):
        while len(cuts) < count and moments[len(cuts)] == moment:
            cuts.append(PowerCut(disk.cut(chance, event, MARK), moment, event.answered))
        disk.take(event)
    return cuts


async def check_image(folder: Path, cut: PowerCut, model: Model) -> None:
    """Start a daemon on what a cut left behind, and hold it to its promises, twice.

    Raises:
        Violation: one of them is broken.
    """
    for name, content in cut.image.items():
        (folder / name).write_bytes(content)
    try:
        async with running(folder) as core:
            peer = core.connect()
            found = await read_all(peer)
            more = await peer.call("record.set", name="after", value=1)
        async with running(folder) as core:
            again = await read_all(core.connect())
    except Exception as error:
        raise Violation(f"the daemon does not start, or refuses: {error!r}") from error
    model.check(found, answered=cut.answered, moment=cut.moment)
    _check_next_write(found, again, more)


def _check_next_write(before: Found, after: Found, answer: Any) -> None:
    """Hold a second start to what the first one served, one row later."""
    if answer.get("rev") != before.rev + 1:
        raise Violation(f"the next write was answered {answer} behind rev {before.rev}")
    revs = [row.rev for row in before.log]
    if [row.rev for row in after.log] != [*revs, before.rev + 1]:
        raise Violation("a second start does not find what the first one did")
    if (after.epoch, after.rows) != (before.epoch, before.rows + 1):
        raise Violation("a second start finds another epoch, or counts otherwise")
