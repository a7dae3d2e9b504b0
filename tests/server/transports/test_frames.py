"""Frames that come in are counted, whatever pieces they come in; messages become frames."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from recordd.transports.frames import FrameCounter, cut_frames, join_frames

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
