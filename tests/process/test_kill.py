"""kill -9 under load: what was acknowledged is there, batches are there whole or not at all.

Three rounds here; `make kill` does twenty (RECORDD_KILLS). A round takes about a second,
most of it the daemon's two starts.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess
from tests.wire import Wire, request

KILLS = int(os.environ.get("RECORDD_KILLS", "3"))
CLIENTS = 4
DEPTH = 64
BATCH = 5


class LoadClient(threading.Thread):
    """Keeps `DEPTH` writes in flight; every fourth is a `set_many` of `BATCH` rows."""

    def __init__(self, path: Path, number: int, start_at: int) -> None:
        super().__init__()
        self.number = number
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(path))
        self.next = start_at
        self.acknowledged: set[int] = set()

    def run(self) -> None:
        try:
            self._send(DEPTH)
            for line in self.sock.makefile("rb"):
                if not line.endswith(b"\n"):
                    break  # killed in the middle of an answer
                answer = json.loads(line)
                if "result" in answer:
                    self.acknowledged.add(answer["id"])
                self._send(1)
        except OSError:
            pass  # the daemon was killed
        finally:
            self.sock.close()

    def _send(self, count: int) -> None:
        lines = []
        for _ in range(count):
            n, self.next = self.next, self.next + 1
            name = f"load.{self.number}"
            if n % 4:
                lines.append(request("record.set", n, name=name, value=n, ts=n))
            else:
                rows = [{"name": f"{name}.{i}", "value": n, "ts": n} for i in range(BATCH)]
                lines.append(request("record.set_many", n, records=rows))
        self.sock.sendall(b"\n".join(lines) + b"\n")


def read_all(path: Path) -> dict[str, set[int]]:
    """Return every value of every record, by name."""
    found: dict[str, set[int]] = {}
    after: int | str = 0
    with Wire(path) as wire:
        while True:
            page = wire.call("record.replay", after=after)
            for row in page["records"]:
                found.setdefault(row["name"], set()).add(row["value"])
            if "next" not in page:
                return found
            after = page["next"]


@pytest.mark.timeout(120)
def test_no_acknowledged_write_is_lost_and_no_batch_torn(short_path: Path) -> None:
    daemon = DaemonProcess(short_path, RECORDD_TAIL_ROWS="2000")
    acknowledged: list[set[int]] = [set() for _ in range(CLIENTS)]
    next_number = 1
    try:
        for _ in range(KILLS):
            daemon.start()
            clients = [LoadClient(daemon.socket_path, n, next_number) for n in range(CLIENTS)]
            for client in clients:
                client.start()
            time.sleep(random.uniform(0.1, 0.5))
            daemon.stop(signal.SIGKILL)
            for client in clients:
                client.join(20)
                assert client.acknowledged, "there was load when it was killed"
                acknowledged[client.number] |= client.acknowledged
            next_number = max(client.next for client in clients)
            daemon.start()
            found = read_all(daemon.socket_path)
            check(found, acknowledged)
            assert daemon.stop() == 0
    finally:
        daemon.stop(signal.SIGKILL)


def check(found: dict[str, set[int]], acknowledged: list[set[int]]) -> None:
    for number, acked in enumerate(acknowledged):
        single = found.get(f"load.{number}", set())
        parts = [found.get(f"load.{number}.{i}", set()) for i in range(BATCH)]
        assert {n for n in acked if n % 4} <= single, "an acknowledged write is lost"
        assert {n for n in acked if n % 4 == 0} <= parts[0], "an acknowledged batch is lost"
        assert all(part == parts[0] for part in parts), "a batch was torn"
