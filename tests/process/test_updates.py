"""Programs that follow records, over both transports, and what interrupts them."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from recordd_client import (
    Client,
    ConnectionFailed,
    InvalidParams,
    Resync,
    Update,
    connect,
    open_client,
)
from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.wire import WebSocketWire, Wire, request

URLS = ["url", "ws_url"]
CODE = "import sys; from recordd_client.cli import main; sys.exit(main())"


def brief(update: Update[Any]) -> tuple[Any, ...]:
    return update.name, update.value, update.rev, update.snapshot


def watch_blocking(url: str, count: int) -> list[Update[Any]]:
    """A watching program, as a user would write it."""
    with connect(url) as db, db.subscribe("w.*") as updates:
        return [next(updates) for _ in range(count)]


async def watch_async(url: str, count: int) -> list[Update[Any]]:
    """The same on Trio."""
    seen: list[Update[Any]] = []
    async with open_client(url) as db, db.subscribe("w.*") as updates:
        async for update in updates:
            seen.append(update)
            if len(seen) == count:
                break
    return seen


@pytest.mark.parametrize("url", URLS)
async def test_the_same_program_follows_over_both_transports(
    daemon: DaemonProcess, url: str
) -> None:
    address = getattr(daemon, url)
    with connect(daemon.url) as db:
        db.set_many([("w.a", 1), ("w.b", 2), ("u", 3)])

        def write_when_followed() -> None:
            while db.stats().subscriptions < 2:
                time.sleep(0.005)
            db.set_many([("w.a", 4), ("w.c", 5)])
            db.delete("w.b")

        found: list[Any] = []

        async def keep(watching: Any) -> None:
            found.append([brief(update) for update in await watching])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, write_when_followed)
            nursery.start_soon(keep, watch_async(address, 5))
            nursery.start_soon(keep, trio.to_thread.run_sync(watch_blocking, address, 5))
    assert found[0] == [
        ("w.a", 1, 1, True),
        ("w.b", 2, 2, True),
        ("w.a", 4, 4, False),
        ("w.c", 5, 5, False),
        ("w.b", None, 6, False),
    ]
    assert found[1] == found[0]


class Writer(threading.Thread):
    """Counts in a few records as fast as it is answered, over daemons that come and go."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.stopping = threading.Event()
        self.last_rev = 0

    def run(self) -> None:
        count = 0
        while not self.stopping.is_set():
            with contextlib.suppress(Exception), connect(self.url) as db:
                while not self.stopping.is_set():
                    names = [f"w.{n}" for n in range(5)]
                    self.last_rev = db.set_many([(n, count) for n in names]).last_rev or 0
                    count += 1


def committed(db: Client, last_rev: int) -> list[tuple[str, Any, int | None]]:
    """The log, from the history."""
    rows: list[Any] = []
    after: int | str | None = 0
    while after is not None:
        page = db.replay(after, name="w.*")
        rows += page.rows
        after = page.next
    return [(row.name, row.value, row.rev) for row in rows if (row.rev or 0) <= last_rev]


def test_kill_9_in_the_middle_of_a_stream_is_only_a_delay(daemon: DaemonProcess) -> None:
    """Three kills; about 3 s. The port changes, so over the Unix socket."""
    seen: list[tuple[str, Any, int | None]] = []
    resyncs: list[Resync] = []
    writer = Writer(daemon.url)
    with (
        connect(daemon.url) as db,
        db.subscribe("w.*", delivery="every", on_resync=resyncs.append) as updates,
    ):
        writer.start()
        try:
            for _ in range(3):
                seen += [(u.name, u.value, u.rev) for u in itertools.islice(updates, 500)]
                daemon.stop(signal.SIGKILL)
                daemon.start()
            seen += [(u.name, u.value, u.rev) for u in itertools.islice(updates, 500)]
        finally:
            writer.stopping.set()
            writer.join()
        while (update := updates.wait(1)) is not None:
            seen.append((update.name, update.value, update.rev))
    with connect(daemon.url) as db:
        assert seen == committed(db, writer.last_rev + 5)
    assert resyncs == []


async def test_a_trio_program_is_told_of_a_resync_and_of_nothing_else(
    short_path: Path, start_daemon: StartDaemon
) -> None:
    """A memory backend forgets: the next start has another epoch. Waits for reconnection."""
    daemon = start_daemon("--backend", "memory")
    told: list[Any] = []
    with trio.fail_after(20):
        async with open_client(daemon.url) as db:
            await db.set("a", 1)
            async with db.subscribe("#", on_resync=told.append) as updates:
                told.append((await anext(updates)).value)
                await trio.to_thread.run_sync(daemon.stop, signal.SIGKILL)
                await trio.to_thread.run_sync(daemon.start)
                async with open_client(daemon.url) as again:
                    await again.set("b", 2)
                told.append((await anext(updates)).value)
    assert [type(item) for item in told] == [int, Resync, int]
    assert told[2] == 2


def test_an_invalid_pattern_is_refused_at_once(daemon: DaemonProcess) -> None:
    with (
        connect(daemon.url) as db,
        pytest.raises(InvalidParams, match="whole segment"),
        db.subscribe("a#"),
    ):
        pass


