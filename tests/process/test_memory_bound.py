"""Clients that want all the memory there is get what the settings give: no part of it more.

Every bound is taken to its end at once, on a real daemon, and the most that it ever held is
compared with the sum that `MemoryMax` of the unit is made of. A few seconds each.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from recordd.config.settings import load
from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.server.backends import most_memory_of
from tests.wire import Wire, request

MIB = 1 << 20
BOUNDS = {
    "max_records": "2000",
    "max_latest_bytes": str(16 * MIB),
    "max_waiting_bytes": str(8 * MIB),
    "max_message_bytes": "300000",
    "max_value_bytes": "200000",
    "max_reply_bytes": "300000",
    "max_connections": "200",
    "write_queue_bytes": str(8 * MIB),
    "backlog_bytes": str(2 * MIB),
    "page_snapshot_bytes": str(2 * MIB),
    "tail_rows": "2000",
    "readers": "1",
}
VALUE = "x" * 190_000
VALUES = 1300
GREEDY = 190
ANSWERS_EACH = 10


def write_all(daemon: DaemonProcess) -> int:
    """Write many large values, some at a time; return how many were refused."""
    refused = 0
    with Wire(daemon.socket_path, timeout_s=30) as wire:
        for first in range(0, VALUES, 10):
            numbers = range(first, first + 10)
            wire.send(*[request("record.set", n, name=f"r.{n}", value=VALUE) for n in numbers])
            refused += sum("error" in wire.receive() for _ in numbers)
    return refused


def ask_and_take_nothing(daemon: DaemonProcess, stack: contextlib.ExitStack) -> None:
    """Ask for values and for history over many connections, and read the first answer alone."""
    for _ in range(GREEDY):
        wire = stack.enter_context(Wire(daemon.socket_path, timeout_s=30))
        wire.send(*[request("record.get", n, name=f"r.{n % 5}") for n in range(ANSWERS_EACH)])
        wire.send(request("record.query", "q", name="#", limit=None))
        assert wire.receive_raw()


def peak_of(daemon: DaemonProcess) -> int:
    """Return the most bytes that the daemon has held in memory so far."""
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def take_all_there_is(start_daemon: StartDaemon, **changed: str) -> tuple[int, int]:
    """Return how many values were refused, and the daemon's peak, also after a restart."""
    bounds = {f"RECORDD_{key.upper()}": value for key, value in (BOUNDS | changed).items()}
    daemon = start_daemon(**bounds)
    with contextlib.ExitStack() as stack:
        refused = write_all(daemon)
        ask_and_take_nothing(daemon, stack)
        peak = peak_of(daemon)
    assert daemon.stop() == 0
    daemon.start()
    return refused, max(peak, peak_of(daemon))


def most() -> int:
    return most_memory_of(load({"socket": "s", **BOUNDS}, {}, None))


def test_memory_stays_below_the_sum_of_its_bounds(start_daemon: StartDaemon) -> None:
    refused, peak = take_all_there_is(start_daemon)
    print(f"{refused} of {VALUES} values refused, {peak / MIB:.0f} of {most() / MIB:.0f} MiB")
    assert 0 < refused < VALUES
    assert peak <= most()


@pytest.mark.parametrize("bound", ["max_latest_bytes", "max_waiting_bytes"])
def test_the_suite_flags_a_daemon_without_a_bound(start_daemon: StartDaemon, bound: str) -> None:
    """Negative controls."""
    refused, peak = take_all_there_is(start_daemon, **{bound: str(1 << 40)})
    print(f"{refused} of {VALUES} values refused, {peak / MIB:.0f} of {most() / MIB:.0f} MiB")
    assert peak > most()
