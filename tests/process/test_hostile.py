"""Bad input gets an answer or a close, and a second connection notices nothing."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess
from tests.wire import Wire, request

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(b"x" * 16) + b"\r\n"
)


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    """One daemon for all: whatever came before, it must go on."""
    with tempfile.TemporaryDirectory(prefix="recordd-") as folder:
        daemon = DaemonProcess(Path(folder)).start()
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
def witness(daemon: DaemonProcess) -> Iterator[Callable[[], None]]:
    """A second connection: call it to see that it still works."""
    with Wire(daemon.socket_path) as wire:

        def check() -> None:
            assert wire.call("record.set", name="witness", value=1)["rev"] > 0
            assert wire.call("record.get", name="witness")["value"] == 1

        check()
        yield check
        check()
        assert "Traceback" not in daemon.log


def reason_of(answer: dict[str, dict[str, dict[str, str]]]) -> str:
    return answer["error"]["data"]["reason"]


def tcp(daemon: DaemonProcess, data: bytes) -> bytes:
    """Send bytes to the WebSocket's port; return all that comes back until it closes."""
    with socket.create_connection(("127.0.0.1", daemon.port), 10) as sock:
        sock.sendall(data)
        return read_to_end(sock)


def read_to_end(sock: socket.socket) -> bytes:
    received = b""
    try:
        while more := sock.recv(65_536):
            received += more
    except ConnectionResetError:
        pass
    return received


def frame(opcode: int, payload: bytes) -> bytes:
    """A masked WebSocket frame, RFC 6455 §5.2."""
    mask = os.urandom(4)
    if len(payload) < 126:
        length = bytes([0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        length = bytes([0xFE]) + len(payload).to_bytes(2, "big")
    else:
        length = bytes([0xFF]) + len(payload).to_bytes(8, "big")
    masked = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
    return bytes([0x80 | opcode]) + length + mask + masked


TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
GOODBYE = frame(CLOSE, (1000).to_bytes(2, "big"))


def websocket(daemon: DaemonProcess, *frames: bytes, until: bytes = b"\x88") -> bytes:
    """Open a WebSocket, send frames, wait for `until`, say goodbye; return what came."""
    with socket.create_connection(("127.0.0.1", daemon.port), 10) as sock:
        shake_hands(sock)
        with contextlib.suppress(ConnectionError):  # closed in the middle of what it refuses
            sock.sendall(b"".join(frames))
        answer = b""
        while until not in answer and (more := sock.recv(65_536)):
            answer += more
        with contextlib.suppress(ConnectionError):
            sock.sendall(GOODBYE)
        return answer + read_to_end(sock)


def shake_hands(sock: socket.socket, header: bytes = b"") -> None:
    sock.sendall(UPGRADE + header + b"\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101")


def test_a_mebibyte_and_a_byte_without_a_newline(
    daemon: DaemonProcess, witness: Callable[[], None]
) -> None:
    with Wire(daemon.socket_path) as wire:
        wire.sock.sendall(b"x" * ((1 << 20) + 1))
        assert reason_of(wire.receive()) == "too_large"
        assert wire.receive() is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"record.get","params":{"name":"\xff\xfe"}}', "parse_error"),
        (b"\x00\x01\x02", "parse_error"),
        (b"[" * 100_000 + b"]" * 100_000, "parse_error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"record.set","params":{"name":"a","value":'
         + b"[" * 100_000 + b"]" * 100_000 + b"}}", "parse_error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"record.set","params":{"name":"a","value":'
         + b"[" * 500 + b"]" * 500 + b"}}", "invalid_params"),
        (request("record.set", 1, name="a\x07", value=1), "invalid_params"),
        (b'{"jsonrpc":"2.0","id":1,"method":"record.set","params":{"name":"a","value":1e400}}',
         "invalid_params"),
        (b"[" + b"1," * 200_000 + b"1]", "too_large"),
        (b"GET / HTTP/1.1", "parse_error"),
    ],
    ids=["utf-8", "controls", "deep", "deep value", "depth limit", "name", "number", "batch", "http"],
)  # fmt: skip
def test_a_bad_line_is_answered_and_the_next_one_served(
    daemon: DaemonProcess, witness: Callable[[], None], line: bytes, reason: str
) -> None:
    with Wire(daemon.socket_path) as wire:
        wire.send(line)
        assert reason_of(wire.receive()) == reason
        assert wire.call("hello", client="t")["server"] == "recordd"


