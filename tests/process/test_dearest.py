"""The dearest requests there are, legal all of them: nobody else waits longer than 100 ms.

5,000 records here, and a bound ten times as large, for machines that are busy otherwise;
`make soak-dearest` takes 100,000 with long names, and 100 ms (RECORDD_DEAREST_RECORDS,
RECORDD_DEAREST_BOUND_S), and prints what the canary had to wait beside each.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess
from tests.wire import Wire, request

RECORDS = int(os.environ.get("RECORDD_DEAREST_RECORDS", "5000"))
BOUND_S = float(os.environ.get("RECORDD_DEAREST_BOUND_S", "1.0"))
CALLS = RECORDS // 100
"""Calls in one batch: 1,000 in the long form."""

ROWS_A_MESSAGE = 5000
"""Rows with long names that fit into one message."""

HOSTILE = "#." + ".".join(["a*"] * 60) + ".b"
"""A matcher that goes back would take 240 µs a name."""


class EndlessTurns(DaemonProcess):
    """The control."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.command = (sys.executable, "-m", "tests.endless_turns")


def name_of(n: int) -> str:
    filling = "a." * (60 if RECORDS > 50_000 else 10)
    return f"site{n % 97}.{filling}room{n}"


def load(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket_path, timeout_s=60) as wire:
        for start in range(0, RECORDS, 4000):
            numbers = range(start, min(RECORDS, start + 4000))
            rows = [{"name": name_of(n), "value": n} for n in numbers]
            assert "first_rev" in wire.call("record.set_many", records=rows)


@pytest.fixture(scope="module")
def loaded() -> Iterator[DaemonProcess]:
    with tempfile.TemporaryDirectory(prefix="recordd-") as folder:
        daemon = DaemonProcess(Path(folder), RECORDD_MAX_RECORDS="200000").start()
        load(daemon)
        yield daemon
        assert daemon.stop() == 0


def batch(method: str, count: int, **params: object) -> bytes:
    """A batch of one request many times; `%d` in a parameter is another number in each."""
    calls = []
    for n in range(count):
        filled = {k: v % n if isinstance(v, str) and "%d" in v else v for k, v in params.items()}
        calls.append(request(method, n, **filled))
    return b"[" + b",".join(calls) + b"]"


