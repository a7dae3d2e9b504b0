"""Clients that keep writes in flight at a daemon that is about to end, and what must be left."""

from __future__ import annotations

import json
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.broken_daemon import BrokenDaemon
from tests.daemon_process import START_TIMEOUT_S, DaemonProcess
from tests.wire import Wire, request

__all__ = [
    "LoadClient",
    "check_found",
    "end_under_load",
    "make_daemon",
    "make_daemons",
    "read_rows",
]

CLIENTS: Final = 4
DEPTH: Final = 64
BATCH: Final = 5
FEW_ROWS: Final = 20
_ON_ONE_DATABASE: Final = 25
"""Rounds; everything is read after each, which takes longer every time."""
_LONGEST_S: Final = 0.4
_NOW_MS: Final = time.time_ns() // 1_000_000 - 3_600_000
_LATE_MS: Final = 500
_KINDS: Final = 8
_RULES: Final = f'[[record]]\nname = "few.#"\nmax_rows = {FEW_ROWS}\n'

Rows = dict[str, list[tuple[int, int, int]]]
"""(`ts`, `rev`, value) by name, in the order of commits."""


class LoadClient(threading.Thread):
    """Keeps `DEPTH` writes in flight; a request's number is its id and its value.

    Of eight requests two are a `set_many` of `BATCH` rows, one is late, one sets a record
    that the one four later deletes, one is for a record that keeps few rows.
    """

    def __init__(self, path: Path, number: int, start_at: int) -> None:
        super().__init__()
        self.number: Final = number
        self.first: Final = start_at
        self.next = start_at
        self.acknowledged: Final[set[int]] = set()
        self.refused: Final[dict[int, str]] = {}
        self.answered: Final[list[int]] = []
        self.was_reset = False
        self.is_served: Final = threading.Event()
        self._is_broken = False
        self._sock: Final = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.connect(str(path))

    def run(self) -> None:
        self._send(DEPTH)
        try:
            for line in self._sock.makefile("rb"):
                if not line.endswith(b"\n"):
                    self.was_reset = True  # killed in the middle of an answer
                    break
                self._take(json.loads(line))
                self._send(1)
        except OSError:
            self.was_reset = True
        finally:
            self._sock.close()

    def _take(self, answer: dict[str, Any]) -> None:
        number = answer["id"]
        self.answered.append(number)
        if "result" in answer:
            self.acknowledged.add(number)
            self.is_served.set()
        else:
            self.refused[number] = answer["error"]["data"]["reason"]

    def _send(self, count: int) -> None:
        """Send requests; once nobody takes them any more, only answers are read."""
        if self._is_broken:
            return
        lines = [self._make(self.next + n) for n in range(count)]
        try:
            self._sock.sendall(b"\n".join(lines) + b"\n")
        except OSError:
            self._is_broken = True
        self.next += count

    def _make(self, n: int) -> bytes:
        k, kind, ts = self.number, n % _KINDS, _NOW_MS + n
        if kind in (0, 4):
            rows = [{"name": f"load.{k}.{i}", "value": n, "ts": ts} for i in range(BATCH)]
            return request("record.set_many", n, records=rows)
        if kind == 1:
            return request("record.set", n, name=f"load.{k}", value=n, ts=ts - _LATE_MS)
        if kind == 2:
            return request("record.set", n, name=f"gone.{k}.{n}", value=n, ts=ts)
        if kind == 6:
            return request("record.delete", n, name=f"gone.{k}.{n - 4}")
        name = f"few.{k}" if kind == 3 else f"load.{k}"
        return request("record.set", n, name=name, value=n, ts=ts)


def make_daemon(folder: Path, variant: str | None = None) -> DaemonProcess:
    """Return a daemon, to be started, that merges and prunes while it is written to."""
    rules = folder / "recordd.toml"
    rules.write_text(_RULES)
    flags = ("--config", str(rules))
    environment = {"RECORDD_TAIL_ROWS": "2000", "RECORDD_RETENTION_INTERVAL": "1s"}
    if variant is not None:
        return BrokenDaemon(variant, folder, *flags, **environment)
    return DaemonProcess(folder, *flags, **environment)


