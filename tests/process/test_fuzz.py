"""Mutated frames of both dialects: no crash, no hang, and nobody else is harmed.

5,000 frames here; `make fuzz` sends 200,000 (RECORDD_FUZZ_FRAMES) and prints what the
canary, a connection that goes on working, had to wait.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess
from tests.golden import FOLDER, read_transcript
from tests.wire import WebSocketWire, Wire

FRAMES = int(os.environ.get("RECORDD_FUZZ_FRAMES", "5000"))
PER_CONNECTION = 500
PONG = b'{"t":"pong"}'
CORPUS = [
    message
    for path in sorted(FOLDER.glob("*.aimx"))
    for exchange in read_transcript(path.name)
    for message in (*exchange.sent, *exchange.expected)
]
PARTS = [b"{", b"}", b"[", b"]", b'"', b"\\", b":", b",", b"null", b"-1", b"1e999", b"\xff", b"\0"]
PARTS += [
    b'"t":',
    b'"id":',
    b"18446744073709551616",
    b"\\u0000",
    b"\\ud800",
    b"[" * 2000,
    b"#",
    b"*",
]


def flip(chance: random.Random, frame: bytes) -> bytes:
    at = chance.randrange(len(frame))
    return frame[:at] + bytes([frame[at] ^ 1 << chance.randrange(8)]) + frame[at + 1 :]


def cut(chance: random.Random, frame: bytes) -> bytes:
    first, last = sorted(chance.choices(range(len(frame) + 1), k=2))
    return frame[:first] + frame[last:]


def insert(chance: random.Random, frame: bytes) -> bytes:
    at = chance.randrange(len(frame) + 1)
    return frame[:at] + chance.choice(PARTS) + frame[at:]


def splice(chance: random.Random, frame: bytes) -> bytes:
    other = chance.choice(CORPUS)
    return frame[: chance.randrange(len(frame) + 1)] + other[chance.randrange(len(other)) :]


def swap_member(chance: random.Random, frame: bytes) -> bytes:
    members = frame.split(b",")
    members[chance.randrange(len(members))] = chance.choice(chance.choice(CORPUS).split(b","))
    return b",".join(members)


Make = Callable[[random.Random], bytes]
MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [flip, cut, insert, splice, swap_member]


def leave(chance: random.Random) -> bytes:
    return chance.choice(CORPUS)


def mutate(chance: random.Random) -> bytes:
    frame = chance.choice(CORPUS)
    for _ in range(chance.randint(1, 3)):
        frame = chance.choice(MUTATIONS)(chance, frame or b"{}")
    return frame.replace(b"\n", b" ")


def send_lines(path: Path, frames: int, seed: int, make: Make) -> None:
    """Send frames over connection after connection; after each there must still be a pong."""
    chance = random.Random(seed)
    for _ in range(frames // PER_CONNECTION):
        with Wire(path, timeout_s=30) as wire:
            lines = [make(chance) for _ in range(PER_CONNECTION)]
            sending = threading.Thread(target=wire.send, args=(*lines, b'{"t":"ping"}'))
            sending.start()
            while (line := wire.receive_raw()) != PONG:
                assert line, "the daemon closed the connection"
            sending.join()


def send_frames(port: int, frames: int, seed: int, make: Make) -> None:
    """The same over WebSocket, where text has to be UTF-8 to get as far as us."""
    chance = random.Random(seed)
    for _ in range(frames // PER_CONNECTION):
        with WebSocketWire(port, timeout_s=30) as wire:
            messages = [make(chance).decode(errors="replace") for _ in range(PER_CONNECTION)]
            data = b"".join(wire.encode(m.encode()) for m in (*messages, '{"t":"ping"}'))
            sending = threading.Thread(target=wire.sock.sendall, args=(data,))
            sending.start()
            while wire.receive_raw() != PONG:
                pass
            sending.join()


class Canary:
    """Asks for one record, again and again, and looks at the clock."""

    def __init__(self, path: Path) -> None:
        self.wire = Wire(path)
        assert "rev" in self.wire.call("record.set", name="canary", value="sings")

    def sing_while(self, goes_on: Callable[[], bool]) -> float:
        """Return the 99th percentile of the waits, in ms."""
        waits = []
        while goes_on():
            started = time.perf_counter()
            assert self.wire.call("record.get", name="canary")["value"] == "sings"
            waits.append(time.perf_counter() - started)
        return sorted(waits)[len(waits) * 99 // 100] * 1000


def sing_beside(canary: Canary, daemon: DaemonProcess, frames: int, make: Make) -> float:
    """Let the canary sing while two processes send frames; both must come to their end."""
    spawn = multiprocessing.get_context("spawn")
    senders = [
        spawn.Process(target=send_lines, args=(daemon.socket_path, frames * 9 // 10, 1, make)),
        spawn.Process(target=send_frames, args=(daemon.port, frames // 10, 2, make)),
    ]
    for sender in senders:
        sender.start()
    p99_ms = canary.sing_while(lambda: any(sender.is_alive() for sender in senders))
    assert [sender.exitcode for sender in senders] == [0, 0]
    return p99_ms


@pytest.mark.timeout(60 + FRAMES // 500)
def test_mutated_frames_harm_nobody(daemon: DaemonProcess) -> None:
    """Two processes send, one over each transport; about 2 s."""
    canary = Canary(daemon.socket_path)
    ends = time.monotonic() + 0.5
    alone = canary.sing_while(lambda: time.monotonic() < ends)
    beside_whole = sing_beside(canary, daemon, FRAMES // 4, leave)
    errors = canary.wire.call("server.stats")["request_errors"]
    beside_mutated = sing_beside(canary, daemon, FRAMES, mutate)
    print(
        f"\n{FRAMES:,} frames; canary p99 {alone:.2f} ms alone, {beside_whole:.2f} ms beside"
        f" whole frames, {beside_mutated:.2f} ms beside mutated ones"
    )
    assert "Traceback" not in daemon.log
    deadline = time.monotonic() + 20
    while (stats := canary.wire.call("server.stats"))["subscriptions"] or stats["topics"]:
        assert time.monotonic() < deadline, stats
    assert stats["request_errors"] > errors + FRAMES // 10
    canary.wire.close()


def test_a_connection_cut_in_a_frame_leaves_nothing(daemon: DaemonProcess) -> None:
    chance = random.Random(3)
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(daemon.socket_path))
            frame = mutate(chance)
            sock.sendall(b'{"t":"sub","id":1,"topic":"#"}\n' + frame[: len(frame) // 2])
    canary = Canary(daemon.socket_path)
    deadline = time.monotonic() + 10
    while (stats := canary.wire.call("server.stats"))["subscriptions"]:
        assert time.monotonic() < deadline, stats
    canary.wire.close()
