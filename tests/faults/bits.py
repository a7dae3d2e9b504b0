"""One bit of the database, or of its WAL, is flipped; every answer is right, or refused."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from recordd.extending.backend import PersistenceError
from tests.core_in_memory import CoreInMemory, Peer
from tests.faults.model import Model, State, StoredRow, Violation
from tests.faults.workload import (
    DATABASE,
    MARK,
    WAL,
    Refused,
    Writer,
    make_request_at_random,
    read_pages,
    running,
)

__all__ = ["Flipped", "Prepared", "flip_and_look", "prepare_clean", "prepare_killed"]

_REQUESTS: Final = 120


class Prepared(msgspec.Struct, frozen=True):
    """A database's files, and what is in them."""

    folder: Path
    model: Model


class Flipped(msgspec.Struct):
    """What came of a flip: whether the daemon started, and how many requests it refused."""

    has_started: bool = False
    refusal: str = ""
    refused: int = 0
    right: int = 0


async def prepare_clean(folder: Path, seed: int) -> Prepared:
    """Make a database and stop the daemon in order."""
    model, writer = Model(), None
    async with running(folder) as core:
        writer = await _write(core, model, seed)
    writer.close()
    return Prepared(folder, model)


async def prepare_killed(folder: Path, seed: int) -> Prepared:
    """Make a database and keep its files as `kill -9` leaves them."""
    model = Model()
    image = folder / "killed"
    image.mkdir()
    async with running(folder) as core:
        writer = await _write(core, model, seed)
        for name in (DATABASE, WAL, MARK):
            shutil.copy(folder / name, image / name)
    writer.close()
    return Prepared(image, model)


async def _write(core: CoreInMemory, model: Model, seed: int) -> Writer:
    chance = random.Random(seed)
    writer = Writer(model)
    writer.connect(core)
    for first in range(0, _REQUESTS, 10):
        numbers = range(first, first + 10)
        await writer.send([make_request_at_random(chance, number) for number in numbers])
        await writer.receive_all()
    return writer


async def flip_and_look(
    prepared: Prepared, place: Path, file: str, chance: random.Random
) -> Flipped:
    """Flip a bit in a copy of a database, start a daemon on it, and ask for everything.

    Raises:
        Violation: an answer is wrong, or lacks rows.
    """
    for name in (DATABASE, WAL, MARK):
        if (prepared.folder / name).exists():
            shutil.copy(prepared.folder / name, place / name)
    content = bytearray((place / file).read_bytes())
    where, bit = chance.randrange(len(content)), chance.randrange(8)
    content[where] ^= 1 << bit
    (place / file).write_bytes(content)
    result = Flipped()
    complaint = None
    try:
        async with running(place) as core:
            result.has_started = True
            complaint = await _look(core.connect(), prepared.model.state(), result)
    except PersistenceError as refusal:
        result.refusal = str(refusal)
    if complaint is not None:
        raise Violation(f"{file}, byte {where}, bit {bit}: {complaint}")
    return result


async def _look(peer: Peer, state: State, result: Flipped) -> str | None:
    """Ask for all rows in many ways; return the first answer that is wrong."""
    everything = [row for rows in state.rows.values() for row in rows]
    by_rev = sorted(everything, key=lambda row: row.rev)
    by_time = sorted(everything, key=lambda row: row.order)
    questions: list[tuple[str, dict[str, object], Sequence[StoredRow]]] = [
        ("record.replay", {"after": 0}, by_rev),
        ("record.query", {"limit": None}, by_time),
        ("record.query", {}, state.latest()),
    ]
    for name in sorted(state.rows):
        rows = sorted(state.rows[name], key=lambda row: row.order)
        questions.append(("record.query", {"name": name, "limit": None}, rows))
        questions.append(("record.query", {"name": name}, rows[-1:]))
    for method, params, expected in questions:
        try:
            found = await read_pages(peer, method, **params)
        except Refused as refusal:
            if refusal.reason != "unavailable":
                return f"{method} {params}: {refusal}"
            result.refused += 1
            continue
        if found != expected:
            wrong = [row for row in found if row not in expected]
            return f"{method} {params}: {len(found)} of {len(expected)} rows, wrong: {wrong[:1]}"
        result.right += 1
    return None