def test_half_a_line_then_gone(daemon: DaemonProcess, witness: Callable[[], None]) -> None:
    for _ in range(20):
        wire = Wire(daemon.socket_path)
        wire.sock.sendall(request("record.set", 1, name="half", value=1)[:-5])
        wire.close()
        witness()
    with Wire(daemon.socket_path) as wire:
        assert reason_of(wire.call("record.get", name="half")) == "not_found"


def test_a_raw_line_break_through_websocket_breaks_no_line(
    daemon: DaemonProcess, witness: Callable[[], None]
) -> None:
    message = (
        b'{"jsonrpc":"2.0",\r\n"id":1,"method":"record.set",'
        b'"params":{"name":"broken","value":{"a":\n[1,\r\n2]}}}'
    )
    assert b'"rev":' in websocket(daemon, frame(TEXT, message), until=b'"rev":')
    with Wire(daemon.socket_path) as wire:
        wire.send(
            request("record.get", 1, name="broken"),
            request("record.query", 2, limit=None, name="broken"),
        )
        assert wire.receive()["result"]["value"] == {"a": [1, 2]}
        assert wire.receive()["result"]["records"][0]["value"] == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /ws HTTP/1.1\r\nHost: \xff\r\n\r\n", b"400"),
        (UPGRADE.replace(b"localhost", b"\xff") + b"\r\n", b"400"),
        (UPGRADE + b"X: \xff\r\n\r\n", b"400"),
        (UPGRADE.replace(b"localhost", b"evil.example") + b"\r\n", b"421"),
        (UPGRADE + b"Origin: http://evil.example\r\n\r\n", b"403"),
        (UPGRADE + b"Origin: http://[\r\n\r\n", b"403"),
        (UPGRADE + b"Origin: http://a\r\nOrigin: http://localhost\r\n\r\n", b"400"),
        (UPGRADE + b"X: " + b"y" * 20_000 + b"\r\n\r\n", b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n", b"426"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"400"),
    ],
)
def test_a_bad_head_is_answered(
    daemon: DaemonProcess, witness: Callable[[], None], head: bytes, status: bytes
) -> None:
    assert tcp(daemon, head).split(b" ")[1] == status


def test_the_same_origin_and_localhost_may_connect(daemon: DaemonProcess) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), 10) as sock:
        shake_hands(sock, b"Origin: http://localhost\r\n")


@pytest.mark.parametrize(
    ("frames", "close_code"),
    [
        ((frame(BINARY, b"{}"),), 1003),
        ((frame(BINARY, b"{}"), frame(PING, b"x"), frame(PING, b"y")), 1003),
        ((frame(TEXT, "ü".encode() * (1 << 19) + b"x"),), 1009),
        ((frame(TEXT, b"x" * (2 << 20)),), 1009),
        ((frame(TEXT, b"\xff\xfe"),), 1007),
        ((b"\x81\x01x",), 1002),
    ],
    ids=["binary", "binary, pings", "just over the limit", "far over it", "no UTF-8", "unmasked"],
)
def test_a_frame_that_cannot_be_served_closes_with_its_code(
    daemon: DaemonProcess, witness: Callable[[], None], frames: tuple[bytes, ...], close_code: int
) -> None:
    assert b"\x88" in (answer := websocket(daemon, *frames))
    assert close_code.to_bytes(2, "big") in answer


@pytest.mark.parametrize(
    "data",
    [b"\x81\x01x", b"\xff\xff\xff\xff", frame(TEXT, b"\xff\xfe"), frame(3, b"x"), frame(PING, b"x") * 50, b"\x81"],
    ids=["unmasked", "reserved bits", "utf-8", "opcode", "pings then gone", "half a frame"],
)  # fmt: skip
def test_a_broken_websocket_harms_nobody(
    daemon: DaemonProcess, witness: Callable[[], None], data: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), 10) as sock:
        shake_hands(sock)
        sock.sendall(data)
    witness()


def test_connections_that_say_nothing_or_leave_at_once(
    daemon: DaemonProcess, witness: Callable[[], None]
) -> None:
    for _ in range(50):
        socket.create_connection(("127.0.0.1", daemon.port), 10).close()
        Wire(daemon.socket_path).close()
    silent = [socket.create_connection(("127.0.0.1", daemon.port), 10) for _ in range(20)]
    witness()
    for sock in silent:
        sock.close()
