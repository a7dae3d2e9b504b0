"""The load generator finds the ends of answers however they are cut, and stops at an error."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from benchmarks.wire import nats, postgres, recordd, redis
from benchmarks.wire.loadgen import (
    Follower,
    Load,
    LoadGenerator,
    NoCompilerError,
    build_generator,
)
from benchmarks.wire.plans import NO_SETUP, Protocol, Request, Setup, write_plan


def make_frame(message: bytes) -> bytes:
    return bytes((0x81, len(message))) + message


EVENT = b'{"method":"record.event"}'
LINE = b'{"jsonrpc":"2.0","id":1,"result":{"value":{"error":{}}}}\n'
ERROR_LINE = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"no"}}\n'
ROW = b"D\x00\x00\x00\x06\x00\x00"
READY = b"Z\x00\x00\x00\x05I"
UPGRADED = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n"
FLAGS = ("-O0", "-Wall", "-Wextra", "-Werror")
OPENING = Setup(b"GET /ws\n", 1)
ASK = Request(b"ask\n")
ANSWERS: dict[str, tuple[Protocol, bytes]] = {
    "a line": ("lines", LINE),
    "a nested array": ("resp", b"*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nv\r\n$2\r\n{}\r\n:1\r\n"),
    "an empty array": ("resp", b"*0\r\n"),
    "an absent value": ("resp", b"$-1\r\n"),
    "a value that looks like an error": ("resp", b"$6\r\n-ERR\r\n\r\n"),
    "an empty value": ("resp", b"$0\r\n\r\n"),
    "rows": ("pg", ROW + ROW + READY),
    "a message of NATS": ("nats", b"INFO {}\r\n+OK\r\nMSG records 1 6\r\nPONG\r\n\r\nPONG\r\n"),
    "a short frame": ("ws", make_frame(b"{}")),
    "a long frame behind a ping": ("ws", b"\x89\x01p" + b"\x81\x7e\x01\x00" + b"x" * 256),
    "a frame in two": ("ws", b"\x01\x01{" + b"\x80\x01}"),
}
ERRORS: dict[str, tuple[Protocol, bytes]] = {
    "a refusal": ("lines", ERROR_LINE),
    "an error in an array": ("resp", b"*2\r\n:1\r\n-ERR no\r\n"),
    "an error of PostgreSQL": ("pg", b"E\x00\x00\x00\x07no\x00" + READY),
    "an error of NATS": ("nats", b"-ERR 'no'\r\n"),
    "a refusal in a frame": ("ws", make_frame(ERROR_LINE[:-1])),
    "a refusal in two frames": (
        "ws",
        b"\x01\x20" + ERROR_LINE[:32] + b"\x80" + bytes([len(ERROR_LINE) - 33]) + ERROR_LINE[32:-1],
    ),
    "a close": ("ws", b"\x88\x02\x03\xe8"),
}


Step = tuple[int, Mapping[int, bytes]]
"""A connection, in the order of accepting, that has to say a line, and what each is sent then."""


class CannedServer:
    """Sends what a script says, cut in pieces."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder / 'canned'}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address.removeprefix("unix:"))
        self._listener.listen()
        self._thread: threading.Thread | None = None

    def serve(self, script: Sequence[Step], piece: int = 1000, *, hangs_up: bool = False) -> None:
        self._thread = threading.Thread(target=self._serve, args=(script, piece, hangs_up))
        self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._listener.close()

    def _serve(self, script: Sequence[Step], piece: int, hangs_up: bool) -> None:
        with contextlib.ExitStack() as stack:
            socks: list[socket.socket] = []
            with contextlib.suppress(OSError):  # it has gone, as it does at an error
                for reader, answers in script:
                    while len(socks) <= reader:
                        socks.append(stack.enter_context(self._listener.accept()[0]))
                    _read_line(socks[reader])
                    for writer, answer in answers.items():
                        for start in range(0, len(answer), piece):
                            socks[writer].send(answer[start : start + piece])
            for sock in socks:
                if hangs_up:
                    sock.shutdown(socket.SHUT_WR)
                while sock.recv(1 << 16):
                    pass


def _read_line(sock: socket.socket) -> None:
    """Read until a line ends; a pong, which has none, may come before."""
    received = b"-"
    while received and not received.endswith(b"\n"):
        received = sock.recv(1 << 16)


def answer_each(*answers: bytes) -> list[Step]:
    return [(0, {0: answer}) for answer in answers]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> LoadGenerator:
    try:
        return build_generator(tmp_path_factory.mktemp("loadgen"), flags=FLAGS)
    except NoCompilerError as error:
        pytest.skip(str(error))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CannedServer]:
    canned = CannedServer(tmp_path)
    yield canned
    canned.close()


def make_load(
    folder: Path, server: CannedServer, protocol: Protocol, requests: Sequence[Request]
) -> Load:
    """Ask one thing after the other; a WebSocket is opened first."""
    setup = OPENING if protocol == "ws" else NO_SETUP
    plan = write_plan(folder / "plan", setup, requests)
    return Load(address=server.address, protocol=protocol, plan=str(plan), is_once=True)


