"""The daemon as a process: start, stop, exit codes, what it says."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.wire import Wire, request


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RECORDD_")}
    return subprocess.run(
        [sys.executable, "-m", "recordd", *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(daemon: DaemonProcess, how: signal.Signals) -> None:
    assert daemon.stop(how) == 0
    assert not daemon.socket_path.exists()
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--retention", "soon"), "--retention: 'soon' is not an age"),
        (("--listen", "nowhere"), "HOST:PORT"),
        (("--listen", "no.such.host.invalid:1"), "listen"),
        (("--config", "/no/such/file"), "/no/such/file"),
        (("--database", ":memory:"), "database"),
        (("--backend", "nope"), "'nope' is not installed"),
        (("--log-level", "loud"), "--log-level"),
        (("--database", "/proc/nope/x.db"), "/proc/nope"),
        (("--socket", "/proc/nope/s"), "/proc/nope"),
    ],
)
def test_a_bad_configuration_is_one_line_and_78(
    tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    defaults = (
        "--listen",
        "127.0.0.1:0",
        "--database",
        f"{tmp_path}/r.db",
        "--socket",
        f"{tmp_path}/s",
    )
    done = run("serve", *defaults, *arguments, RECORDD_LOG_LEVEL="error")
    if "--log-level" in arguments:
        done = run("serve", *defaults, *arguments)
    assert done.returncode == 78, done.stderr
    assert complaint in done.stderr
    assert done.stderr.startswith("recordd: ")
    assert done.stderr.count("\n") == 1


def test_a_second_daemon_on_the_same_socket_or_database_is_told(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    other = ("--listen", "127.0.0.1:0")
    socket_taken = run(
        *other,
        "--socket",
        str(daemon.socket_path),
        "--database",
        f"{tmp_path}/o.db",
        RECORDD_LOG_LEVEL="error",
    )
    assert (socket_taken.returncode, "listens there" in socket_taken.stderr) == (1, True)
    database_taken = run(*other, "--socket", f"{tmp_path}/o", "--database", str(daemon.database))
    assert (database_taken.returncode, "another process" in database_taken.stderr) == (78, True)
    port_taken = run(
        *("--listen", f"127.0.0.1:{daemon.port}"),
        *("--socket", f"{tmp_path}/o", "--database", f"{tmp_path}/o.db"),
    )
    assert port_taken.returncode == 1
    with Wire(daemon.socket_path) as wire:
        assert wire.call("hello", client="t")["server"] == "recordd"


def test_a_socket_left_over_by_a_crash_is_replaced(daemon: DaemonProcess) -> None:
    daemon.stop(signal.SIGKILL)
    assert daemon.socket_path.exists()
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        wire.call("hello", client="t")


def test_only_this_user_may_open_socket_and_database(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket_path) as wire:
        wire.call("record.set", name="a", value=1)
    for path in (daemon.socket_path, daemon.database, Path(f"{daemon.database}-wal")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_answers_are_the_same_after_a_restart(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket_path) as wire:
        for n in range(10):
            wire.call("record.set", name=f"r.{n % 3}", value={"n": n}, ts=1000 - n)
        before = [
            wire.call("record.query"),
            wire.call("record.query", limit=None),
            wire.call("record.count"),
        ]
    assert daemon.stop() == 0
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        after = [
            wire.call("record.query"),
            wire.call("record.query", limit=None),
            wire.call("record.count"),
        ]
    assert after == before


def test_writes_accepted_before_sigterm_are_committed_and_answered(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket_path) as wire:
        wire.send(*(request("record.set", n, name="a", value=n) for n in range(5000)))
        first = wire.receive()
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        answers = [first]
        while (answer := wire.receive()) is not None:
            answers.append(answer)
    assert daemon.stop() == 0
    acknowledged = [a["id"] for a in answers if "result" in a]
    refused = [a["error"]["data"]["reason"] for a in answers if "error" in a]
    assert set(refused) <= {"unavailable"}
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        stored = wire.call("record.count")["rows"]
        assert stored >= len(acknowledged)


def test_config_shows_values_and_their_sources(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('max_records = 5\n[[record]]\nname = "a.#"\npersist = false\n')
    done = run("config", "--config", f"{tmp_path}/c.toml", "--retention", "7d", RECORDD_READERS="3")
    assert done.returncode == 0
    lines = {
        line.split(" = ")[0].strip(): line for line in done.stdout.splitlines() if " = " in line
    }
    assert "7d" in lines["retention"]
    assert "--retention" in lines["retention"]
    assert "RECORDD_READERS" in lines["readers"]
    assert "c.toml" in lines["max_records"]
    assert "default" in lines["socket"]
    assert "record 'a.#': persist=False" in done.stdout


def test_the_log_may_be_json(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--log-format", "json")
    lines = [json.loads(line) for line in daemon.log.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])


def test_the_service_manager_is_told(short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(10)
        manager.bind(str(short_path / "notify"))
        daemon = DaemonProcess(short_path, NOTIFY_SOCKET=str(short_path / "notify")).start()
        try:
            assert manager.recv(100) == b"READY=1"
            daemon.stop()
            assert manager.recv(100) == b"STOPPING=1"
        finally:
            daemon.stop(signal.SIGKILL)


def test_too_many_connections_are_told_so(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(RECORDD_MAX_CONNECTIONS="2")
    with Wire(daemon.socket_path) as first, Wire(daemon.socket_path) as second:
        first.call("hello", client="t")
        second.call("hello", client="t")
        with Wire(daemon.socket_path) as third:
            assert third.receive()["error"]["data"]["reason"] == "overloaded"
            assert third.receive() is None
        assert first.call("server.stats")["connections_refused"] == 1
    deadline = time.monotonic() + 10
    while True:
        with Wire(daemon.socket_path) as again:
            again.send(request("hello", 1, client="t"))
            if "result" in again.receive():
                break
        assert time.monotonic() < deadline, "freed places are taken again"


def test_a_peer_that_reads_nothing_is_neither_waited_for_nor_stored_for(
    start_daemon: StartDaemon,
) -> None:
    """Over a second: the peer must have been stuck for the time that is allowed."""
    daemon = start_daemon(RECORDD_SEND_TIMEOUT="500ms")
    with Wire(daemon.socket_path) as wire:
        wire.call("record.set", name="big", value="x" * 500_000)
    with Wire(daemon.socket_path) as stuck, Wire(daemon.socket_path) as other:
        stuck.sock.setblocking(False)
        sent = 0
        lines = b"".join(request("record.get", n, name="big") + b"\n" for n in range(20_000))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                sent += stuck.sock.send(lines[sent:])
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:
                break  # the daemon has closed the connection
            assert other.call("hello", client="t")["server"] == "recordd"
        assert time.monotonic() < deadline, "the stuck peer was never closed"
        assert other.call("server.stats")["requests"] < 200


def test_a_daemon_without_persistence(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--backend", "")
    with Wire(daemon.socket_path) as wire:
        wire.call("record.set", name="a", value=1)
        assert wire.call("record.get", name="a")["value"] == 1
        assert [row["value"] for row in wire.call("record.query")["records"]] == [1]
        refused = wire.call("record.query", limit=2)
        assert refused["error"]["data"]["reason"] == "not_configured"
    assert not daemon.database.exists()


def test_retention_deletes_rows_past_their_rule_at_start(
    start_daemon: StartDaemon, short_path: Path
) -> None:
    config = short_path / "c.toml"
    config.write_text('[[record]]\nname = "keep.*"\nretention = "off"\n')
    daemon = start_daemon("--config", str(config))
    rows = [{"name": name, "value": n, "ts": n} for name in ("keep.a", "go.a") for n in range(5)]
    with Wire(daemon.socket_path) as wire:
        wire.call("record.set_many", records=rows)
    daemon.stop()
    daemon = start_daemon("--config", str(config), RECORDD_RETENTION="1h")
    with Wire(daemon.socket_path) as wire:
        deadline = time.monotonic() + 10
        while not wire.call("server.stats")["retention"]["runs"]:
            assert time.monotonic() < deadline
        stats: dict[str, Any] = wire.call("server.stats")
        assert stats["retention"]["last_deleted"] == 4
        assert wire.call("record.count", name="keep.*")["rows"] == 5
        assert [
            r["value"] for r in wire.call("record.query", name="go.*", limit=None)["records"]
        ] == [4]


def test_plain_http_serves_health_and_version(daemon: DaemonProcess) -> None:
    def get(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}{path}", timeout=10) as answer:
            assert answer.headers["Content-Type"] == "application/json"
            return json.load(answer)

    with Wire(daemon.socket_path) as wire:
        wire.call("hello", client="t")
        health = get("/health")
    assert (health["status"], health["clients"]) == ("ok", 2)
    assert health["uptime_secs"] >= 0
    assert get("/version") == {"aimx": "3.0"}