REQUESTS: dict[str, Callable[[], bytes]] = {
    "count": lambda: batch("record.count", CALLS, name="*.#"),
    "count, new patterns": lambda: batch("record.count", CALLS // 4, name="site*.#.room%d*"),
    "count, a hostile pattern": lambda: batch("record.count", 3, name=HOSTILE + "%d"),
    "list": lambda: batch("record.list", CALLS // 2, limit=2),
    "list, new patterns": lambda: batch("record.list", CALLS // 4, name="*%d.#.room*", limit=2),
    "list, far behind": lambda: batch("record.list", CALLS // 4, limit=2, after=RECORDS - 100),
    "latest": lambda: batch("record.query", CALLS // 4),
    "latest, new patterns": lambda: batch("record.query", CALLS // 4, name="site%d*.#"),
    "latest, unpaged": lambda: batch("record.query", CALLS // 4, paged=False),
    "history": lambda: batch("record.query", 2, name="site%d.#", limit=5),
    "profiling.reset": lambda: batch("profiling.reset", CALLS),
    "buffer_metrics.reset": lambda: batch("buffer_metrics.reset", CALLS),
    "graph.nodes": lambda: batch("graph.nodes", CALLS),
    "graph.topo_order": lambda: batch("graph.topo_order", CALLS // 10),
    "rpc.discover": lambda: batch("rpc.discover", CALLS),
    "server.stats": lambda: batch("server.stats", CALLS),
    "too many members": lambda: b"[" + b"1," * 500_000 + b"1]",
    "subscribe": lambda: batch("record.subscribe", CALLS // 2, name="site%d.#.room*"),
    "delete": lambda: batch("record.delete", CALLS, name=name_of(0).replace("room0", "room%d")),
}


def ask(daemon: DaemonProcess, message: bytes) -> None:
    with Wire(daemon.socket_path, timeout_s=120) as wire:
        wire.send(message)
        assert wire.receive() is not None


def longest_wait(daemon: DaemonProcess, action: Callable[[], None], give_up_s: float = 60) -> float:
    """Return the longest that a canary had to wait while something was done.

    Past `give_up_s` it waits no longer: that is what it had to wait, at least.
    """
    failed: list[BaseException] = []

    def do() -> None:
        try:
            action()
        except BaseException as error:
            failed.append(error)

    doing = threading.Thread(target=do)
    longest = 0.0
    with Wire(daemon.socket_path, timeout_s=give_up_s) as canary:
        canary.call("record.get", name=name_of(1))
        doing.start()
        while doing.is_alive():
            began = time.perf_counter()
            try:
                canary.call("record.get", name=name_of(1))
            except TimeoutError:
                return give_up_s
            longest = max(longest, time.perf_counter() - began)
            time.sleep(0.001)
    if failed:
        raise failed[0]
    return longest


@pytest.mark.timeout(900)
@pytest.mark.parametrize("dearest", REQUESTS)
def test_nobody_waits_for_the_dearest_requests(loaded: DaemonProcess, dearest: str) -> None:
    message = REQUESTS[dearest]()
    waited_s = longest_wait(loaded, lambda: ask(loaded, message))
    print(f"{dearest}: {waited_s * 1000:.1f} ms")
    assert waited_s < BOUND_S


def write_before_followers(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket_path, timeout_s=120) as follower, Wire(daemon.socket_path) as writer:
        follower.send(batch("record.subscribe", CALLS // 2, name="*%d*.#", snapshot=False))
        assert follower.receive() is not None
        writer.sock.settimeout(120)
        # Each as long as a message may be; those behind the first are committed together.
        parts = [range(n, n + ROWS_A_MESSAGE) for n in range(0, RECORDS // 10, ROWS_A_MESSAGE)]
        for part in parts:
            rows = [{"name": name_of(n), "value": 1} for n in part]
            writer.send(request("record.set_many", part.start, records=rows))
        for _ in parts:
            assert "first_rev" in writer.receive()["result"]


@pytest.mark.timeout(300)
def test_nobody_waits_for_a_large_commit_and_its_many_followers(loaded: DaemonProcess) -> None:
    waited_s = longest_wait(loaded, lambda: write_before_followers(loaded))
    print(f"a large commit and all who follow it: {waited_s * 1000:.1f} ms")
    assert waited_s < BOUND_S


def follow_and_leave(daemon: DaemonProcess) -> None:
    with contextlib.ExitStack() as stack:
        wires = [
            stack.enter_context(Wire(daemon.socket_path, timeout_s=120)) for _ in range(CALLS // 10)
        ]
        for wire in wires:
            wire.send(*[request("record.subscribe", n, name="#") for n in range(10)])
        for wire in wires:
            assert "subscription" in wire.receive()["result"]


@pytest.mark.timeout(300)
def test_nobody_waits_for_a_thousand_followers_that_come_and_leave(loaded: DaemonProcess) -> None:
    waited_s = longest_wait(loaded, lambda: follow_and_leave(loaded))
    print(f"a thousand who follow all and leave: {waited_s * 1000:.1f} ms")
    assert waited_s < BOUND_S


@pytest.mark.timeout(120)
def test_a_stop_takes_effect_in_the_middle_of_a_batch() -> None:
    with tempfile.TemporaryDirectory(prefix="recordd-") as folder:
        daemon = DaemonProcess(Path(folder)).start()
        load(daemon)
        with Wire(daemon.socket_path) as wire:
            wire.send(batch("record.count", 200, name="*%d*.#.*a*.*"))
            with Wire(daemon.socket_path) as other:
                other.call("hello", client="t")
            began = time.monotonic()
            assert daemon.stop(signal.SIGTERM) == 0
            assert time.monotonic() - began < 15  # shutdown_timeout, and some


@pytest.mark.timeout(120)
def test_control_a_daemon_without_turns_is_flagged() -> None:
    with tempfile.TemporaryDirectory(prefix="recordd-") as folder:
        daemon = EndlessTurns(Path(folder)).start()
        load(daemon)
        message = batch("record.count", 5_000_000 // RECORDS, name="site*.#.room%d*")
        try:
            waited_s = longest_wait(daemon, lambda: ask(daemon, message), give_up_s=10)
        finally:
            daemon.stop(signal.SIGKILL)
        print(f"without turns: {waited_s * 1000:.1f} ms")
        assert waited_s > BOUND_S
