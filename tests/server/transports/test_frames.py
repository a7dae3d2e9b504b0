"""Frames that come in are counted, whatever pieces they come in; messages become frames."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from recordd.transports.frames import FrameCounter, cut_frames, join_frames, unmask

TEXT, CONTINUED, PING = 1, 0, 9


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A masked frame, RFC 6455 §5.2; the mask is zeros."""
    if len(payload) < 126:
        length = bytes([0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        length = bytes([0xFE]) + len(payload).to_bytes(2, "big")
    else:
        length = bytes([0xFF]) + len(payload).to_bytes(8, "big")
    return bytes([0x80 * final | opcode]) + length + bytes(4) + payload


def hand_on(counter: FrameCounter, data: bytes) -> list[bytes]:
    pieces = []
    while data and not counter.is_over:
        end = counter.cut(data)
        pieces.append(data[:end])
        data = data[end:]
    return pieces


@given(st.lists(st.sampled_from([0, 1, 125, 126, 200, 70_000]), max_size=5), st.integers(1, 50))
def test_all_bytes_are_handed_on_in_order_however_they_come(sizes: list[int], piece: int) -> None:
    data = b"".join(frame(TEXT, b"x" * size) for size in sizes)
    counter = FrameCounter(max_fragments=1)
    head = data[: 40 * piece]
    received = [head[n : n + piece] for n in range(0, len(head), piece)] + [data[40 * piece :]]
    assert b"".join(part for part in received for part in hand_on(counter, part)) == data
    assert not counter.is_over


def test_many_frames_are_handed_on_a_few_at_a_time() -> None:
    pieces = hand_on(FrameCounter(max_fragments=1), frame(PING, b"") * 1000)
    assert len(pieces) == 16
    assert max(map(len, pieces)) == 64 * len(frame(PING, b""))


def test_a_message_may_have_so_many_fragments_and_no_more() -> None:
    begin = frame(TEXT, b"", final=False)
    more, end = frame(CONTINUED, b"x", final=False), frame(CONTINUED, b"")
    counter = FrameCounter(max_fragments=4)
    hand_on(counter, (begin + more + frame(PING, b"") + more + end) * 3)
    assert not counter.is_over
    hand_on(counter, begin + more * 3 + end)
    assert counter.is_over


PIECES = st.sampled_from(
    [
        frame(TEXT, b""),
        frame(TEXT, b"x" * 125),
        frame(TEXT, "\N{SNOWMAN}".encode() * 42),
        frame(TEXT, b"a", final=False) + frame(PING, b"p") + frame(CONTINUED, b"b"),
        frame(PING, b"x" * 20),
    ]
)


@settings(max_examples=50)
@given(st.lists(PIECES, max_size=6), st.lists(st.integers(0, 900), max_size=4))
def test_messages_are_taken_out_or_handed_on_in_order(frames: list[bytes], cuts: list[int]) -> None:
    data = b"".join(frames)
    counter, library = FrameCounter(max_fragments=9), FrameProtocol(client=False, extensions=[])
    order: list[str | None] = []
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    for start, end in zip([0, *ends], ends, strict=False):
        piece = data[start:end]
        while piece:
            messages, taken = counter.take(piece)
            order += [message.decode() for message in messages]
            piece = piece[taken:]
            handed = counter.cut(piece)
            library.receive_bytes(piece[:handed])
            order += [None] * counter.count_messages()
            piece = piece[handed:]
    told = iter(_messages_of(library))
    assert [message if message is not None else next(told) for message in order] == _messages_of(
        _receive_all(data)
    )
    assert next(told, None) is None


def _receive_all(data: bytes) -> FrameProtocol:
    library = FrameProtocol(client=False, extensions=[])
    library.receive_bytes(data)
    return library


def _messages_of(library: FrameProtocol) -> list[str]:
    messages = [""]
    for found in library.received_frames():
        if found.opcode is Opcode.TEXT:
            messages[-1] += str(found.payload)
            messages += [""] * found.message_finished
    return messages[:-1]


@settings(max_examples=30)
@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_a_payload_is_unmasked(payload: bytes, mask: bytes) -> None:
    assert unmask(payload, mask) == bytes(b ^ mask[n % 4] for n, b in enumerate(payload))


def test_at_every_byte_a_burst_is_taken_out_of_its_frames() -> None:
    data = frame(TEXT, b"first") + frame(TEXT, b"x" * 200) + frame(TEXT, b"last")
    for end in range(len(data)):
        counter = FrameCounter(max_fragments=1)
        messages, taken = counter.take(data[:end])
        assert taken == sum(len(frame(TEXT, message)) for message in messages) <= end
        whole = [b"first", b"x" * 200, b"last"]
        assert messages == whole[: len(messages)]
        rest = data[taken:end]
        assert counter.cut(rest) == len(rest)
        left, _ = counter.take(data[end:])
        assert left == [] if rest else left == whole[len(messages) :]


def test_behind_a_close_frame_nothing_is_taken() -> None:
    counter = FrameCounter(max_fragments=1)
    data = frame(TEXT, b"a") + frame(8, b"") + frame(TEXT, b"b")
    assert counter.take(data) == ([b"a"], 7)
    assert not counter.is_ping(data[7:])
    assert counter.is_ping(frame(PING, b"p"))
    assert counter.cut(data[7:]) == len(data) - 7
    assert counter.take(frame(TEXT, b"c")) == ([], 0)
    assert not counter.is_ping(frame(PING, b"p"))


SIZES = st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 70_000])


@given(st.lists(SIZES, max_size=5), st.integers(0, 9))
def test_a_peer_reads_every_message_out_of_its_frame(sizes: list[int], digit: int) -> None:
    messages = [b"%d" % digit * size for size in sizes]
    peer = FrameProtocol(client=True, extensions=[])
    peer.receive_bytes(join_frames(messages))
    found = list(peer.received_frames())
    assert [str(frame.payload).encode() for frame in found] == messages
    assert all(frame.opcode is Opcode.TEXT and frame.message_finished for frame in found)


@given(st.lists(SIZES, max_size=4), st.floats(0, 1))
def test_what_is_left_is_the_rest_of_one_frame_and_whole_messages(
    sizes: list[int], share: float
) -> None:
    messages = [b"x" * size for size in sizes]
    data = join_frames(messages)
    sent = int(len(data) * share)
    rest, left = cut_frames(messages, sent)
    assert data[:sent] + rest + join_frames(left) == data
    begun = messages[len(messages) - len(left) - 1 :][:1] if rest else []
    assert len(rest) < len(join_frames(begun)) or not rest
