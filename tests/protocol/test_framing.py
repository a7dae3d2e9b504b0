"""Lines out of a byte stream, whatever the chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd_protocol.framing import LineBuffer


@given(
    st.lists(st.binary(max_size=8).filter(lambda b: b"\n" not in b)), st.lists(st.integers(0, 60))
)
def test_lines_come_out_the_same_wherever_the_stream_is_cut(
    lines: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    buffer = LineBuffer(100)
    out = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(stream)], strict=True):
        out += buffer.feed(stream[start:end])
    expected = [line.removesuffix(b"\r") for line in lines]
    assert out == [line for line in expected if line]
    assert not buffer.overflowed


def test_every_single_cut_of_a_transcript_gives_the_same_lines() -> None:
    stream = b'{"a":1}\r\n\n{"b":"\xc3\xbc"}\n\r\n[1,2]\n'
    for cut in range(len(stream) + 1):
        buffer = LineBuffer(100)
        lines = buffer.feed(stream[:cut]) + buffer.feed(stream[cut:])
        assert lines == [b'{"a":1}', b'{"b":"\xc3\xbc"}', b"[1,2]"]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b""])
def test_the_limit_is_the_line_without_its_end(line_end: bytes) -> None:
    fits = LineBuffer(10)
    fits.feed(b"x" * 10 + line_end)
    assert not fits.overflowed
    over = LineBuffer(10)
    over.feed(b"x" * 11 + line_end)
    assert over.overflowed


def test_lines_before_one_that_is_too_long_are_returned() -> None:
    buffer = LineBuffer(10)
    assert buffer.feed(b"one\ntwo\n" + b"x" * 11 + b"\nthree\n") == [b"one", b"two"]
    assert buffer.overflowed
    assert buffer.feed(b"four\n") == []


def test_a_long_line_in_small_chunks_stops_at_the_limit() -> None:
    buffer = LineBuffer(1000)
    for _ in range(5000):
        buffer.feed(b"x")
    assert buffer.overflowed