@pytest.mark.parametrize("piece", [1, 3, 1000])
@pytest.mark.parametrize("case", ANSWERS)
def test_answers_are_counted_however_they_are_cut(
    case: str, piece: int, generator: LoadGenerator, server: CannedServer, tmp_path: Path
) -> None:
    protocol, answer = ANSWERS[case]
    opening = [UPGRADED] if protocol == "ws" else []
    request = Request(b"ask\n", 2 if protocol == "nats" else 1)  # a message, and a PONG
    server.serve(answer_each(*opening, answer, answer, answer), piece)
    measured = generator.run(make_load(tmp_path, server, protocol, [request] * 3))
    assert measured.answered == measured.counted == 3
    assert measured.p50_us > 0


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_ends_the_run(
    case: str, generator: LoadGenerator, server: CannedServer, tmp_path: Path
) -> None:
    protocol, answer = ERRORS[case]
    opening = [UPGRADED] if protocol == "ws" else []
    server.serve(answer_each(*opening, answer))
    with pytest.raises(RuntimeError, match=r"error answer|closed the WebSocket"):
        generator.run(make_load(tmp_path, server, protocol, [ASK] * 2))


def test_an_answer_too_many_ends_the_run(
    generator: LoadGenerator, server: CannedServer, tmp_path: Path
) -> None:
    server.serve(answer_each(LINE + LINE))
    with pytest.raises(RuntimeError, match="nobody asked for"):
        generator.run(make_load(tmp_path, server, "lines", [ASK]))


def test_a_server_that_leaves_ends_the_run(
    generator: LoadGenerator, server: CannedServer, tmp_path: Path
) -> None:
    server.serve(answer_each(LINE[:9]), hangs_up=True)
    with pytest.raises(RuntimeError, match="closed the connection"):
        generator.run(make_load(tmp_path, server, "lines", [ASK]))


def test_a_request_that_does_not_count_is_sent_and_not_counted(
    generator: LoadGenerator, server: CannedServer, tmp_path: Path
) -> None:
    server.serve(answer_each(LINE, LINE))
    requests = [Request(b"write\n", counted=False), ASK]
    measured = generator.run(make_load(tmp_path, server, "lines", requests))
    assert (measured.answered, measured.counted) == (2, 1)


def test_before_a_request_that_counts_there_may_be_a_rest(
    generator: LoadGenerator, server: CannedServer, tmp_path: Path
) -> None:
    server.serve(answer_each(LINE, LINE, LINE, LINE))
    requests = [Request(b"write\n", counted=False), ASK] * 2
    load = make_load(tmp_path, server, "lines", requests)
    measured = generator.run(msgspec.structs.replace(load, rest_us=10_000))
    assert measured.counted == 2
    assert measured.seconds >= 0.02


def test_a_request_is_answered_when_all_its_answers_have_come(
    generator: LoadGenerator, server: CannedServer, tmp_path: Path
) -> None:
    write = redis.write("key", ("name", 1, b"{}"))
    both = b"$3\r\n1-0\r\n:1\r\n"
    server.serve(answer_each(both, both), 1)
    assert generator.run(make_load(tmp_path, server, "resp", [write] * 2)).answered == 2


@pytest.mark.parametrize(
    "frames",
    [make_frame(EVENT) * 2, make_frame(b"[%b,%b]" % (EVENT, EVENT))],
    ids=["an event a frame", "an array of events"],
)
def test_a_burst_is_done_when_every_subscriber_has_all_of_it(
    frames: bytes, generator: LoadGenerator, server: CannedServer, tmp_path: Path
) -> None:
    """The writer's connection is the first; its answer comes before most of the events."""
    plan = write_plan(tmp_path / "plan", NO_SETUP, [ASK] * 2)
    subscribe = write_plan(tmp_path / "subscribe", OPENING, [])
    opening: list[Step] = [(1, {1: UPGRADED}), (2, {2: UPGRADED})]
    server.serve([*opening, (0, {0: LINE * 2, 1: frames, 2: frames})], 7)
    load = Load(
        address=server.address,
        protocol="lines",
        plan=str(plan),
        in_flight=2,
        followers=Follower(2, server.address, "ws", str(subscribe)),
    )
    measured = generator.run(load, seconds=1e-6, warm_up_s=0)
    assert (measured.answered, measured.counted) == (2, 4)


def test_bytes_that_came_can_be_shown(
    generator: LoadGenerator, server: CannedServer, tmp_path: Path
) -> None:
    server.serve(answer_each(LINE), 5)
    assert generator.show(make_load(tmp_path, server, "lines", [ASK])) == LINE


def test_without_a_compiler_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoCompilerError, match="no compiler"):
        build_generator(tmp_path, compilers=["no-such-compiler"])


def test_requests_of_every_protocol_are_what_their_servers_read() -> None:
    assert redis.hgetall("many").line == b"*2\r\n$7\r\nHGETALL\r\n$11\r\nlatest:many\r\n"
    assert nats.publish(b"{}").line == b"PUB records 2\r\n{}\r\nPING\r\n"
    frame = recordd.encode_frame(recordd.get("a")).line
    assert frame[:2] == bytes((0x81, 0x80 | (len(frame) - 6)))
    for length, head in (
        (126, b"\x81\xfe\x00\x7e"),
        (65_536, b"\x81\xff" + bytes(5) + b"\x01\0\0"),
    ):
        frame = recordd.encode_frame(Request(b"x" * length + b"\n")).line
        assert frame == head + bytes(4) + b"x" * length
    execute = postgres.execute("get", "a").line
    assert execute.startswith(b"B\x00\x00\x00\x14\x00get\x00\x00\x00\x00\x01\x00\x00\x00\x01a")
    assert execute.endswith(b"E\x00\x00\x00\x09\x00\x00\x00\x00\x00S\x00\x00\x00\x04")
