"""Messages that never pass the library: answered as if they had, whatever they come with."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any, Final, NamedTuple

import pytest
import trio
import trio.testing
from wsproto.frame_protocol import FrameProtocol, Opcode

from recordd.core import Core
from recordd.http.port import serve_port
from recordd.http.routes import ROUTES
from recordd.transports import frames
from recordd.transports.frames import FrameCounter
from tests.core_in_memory import CoreInMemory, configure, running_core
from tests.server.transports.test_websocket import UPGRADE
from tests.wire import request

LIMIT: Final = 70_000
CLOSE: Final = (8, b"\x03\xe8")


class Told(NamedTuple):
    """What a peer is told: messages, pongs, and the code at the end."""

    messages: list[str]
    pongs: list[bytes]
    code: int | None


def frame(
    opcode: int, payload: bytes, *, first: int = 0x80, mask: bytes = b"\1\2\3\4", wide: int = 0
) -> bytes:
    """A masked frame, RFC 6455 §5.2, or a wrong one: with a length of `wide` bytes, unmasked."""
    size, masked = len(payload), 0x80 if mask else 0
    if not wide:
        wide = 1 if size < 126 else 2 if size < 1 << 16 else 8
    length = {
        1: lambda: bytes([masked | size]),
        2: lambda: bytes([masked | 126]) + size.to_bytes(2, "big"),
        8: lambda: bytes([masked | 127]) + size.to_bytes(8, "big"),
    }[wide]()
    hidden = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload)) if mask else payload
    return bytes([first | opcode]) + length + mask + hidden


def ask(number: int, size: int = 0) -> bytes:
    """A request; with spaces it has `size` bytes."""
    return request("record.get", number, name="none").ljust(size)


async def play(core: Core, pieces: list[bytes]) -> Told:
    """Send frames piece by piece, then a close frame; return what came until the end."""
    near, far = (trio.SocketStream(sock) for sock in trio.socket.socketpair())
    received = bytearray()

    async def serve() -> None:
        async with far:
            await serve_port(far, core, ROUTES)

    async def receive() -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # closed with something left unread
            while data := await near.receive_some():
                received.extend(data)

    async def send() -> None:
        for piece in pieces:
            await near.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        await near.send_all(frame(*CLOSE))

    async with near, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await near.send_all(UPGRADE)
        with trio.fail_after(5):
            while not received.endswith(b"\r\n\r\n"):
                received += await near.receive_some()
            received.clear()
            async with trio.open_nursery() as sending:
                sending.start_soon(receive)
                with contextlib.suppress(trio.BrokenResourceError):  # closed before it was all out
                    await send()
        nursery.cancel_scope.cancel()
    return read(bytes(received))


def read(data: bytes) -> Told:
    peer = FrameProtocol(client=True, extensions=[])
    peer.receive_bytes(data)
    told = Told([], [], None)
    for found in peer.received_frames():
        if found.opcode is Opcode.TEXT:
            told.messages.append(str(found.payload))
        elif found.opcode is Opcode.PONG:
            assert isinstance(found.payload, bytes)
            told.pongs.append(found.payload)
        elif found.opcode is Opcode.CLOSE:
            told = told._replace(code=int(found.payload[0]))
    return told


async def compare(core: Core, pieces: list[bytes]) -> Told:
    """Return what is told with and without the library, which is the same."""
    ours = await play(core, pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrameCounter, "take", lambda self, data: ([], 0))
        theirs = await play(core, pieces)
    # By way of the library an answer may come too late, if what is asked behind closes.
    told = len(ours.messages) if ours.code == 1000 else len(theirs.messages)
    assert theirs == ours._replace(messages=ours.messages[:told])
    return ours


@pytest.fixture
async def core() -> Any:
    """A core with a limit that one frame can be above."""
    async with running_core(configuration=configure(max_message_bytes=LIMIT)) as core:
        yield core


UTF8: Final = b'{"jsonrpc":"2.0","id":1,"method":"record.get","params":{"name":"\xc3\xa4"}}'
FAULTS: Final = {
    "not utf-8": (frame(1, b'"\xff"'), 1007),
    "half a character": (frame(1, UTF8[:-4]), 1007),
    "a surrogate": (frame(1, b'"\xed\xa0\x80"'), 1007),
    "not masked": (frame(1, ask(1), mask=b""), 1002),
    "a reserved bit": (frame(1, ask(1), first=0xC0), 1002),
    "a long length": (frame(1, b"{}", wide=2), 1002),
    "a very long length": (frame(1, ask(1, 200), wide=8), 1002),
    "too long": (frame(1, ask(1, LIMIT + 1)), 1009),
    "far too long": (frame(1, ask(1, 2 * LIMIT)), 1009),
    "a message in a message": (frame(1, b"{", first=0) + frame(1, ask(1)), 1002),
    "the rest of none": (frame(0, b"}"), 1002),
    "bytes": (frame(2, ask(1)), 1003),
    "an unknown opcode": (frame(3, b""), 1002),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_is_wrong_closes_with_its_code_and_what_came_before_counts(
    core: CoreInMemory, fault: str
) -> None:
    data, code = FAULTS[fault]
    messages = b"".join(frame(1, ask(n)) for n in range(3))
    told = await compare(core.core, [messages, data + frame(1, ask(9))])
    assert told.code == code
    assert len(told.messages) == 3 + (fault == "too long")


SIZES: Final = (0, 124, 125, 126, 127, 65_534, 65_535, 65_536, LIMIT)


@pytest.mark.parametrize("size", SIZES)
async def test_a_message_of_any_size_is_read(core: CoreInMemory, size: int) -> None:
    told = await compare(core.core, [frame(1, ask(1, size) if size else b"")])
    assert (len(told.messages), told.code) == (1, 1000)
    assert "parse_error" in told.messages[0] or "not_found" in told.messages[0]


async def test_a_burst_may_be_split_anywhere(core: CoreInMemory) -> None:
    data = (
        frame(1, ask(1))
        + frame(9, b"p")
        + frame(1, b"{", first=0)
        + frame(9, b"q")
        + frame(0, ask(2)[1:])
        + frame(1, UTF8)
        + frame(1, ask(4, 200))
    )
    whole = await compare(core.core, [data])
    assert [json.loads(message)["id"] for message in whole.messages] == [1, 2, 1, 4]
    assert (whole.pongs, whole.code) == ([b"p", b"q"], 1000)
    for end in range(1, len(data), 23):  # at every byte: `test_frames`
        assert await play(core.core, [data[:end], data[end:]]) == whole


def draw_frames(chance: random.Random, number: int) -> bytes:
    """A few frames of one message, or a control frame, with whatever mask."""
    mask = chance.randbytes(4)
    kind = chance.choice(["plain"] * 6 + ["ping", "pong", "parts", "large", "odd"])
    message = ask(number, chance.choice([0, 0, 125, 126, 300]))
    if kind == "parts":
        cut = chance.randrange(len(message))
        ping = frame(9, b"%d" % number) if chance.random() < 0.5 else b""
        rest = frame(0, message[cut:], mask=mask)
        return frame(1, message[:cut], first=0, mask=mask) + ping + rest
    return {
        "plain": lambda: frame(1, message, mask=mask),
        "ping": lambda: frame(9, b"%d" % number, mask=mask),
        "pong": lambda: frame(10, b"%d" % number, mask=mask),
        "large": lambda: frame(1, ask(number, 66_000), mask=bytes(4)),
        "odd": lambda: frame(1, chance.choice([b"", b"[", "ä".encode(), b'{"t":"ping"}'])),
    }[kind]()


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_comes_is_told_the_same_in_the_same_order(
    core: CoreInMemory, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(frames, "_MESSAGES_AT_ONCE", chance.choice([1, 2, 1024]))
    drawn = [draw_frames(chance, number) for number in range(12)]
    if chance.random() < 0.4:
        drawn.insert(chance.randrange(12), FAULTS[chance.choice(sorted(FAULTS))][0])
    data = b"".join(drawn)
    cuts = sorted(chance.choices(range(len(data)), k=chance.randrange(4)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]
    await compare(core.core, pieces)


async def test_what_was_asked_before_a_close_is_answered(core: CoreInMemory) -> None:
    for _ in range(8):  # tasks run in an order of chance
        burst = b"".join(frame(1, ask(n)) for n in range(5)) + frame(*CLOSE)
        told = await play(core.core, [burst + frame(1, ask(6))])
        assert (len(told.messages), told.code) == (5, 1000)
