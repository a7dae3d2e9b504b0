"""Floods: whoever sends much of nothing, or opens much for nothing, is ended or told.

The suite in short; `make soak-floods` makes each flood as large as RECORDD_FLOOD says.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.process.test_hostile import CLOSE, PING, TEXT, UPGRADE, frame, read_to_end, shake_hands
from tests.wire import Wire, request

SIZE = int(os.environ.get("RECORDD_FLOOD", "1"))
BOUND_S = float(os.environ.get("RECORDD_FLOOD_BOUND_S", "1.0"))
"""What a canary may have to wait. The promise is 0.1 s; a shared machine may be ten times slower."""

CONTINUED = 0


def unfinished(opcode: int) -> bytes:
    data = bytearray(frame(opcode, b""))
    data[0] &= 0x7F
    return bytes(data)


@contextlib.contextmanager
def open_websocket(daemon: DaemonProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", daemon.port), 10) as sock:
        shake_hands(sock)
        yield sock


def longest_wait_while(daemon: DaemonProcess, action: Callable[[], None]) -> float:
    """Return the longest that a canary on the Unix socket had to wait meanwhile."""
    doing = threading.Thread(target=action)
    longest = 0.0
    with Wire(daemon.socket_path) as canary:
        canary.call("hello", client="canary")
        doing.start()
        while doing.is_alive():
            began = time.perf_counter()
            canary.call("hello", client="canary")
            longest = max(longest, time.perf_counter() - began)
    doing.join()
    return longest


def close_code(answer: bytes) -> int:
    head = answer.index(bytes([0x80 | CLOSE]))
    return int.from_bytes(answer[head + 2 : head + 4], "big")


def send_fragments(daemon: DaemonProcess, answers: list[bytes]) -> None:
    with open_websocket(daemon) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(unfinished(TEXT))
            for _ in range(4 * SIZE):
                sock.sendall(unfinished(CONTINUED) * 50_000)
        answer = b""
        while b"\x88" not in answer:  # the peer is told before all it sent is read
            answer += sock.recv(65_536)
        answers.append(answer)


def send_pings(daemon: DaemonProcess) -> None:
    with open_websocket(daemon) as sock:
        sock.settimeout(0.05)
        flood = frame(PING, b"") * 3_000
        for _ in range(SIZE):
            with contextlib.suppress(TimeoutError):
                sock.sendall(flood)
            with contextlib.suppress(TimeoutError):
                while sock.recv(65_536):
                    pass


def send_tiny_messages(daemon: DaemonProcess) -> None:
    with open_websocket(daemon) as sock:
        reading = threading.Thread(target=read_to_end, args=(sock,))
        reading.start()
        for _ in range(SIZE):
            sock.sendall(frame(TEXT, b'{"t":"ping"}') * 1000)
        sock.sendall(frame(CLOSE, (1000).to_bytes(2, "big")))
        reading.join()


def test_a_message_in_millions_of_empty_fragments_is_ended(daemon: DaemonProcess) -> None:
    """6 MB of them took 3.3 s, in which nobody else was served."""
    answers: list[bytes] = []
    assert longest_wait_while(daemon, lambda: send_fragments(daemon, answers)) < BOUND_S
    assert close_code(answers[0]) == 1008
    assert b"max_message_fragments" in answers[0]
    assert "Traceback" not in daemon.log


def test_control_the_suite_flags_a_daemon_that_counts_no_fragments(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(RECORDD_MAX_MESSAGE_FRAGMENTS="1000000000")
    with open_websocket(daemon) as sock:
        sock.sendall(
            unfinished(TEXT) + unfinished(CONTINUED) * 2000 + frame(CONTINUED, b'{"t":"ping"}')
        )
        assert b"pong" in sock.recv(65_536)


def test_a_flood_of_pings_or_tiny_messages_holds_nobody_up(daemon: DaemonProcess) -> None:
    assert longest_wait_while(daemon, lambda: send_pings(daemon)) < BOUND_S
    assert longest_wait_while(daemon, lambda: send_tiny_messages(daemon)) < BOUND_S


def test_idle_websockets_lock_out_neither_the_unix_socket_nor_another(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(RECORDD_MAX_CONNECTIONS="40", RECORDD_IDLE_TIMEOUT="400ms")
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(open_websocket(daemon)) for _ in range(20)]
        with Wire(daemon.socket_path) as wire:
            subscriber = stack.enter_context(open_websocket(daemon))
            subscriber.sendall(frame(TEXT, b'{"t":"sub","id":1,"topic":"#"}'))
            assert close_code(idle[0].recv(65_536)) == 1001
            deadline = time.monotonic() + 10
            while (stats := wire.call("server.stats"))["idle_closed"] < 20:
                assert time.monotonic() < deadline, stats
            assert stats["connections"] <= 22
            # Who follows is not idle.
            assert wire.call("record.set", name="a", value=1)["rev"] == 1
            received = b""
            while b'"topic":"a"' not in received:
                received += subscriber.recv(65_536)


def test_the_unix_socket_keeps_its_places_while_websockets_come_and_come(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(RECORDD_MAX_CONNECTIONS="12", RECORDD_RESERVED_UNIX_CONNECTIONS="4")
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(open_websocket(daemon))
        refused = [
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 10))
            for _ in range(10)
        ]
        for sock in refused:
            sock.sendall(UPGRADE + b"\r\n")  # it sends first: it is told all the same
        for sock in refused:
            answer = read_to_end(sock)
            assert answer.startswith(b"HTTP/1.1 503"), answer
            assert b"max_connections" in answer
        wires = [stack.enter_context(Wire(daemon.socket_path)) for _ in range(4)]
        assert all(wire.call("hello", client="t")["server"] == "recordd" for wire in wires)
        for _ in range(10):
            with Wire(daemon.socket_path) as wire:
                wire.send(*[request("record.get", n, name="x") for n in range(100)])
                assert wire.receive()["error"]["data"]["reason"] == "overloaded"
                assert wire.receive() is None


def test_one_address_cannot_take_all_places(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(RECORDD_MAX_CONNECTIONS_PER_ADDRESS="3")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(open_websocket(daemon))
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 10))
        assert b"max_connections_per_address" in read_to_end(sock)


def test_a_peer_that_answers_no_ping_is_closed_and_one_that_does_is_not(
    start_daemon: StartDaemon,
) -> None:
    daemon, pings = start_daemon(RECORDD_PING_INTERVAL="200ms"), 0
    with open_websocket(daemon) as dead, open_websocket(daemon) as alive:
        alive.settimeout(0.05)
        with Wire(daemon.socket_path) as wire:
            deadline = time.monotonic() + 10
            while pings < 3 or not wire.call("server.stats")["dead_peers_closed"]:
                assert time.monotonic() < deadline
                with contextlib.suppress(TimeoutError):
                    data = alive.recv(65_536)
                    assert data[0] == 0x80 | PING
                    pings += 1
                    alive.sendall(frame(10, data[2 : 2 + data[1]]))
            assert wire.call("server.stats")["dead_peers_closed"] == 1
        read_to_end(dead)


def reset(sock: socket.socket) -> None:
    """Close with a reset instead of an end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_a_reset_in_the_handshake_logs_no_traceback(daemon: DaemonProcess) -> None:
    for data in (b"", b"GET ", UPGRADE, UPGRADE + b"\r\n", UPGRADE + b"\r\n\x81", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"):  # fmt: skip
        for _ in range(20):
            sock = socket.create_connection(("127.0.0.1", daemon.port), 10)
            sock.sendall(data)
            reset(sock)
    with Wire(daemon.socket_path) as wire:
        deadline = time.monotonic() + 10
        while wire.call("server.stats")["connections"] > 1:
            assert time.monotonic() < deadline
    assert "Traceback" not in daemon.log
    assert "failed" not in daemon.log


def test_a_full_file_table_is_logged_once_a_second_and_passes(daemon: DaemonProcess) -> None:
    """Some 1.5 s: the log must have had the time to repeat itself."""
    assert daemon.process is not None
    pid = daemon.process.pid
    with Wire(daemon.socket_path) as wire:
        wire.call("hello", client="t")
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        files = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, limits[1]))
        with Wire(daemon.socket_path) as waiting:
            waiting.send(request("hello", 1, client="t"))
            began = time.monotonic()
            while wire.call("server.stats")["accept_errors"] < 12:
                assert time.monotonic() < began + 20
            elapsed_s = time.monotonic() - began
            assert 1 <= daemon.log.count("connections wait") <= elapsed_s + 2
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            assert waiting.receive()["result"]["server"] == "recordd"
    assert "Traceback" not in daemon.log


def wait_for_log(daemon: DaemonProcess, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in daemon.log:
        assert time.monotonic() < deadline, daemon.log
        time.sleep(0.01)


def test_no_signal_but_those_to_stop_ends_the_daemon(start_daemon: StartDaemon) -> None:
    """SIGHUP reads the configuration again: the log's level, and what waits for a restart."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:

        def hang_up(text: str) -> None:
            config.seek(0)
            config.truncate()
            config.write(text)
            config.flush()
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGHUP)

        daemon = start_daemon(RECORDD_CONFIG=config.name)
        assert daemon.process is not None
        hang_up('log_level = "debug"\nmax_records = 5\n[backend]\nreaders = 4\n')
        wait_for_log(daemon, "not before a restart: max_records, readers")
        with Wire(daemon.socket_path) as wire:
            wire.send(b'{"t":"nonsense"}')
            wait_for_log(daemon, "malformed")
        hang_up("max_records = no")
        wait_for_log(daemon, "SIGHUP: nothing changes")
        hang_up("[backend]\nreaders = 0\n")
        wait_for_log(daemon, "[backend] readers: Expected `int` >= 1")
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            daemon.process.send_signal(number)
            wait_for_log(daemon, number.name)
        assert daemon.stop() == 0