def make_daemons(folder: Path, rounds: int) -> Iterator[tuple[DaemonProcess, int]]:
    """Yield daemons, each with a database of its own, and the rounds to play on each."""
    for first in range(0, rounds, _ON_ONE_DATABASE):
        place = folder / str(first)
        place.mkdir()
        yield make_daemon(place), min(_ON_ONE_DATABASE, rounds - first)


def end_under_load(daemon: DaemonProcess, clients: list[LoadClient], how: signal.Signals) -> int:
    """End a daemon that clients write to; return its exit code when all of them have noticed.

    The clients are added to those that there were before.
    """
    started = _start_load(daemon.socket_path, clients)
    clients += started
    time.sleep(random.uniform(0, _LONGEST_S))
    code = daemon.stop(how)
    for client in started:
        client.join(START_TIMEOUT_S)
    return code


def _start_load(path: Path, clients: list[LoadClient]) -> list[LoadClient]:
    """Start clients that go on numbering where the ones before, if any, have come to.

    Each has been answered once on return.
    """
    newest = max((client.next for client in clients), default=0)
    start_at = (newest // _KINDS + 1) * _KINDS
    started = [LoadClient(path, number, start_at) for number in range(CLIENTS)]
    for client in started:
        client.start()
    for client in started:
        assert client.is_served.wait(START_TIMEOUT_S), "nothing is answered"
    return started


def read_rows(path: Path) -> Rows:
    """Return every row; check on the way that the latest of each record is right."""
    with Wire(path) as wire:
        latest = _read_pages(wire, "record.query")
        log = _read_pages(wire, "record.replay", after=0)
    found: Rows = {}
    for row in log:
        found.setdefault(row["name"], []).append((row["ts"], row["rev"], row["value"]))
    newest = {name: max(rows)[:2] for name, rows in found.items()}
    assert {row["name"]: (row["ts"], row["rev"]) for row in latest} == newest
    return found


def _read_pages(wire: Wire, method: str, **params: Any) -> list[dict[str, Any]]:
    """Return all rows; retention runs, so that pages may have to be asked for once more."""
    rows: list[dict[str, Any]] = []
    following = params.get("after")
    while True:
        page = wire.call(method, **params | ({} if following is None else {"after": following}))
        if "error" in page:
            assert page["error"]["data"]["reason"] == "expired", page
            rows, following = [], params.get("after")
            continue
        rows += page["records"]
        if "next" not in page:
            return rows
        following = page["next"]


def check_found(found: Rows, clients: list[LoadClient]) -> None:
    """Hold what is found against what was answered to all clients there ever were."""
    values = {name: {value for _, _, value in rows} for name, rows in found.items()}
    for client in clients:
        first, k = client.first, client.number
        answered = sorted(client.answered)  # refusals of a daemon that stops come first
        assert answered == list(range(first, first + len(answered))), "a request has no answer"
        for n in client.acknowledged:
            _check_acknowledged(values, client, n)
        for n, reason in client.refused.items():
            is_there = any(n in values.get(name, ()) for name in _names_of(k, n))
            assert reason == "not_found" or not is_there, f"refused ({reason}), and there"
    for k in range(CLIENTS):
        parts = [values.get(f"load.{k}.{i}", set()) for i in range(BATCH)]
        assert all(part == parts[0] for part in parts), "a batch was torn"
        acknowledged = {
            n for c in clients if c.number == k for n in c.acknowledged if n % _KINDS == 3
        }
        newest = sorted(acknowledged | values.get(f"few.{k}", set()))[-FEW_ROWS:]
        assert set(newest) <= values.get(f"few.{k}", set()), "retention deleted too much"


def _check_acknowledged(values: dict[str, set[int]], client: LoadClient, n: int) -> None:
    kind, k = n % _KINDS, client.number
    if kind == 6:
        assert f"gone.{k}.{n - 4}" not in values, "a deleted record is back"
    elif kind == 2:
        was_deleted = n + 4 < client.next
        assert was_deleted or f"gone.{k}.{n}" in values, "an acknowledged write is lost"
    elif kind != 3:
        assert all(n in values.get(name, ()) for name in _names_of(k, n)), f"{n} of {k} is lost"


def _names_of(k: int, n: int) -> list[str]:
    kind = n % _KINDS
    if kind in (0, 4):
        return [f"load.{k}.{i}" for i in range(BATCH)]
    return {2: [f"gone.{k}.{n}"], 3: [f"few.{k}"], 6: []}.get(kind, [f"load.{k}"])
