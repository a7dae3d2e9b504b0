"""Mending: unreadable parts are replaced, all others stay, byte for byte."""

from __future__ import annotations

import itertools
import time

import msgspec
import pytest

from recordd_protocol.aimx import Aimx
from recordd_protocol.dialect import Dialect, Malformed
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc import JsonRpc
from recordd_protocol.mending import is_flawed, mend

MARK = rb"\uFdD0"
DIALECTS: tuple[Dialect, ...] = (
    Aimx(Framing.LINE, max_reply_bytes=65_536),
    JsonRpc(Framing.LINE, max_reply_bytes=65_536, max_batch_calls=10),
)


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        (rb'"\ud800"', b'"%b"' % MARK),
        (rb'"\uDFFF"', b'"%b"' % MARK),
        (rb'"a\udbffb\udc00c"', b'"a%bb%bc"' % (MARK, MARK)),
        (rb'"\ud800\ud800\udc00"', rb'"%b\ud800\udc00"' % MARK),
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
        (rb'"\\ud800"', rb'"\\ud800"'),
        (rb'"\\\ud800"', rb'"\\%b"' % MARK),
        (rb'"\\ud800\udc00"', rb'"\\ud800%b"' % MARK),
        (rb'"\u0064\ud7ff\ue000"', rb'"\u0064\ud7ff\ue000"'),
        (rb'"\ud8', rb'"\ud8'),
        (b'"\\', b'"\\'),
    ],
)
def test_only_lone_halves_are_replaced(text: bytes, mended: bytes) -> None:
    assert mend(text) == mended
    assert is_flawed(mended) == (text != mended)


@pytest.mark.parametrize("opening", [b"[", b'{"]":', b'[1,"}",'])
@pytest.mark.parametrize("depth", [500, 501, 5000])
def test_a_value_that_nests_too_deep_becomes_a_number(opening: bytes, depth: int) -> None:
    closing = b"]" if opening[:1] == b"[" else b"}"
    text = opening * depth + b"0" + closing * depth
    mended = mend(b'{"a":1,"b":%b,"c":2}' % text)
    parsed = msgspec.json.decode(mended)
    assert (parsed["a"], parsed["c"]) == (1, 2)
    assert len(mended) == len(text) + len(b'{"a":1,"b":,"c":2}')
    assert (mended == b'{"a":1,"b":%b,"c":2}' % text) == (depth < 500)


def test_hostile_text_costs_time_in_proportion_to_its_length() -> None:
    """A mebibyte each; a second is hundreds of times what is needed."""
    for unit in (b"[", b"\\", rb"\ud800", rb"\ud83d\ude00", b'"', rb"\u", rb"\ud", b'["\\"'):
        started = time.thread_time()
        text = unit * ((1 << 20) // len(unit))
        assert len(mend(text)) == len(text)
        assert time.thread_time() - started < 1, unit


PARTS = (b"", b"\xff", rb"\udfff", b"\\", b'"', b"[" * 600)


@pytest.mark.parametrize("tag", [b'"t":"req"', b'"jsonrpc":"2.0"', b'"t":"sub","topic":"a"'])
def test_no_dialect_raises_for_several_flaws_at_once(tag: bytes) -> None:
    for first, second, third in itertools.product(PARTS, repeat=3):
        message = b'{%b%b,"id":1,"method":"hello%b","params":{"a":"%b"}}' % (
            first, tag.replace(b':"', b':"' + second), second, third,
        )  # fmt: skip
        for text in (message, b"[%b,%b]" % (message, message)):
            for dialect in DIALECTS:
                dialect.claims(text)
                for item in dialect.decode(text):
                    assert isinstance(item, bytes | Malformed) or item.method is not None
