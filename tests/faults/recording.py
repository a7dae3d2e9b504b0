"""A record of what SQLite asked of the disk, and the states a power cut can leave it in."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from tests.faults.vfs import Call, Kind

__all__ = ["Disk", "Event", "Image", "Recording"]

_SECTOR_BYTES: Final = 512
_KEPT: Final = (Kind.WRITE, Kind.SYNC, Kind.TRUNCATE, Kind.DELETE)

Image = dict[str, bytes]
"""Content by file name."""


class Event(msgspec.Struct, frozen=True):
    """A call, how many requests were answered before it, and the mark as it was then.

    `session` counts the starts of the daemon.
    """

    call: Call
    answered: int
    mark: bytes | None
    session: int


class Recording:
    """A witness that keeps what changes files, in order.

    `count_answers` is called before each call: an answer that is out by then was given
    without it. The mark is a plain file that SQLite knows nothing of, so it is looked at.
    """

    def __init__(self, mark: Path, count_answers: Callable[[], int]) -> None:
        self.events: Final[list[Event]] = []
        self.session = 0
        self._mark: Final = mark
        self._count_answers: Final = count_answers
        self._lock: Final = threading.Lock()

    def before(self, call: Call) -> None:
        """Take note of a call that is about to happen."""
        if call.kind not in _KEPT or call.file.endswith("-shm"):
            return
        with self._lock:
            mark = None
            with contextlib.suppress(FileNotFoundError):
                mark = self._mark.read_bytes()
            self.events.append(Event(call, self._count_answers(), mark, self.session))


class _File:
    """What is on disk for certain, and what may be, in the order of its writing."""

    def __init__(self) -> None:
        self.durable: Final = bytearray()
        self.is_synced = False
        self._pending: Final[list[Call]] = []

    def take(self, call: Call) -> None:
        self._pending.append(call)

    def sync(self) -> None:
        for call in self._pending:
            _apply(self.durable, call)
        self._pending.clear()
        self.is_synced = True

    def cut(self, chance: random.Random, in_progress: Call | None) -> bytes:
        """Return one of the states that a power cut can leave the file in."""
        pending = [*self._pending, *([] if in_progress is None else [in_progress])]
        content = bytearray(self.durable)
        for call in chance.choice(_FATES)(pending, chance):
            _apply(content, call)
        return bytes(content)


class Disk:
    """The files of a recording at a moment, as they are on disk and as they may be."""

    def __init__(self, *, lies_about_syncs: bool = False) -> None:
        self._files: Final[dict[str, _File]] = {}
        self._ghosts: Final[dict[str, _File]] = {}  # deleted, perhaps not on disk
        self._marks: Final[list[bytes | None]] = []  # of this session: any may be on disk
        self._session = 0
        self._lies: Final = lies_about_syncs

    def take(self, event: Event) -> None:
        """Let a call happen."""
        call = event.call
        self._note_mark(event)
        if call.kind is Kind.DELETE:
            gone = self._files.pop(call.file, None)
            if gone is not None and not call.is_synced:
                self._ghosts[call.file] = gone
            return
        file = self._files.setdefault(call.file, _File())
        if call.kind is not Kind.SYNC:
            file.take(call)
        elif not self._lies:
            if not file.is_synced:
                # SQLite syncs the folder with the first sync of a new journal or WAL.
                self._ghosts.clear()
            file.sync()

    def cut(self, chance: random.Random, event: Event, mark_name: str) -> Image:
        """Return what a power cut during `event` can leave behind."""
        self._note_mark(event)
        image: Image = {}
        for name, ghost in self._ghosts.items():
            if chance.random() < 0.5:
                image[name] = ghost.cut(chance, None)
        in_progress = event.call if event.call.kind in (Kind.WRITE, Kind.TRUNCATE) else None
        for name, file in self._files.items():
            touched = in_progress if event.call.file == name else None
            if file.is_synced or (name not in image and chance.random() < 0.7):
                image[name] = file.cut(chance, touched)
        if chance.random() < 0.2:  # left on disk by the page cache; nothing may rely on it
            shm = f"{mark_name.removesuffix('-mark')}-shm"
            image[shm] = chance.randbytes(32_768)
        mark = chance.choice(self._marks)
        if mark is not None:
            image[mark_name] = mark
        return image

    def _note_mark(self, event: Event) -> None:
        if event.session != self._session:
            self._session = event.session
            self._marks.clear()
        if not self._marks or self._marks[-1] != event.mark:
            self._marks.append(event.mark)


def _apply(content: bytearray, call: Call) -> None:
    if call.kind is Kind.TRUNCATE:
        del content[call.offset :]
        content.extend(bytes(call.offset - len(content)))
        return
    content.extend(bytes(max(0, call.offset - len(content))))
    content[call.offset : call.offset + len(call.data)] = call.data


def _keep_none(pending: list[Call], chance: random.Random) -> list[Call]:
    return []


def _keep_all(pending: list[Call], chance: random.Random) -> list[Call]:
    return pending


def _keep_prefix(pending: list[Call], chance: random.Random) -> list[Call]:
    """The disk wrote in order, and the last write is torn."""
    if not pending:
        return []
    end = chance.randrange(len(pending))
    return [*pending[:end], *_tear(pending[end], chance)]


def _keep_some(pending: list[Call], chance: random.Random) -> list[Call]:
    share = chance.random()
    return [call for call in pending if chance.random() < share]


def _keep_some_sectors(pending: list[Call], chance: random.Random) -> list[Call]:
    """The disk wrote in any order: any sector may be there or not."""
    return [part for call in pending for part in _tear(call, chance)]


_FATES: Final = (_keep_none, _keep_all, _keep_prefix, _keep_some, _keep_some_sectors)


def _tear(call: Call, chance: random.Random) -> list[Call]:
    """Return some of the sectors of a write; each is written whole or not at all."""
    if call.kind is Kind.TRUNCATE:
        return [call] if chance.random() < 0.5 else []
    share = chance.random()
    parts = []
    start, end = call.offset, call.offset + len(call.data)
    while start < end:
        following = min(end, (start // _SECTOR_BYTES + 1) * _SECTOR_BYTES)
        if chance.random() < share:
            data = call.data[start - call.offset : following - call.offset]
            parts.append(Call(Kind.WRITE, call.file, start, data))
        start = following
    return parts
