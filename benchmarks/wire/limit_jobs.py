"""What the least servers do with the calls of one pass of their loop: a class for each job."""

from __future__ import annotations

import abc
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, cast

import apsw
import msgspec

from benchmarks.wire.limit_data import (
    LAST,
    LAST_OF_EACH,
    LATEST,
    RANGE,
    LogRow,
    append_rows,
)

__all__ = ["JOBS", "Call", "Job", "make_frame"]

_RESULT: Final = b'{"jsonrpc":"2.0","id":%d,"result":%b}\n'
_WRITTEN: Final = b'{"jsonrpc":"2.0","id":%d,"result":{"rev":%d,"ts":%d}}\n'
_LOADED: Final = b'{"jsonrpc":"2.0","id":%d,"result":{"first_rev":%d,"last_rev":%d}}\n'
_EVENT: Final = b'{"jsonrpc":"2.0","method":"record.event","params":{"subscription":"s1",%b}}'
_ROWS: Final = b'{"records":[{%b}],"rev":%d,"epoch":"0123456789abcdef"}'
_ROW: Final = b'"name":"%b","value":%b,"ts":%d,"rev":%d'


class _Row(msgspec.Struct, gc=False):
    name: str
    value: msgspec.Raw
    ts: int


class _Params(msgspec.Struct, gc=False):
    """Those of all calls that there are."""

    name: str = ""
    value: msgspec.Raw = msgspec.Raw(b"")
    records: tuple[_Row, ...] = ()
    limit: int | None = None
    start: int = 0
    end: int = 0


class Call(msgspec.Struct, gc=False):
    """A request."""

    id: int
    params: _Params


Batch = Sequence[tuple[socket.socket, list[Call]]]
"""The calls of one pass, by connection."""

Answers = Iterator[tuple[socket.socket, bytes]]


class Job(abc.ABC):
    """What a server does with the calls of a pass: nothing leaves before its COMMIT."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db: Final = db
        found = cast("list[tuple[str, int]]", db.execute("SELECT name, id FROM record").fetchall())
        self._ids: Final = dict(found)
        self._rev = cast("int", db.execute("SELECT max(rev) FROM log").get or 0)
        self.followers: Final[set[socket.socket]] = set()
        self.framed: Final[set[socket.socket]] = set()

    @abc.abstractmethod
    def answer(self, batch: Batch) -> Answers:
        """Yield the answers, when what they say is on disk."""

    def _append(self, rows: Sequence[LogRow], records: Sequence[tuple[int, str]] = ()) -> None:
        append_rows(self._db, rows, records)
        self._rev += len(rows)

    def _read_latest(self) -> dict[str, bytes]:
        found = cast("list[tuple[str, str]]", self._db.execute(LATEST).fetchall())
        return {name: text.encode() for name, text in found}


class _Get(Job):
    """`record.get` from a dictionary."""

    def __init__(self, db: apsw.Connection) -> None:
        super().__init__(db)
        self._results: Final = {k: b"{%b}" % text for k, text in self._read_latest().items()}

    def answer(self, batch: Batch) -> Answers:
        results = self._results
        for sock, calls in batch:
            yield sock, b"".join([_RESULT % (c.id, results[c.params.name]) for c in calls])


class _Read(Job):
    """History: one statement for each query."""

    def answer(self, batch: Batch) -> Answers:
        for sock, calls in batch:
            yield sock, b"".join([_RESULT % (c.id, self._read(c.params)) for c in calls])

    def _read(self, params: _Params) -> bytes:
        name, record = params.name, self._ids.get(params.name, 0)
        if params.start:
            cursor = self._db.execute(RANGE, (name, record, params.start, params.end))
        elif record:
            cursor = self._db.execute(LAST, (name, record, params.limit))
        else:
            cursor = self._db.execute(LAST_OF_EACH, (params.limit,))
        return _ROWS % (cursor.get, self._rev)


class _Write(Job):
    """`record.set`: rows appended, and events to all followers; no index, no latest values."""

    def answer(self, batch: Batch) -> Answers:
        ts, ids, first = time.time_ns() // 1_000_000, self._ids, self._rev + 1
        calls = [call.params for _, asked in batch for call in asked]
        self._append(
            [(rev, ids[c.name], ts, str(c.value, "utf8")) for rev, c in enumerate(calls, first)]
        )
        rev = first
        for sock, asked in batch:
            yield sock, b"".join([_WRITTEN % (c.id, r, ts) for r, c in enumerate(asked, rev)])
            rev += len(asked)
        if self.followers or self.framed:
            self._tell([_EVENT % _describe(c, ts, rev) for rev, c in enumerate(calls, first)])

    def _tell(self, events: Sequence[bytes]) -> None:
        line = b"".join([event + b"\n" for event in events])
        for follower in self.followers:
            follower.send(line)
        frame = b"".join(map(make_frame, events))
        for follower in self.framed:
            follower.send(frame)


class _Load(Job):
    """`record.set_many`: as `_Write`, with the records that are new."""

    def answer(self, batch: Batch) -> Answers:
        first = self._rev + 1
        self._load([item for _, asked in batch for call in asked for item in call.params.records])
        for sock, asked in batch:
            for call in asked:
                end = first + len(call.params.records)
                yield sock, _LOADED % (call.id, first, end - 1)
                first = end

    def _load(self, items: Sequence[_Row]) -> None:
        ids, first = self._ids, self._rev + 1
        records = []
        for item in items:
            if item.name not in ids:
                ids[item.name] = len(ids) + 1
                records.append((ids[item.name], item.name))
        rows = [
            (rev, ids[i.name], i.ts, str(i.value, "utf8")) for rev, i in enumerate(items, first)
        ]
        self._append(rows, records)


class _Latest(Job):
    """The latest values of all records, and a write between: one call at a time."""

    def __init__(self, db: apsw.Connection) -> None:
        super().__init__(db)
        self._texts: Final = self._read_latest()
        self._page = b""

    def answer(self, batch: Batch) -> Answers:
        for sock, calls in batch:
            for call in calls:
                yield sock, self._write(call) if call.params.value else self._read(call.id)

    def _write(self, call: Call) -> bytes:
        rev, ts, params = self._rev + 1, time.time_ns() // 1_000_000, call.params
        self._append([(rev, self._ids[params.name], ts, str(params.value, "utf8"))])
        del self._texts[params.name]  # the newest stands last
        self._texts[params.name] = _describe(params, ts, rev)
        self._page = b""
        return _WRITTEN % (call.id, rev, ts)

    def _read(self, id: int) -> bytes:
        if not self._page:
            self._page = _ROWS % (b"},{".join(self._texts.values()), self._rev)
        return _RESULT % (id, self._page)


JOBS: Final[Mapping[str, Callable[[apsw.Connection], Job]]] = {
    "get": _Get,
    "read": _Read,
    "write": _Write,
    "load": _Load,
    "latest": _Latest,
}


def _describe(params: _Params, ts: int, rev: int) -> bytes:
    return _ROW % (params.name.encode(), params.value, ts, rev)


def make_frame(event: bytes) -> bytes:
    """Return a text frame of 126 bytes to 64 KiB, RFC 6455 §5.2."""
    return b"\x81\x7e" + len(event).to_bytes(2, "big") + event