async def test_a_trio_program_is_refused_at_once_too(daemon: DaemonProcess) -> None:
    async with open_client(daemon.url) as db:
        with pytest.raises(InvalidParams, match="whole segment"):
            async with db.subscribe("a#"):
                pass
        daemon.stop()
        with pytest.raises(ConnectionFailed):
            async with db.subscribe("a"):
                pass


class Weather(msgspec.Struct):
    celsius: float


def test_values_that_do_not_fit_the_type_are_counted(daemon: DaemonProcess) -> None:
    with connect(daemon.url) as db:
        db.set_many([("a", {"celsius": 1}), ("b", "none"), ("c", {"celsius": 2})])
        with db.subscribe("#", as_type=Weather) as updates:
            found = [
                update.value.celsius for update in (next(updates), next(updates)) if update.value
            ]
            assert (found, updates.unfit) == ([1.0, 2.0], 1)
            assert updates.wait(0.01) is None


def run_watch(daemon: DaemonProcess, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CODE, "--connect", daemon.url, "watch", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("format", "lines"),
    [
        ("text", ["1970-01-01 00:00:01  a  1  (snapshot)", "1970-01-01 00:00:02  a  2"]),
        (
            "ndjson",
            [
                '{"name":"a","value":1,"ts":1000,"rev":1,"flags":["snapshot"]}',
                '{"name":"a","value":2,"ts":2000,"rev":2,"flags":[]}',
            ],
        ),
        ("csv", ["name,value,ts,rev,flags", 'a,1,1000,1,"[""snapshot""]"', "a,2,2000,2,[]"]),
    ],
)
def test_recordctl_watch_prints_each_update_at_once(
    daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch, format: str, lines: list[str]
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    with connect(daemon.url) as db:
        db.set("a", 1, ts=1000)
        with run_watch(daemon, "--format", format) as watching:
            assert watching.stdout is not None
            found = [watching.stdout.readline().rstrip() for _ in lines[:-1]]
            db.set("a", 2, ts=2000)
            found.append(watching.stdout.readline().rstrip())
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 130
    assert found == lines


def test_recordctl_watch_resumes_and_says_when_it_cannot(daemon: DaemonProcess) -> None:
    with connect(daemon.url) as db:
        db.set_many([("a", 1), ("b", 2)])
        with run_watch(daemon, "--after", "1", "--format", "ndjson") as watching:
            assert watching.stdout is not None
            assert '"b","value":2' in watching.stdout.readline()
            watching.send_signal(signal.SIGINT)
        with run_watch(daemon, "--after", "9") as watching:
            assert watching.stderr is not None
            assert "updates are lost" in watching.stderr.readline()
            watching.send_signal(signal.SIGINT)


def test_waiting_ends_in_time_while_the_daemon_is_away_or_hangs(daemon: DaemonProcess) -> None:
    """Waits of 0.1 s; they must not become the client's 10 s, nor spin."""
    with connect(daemon.url) as db, db.subscribe("a") as updates:
        for away, back in ((signal.SIGSTOP, signal.SIGCONT), (signal.SIGKILL, None)):
            assert daemon.process is not None
            daemon.process.send_signal(away)
            started, cpu = time.monotonic(), time.process_time()
            for _ in range(5):
                assert updates.wait(0.1) is None
            assert time.monotonic() - started < 30
            assert time.process_time() - cpu < 0.4
            if back is not None:
                daemon.process.send_signal(back)
        daemon.stop(signal.SIGKILL)
        daemon.start()
        with connect(daemon.url) as again:
            again.set("a", 1)
        deadline = time.monotonic() + 15
        while (update := updates.wait(0)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert update.value == 1


async def test_an_exception_of_on_resync_reaches_the_loop(daemon: DaemonProcess) -> None:
    def fail(resync: Resync) -> None:
        raise ValueError("no")

    async with open_client(daemon.url) as db:
        await db.set("a", 1)
        with pytest.raises(ValueError, match="no"):
            async with db.subscribe("#", after=9, on_resync=fail) as updates:
                await anext(updates)


@pytest.mark.parametrize("transport", ["unix", "websocket"])
def test_a_subscriber_that_takes_nothing_is_closed_and_nobody_else(
    start_daemon: StartDaemon, transport: str
) -> None:
    """A tenth of a second instead of thirty; it is looked for eight times in that."""
    daemon = start_daemon(RECORDD_SEND_TIMEOUT="100ms")
    stuck: WebSocketWire | Wire
    if transport == "unix":
        stuck = Wire(daemon.socket_path)
        stuck.send(request("record.subscribe", 1, name="#"))
    else:
        stuck = WebSocketWire(daemon.port)
        stuck.sock.sendall(stuck.encode(request("record.subscribe", 1, name="#")))
    with stuck, connect(daemon.url) as db, db.subscribe("#") as updates:
        stuck.receive_raw()
        deadline = time.monotonic() + 20
        count = 0
        while db.stats().slow_peers_closed == 0:
            assert time.monotonic() < deadline
            db.set("a", [count, "x" * 100_000])
            update = next(updates)
            assert update.value is not None
            assert update.value[0] == count
            count += 1
        while db.stats().subscriptions != 1:  # a WebSocket is given time to say goodbye
            assert time.monotonic() < deadline
    assert "closed: it took nothing for 0.1 s while data waited" in daemon.log
