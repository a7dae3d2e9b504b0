"""AimX as bytes: messages claimed, calls read, answers written."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd_protocol import methods
from recordd_protocol.aimx import Aimx
from recordd_protocol.aimx_replies import encode_refusal
from recordd_protocol.dialect import Malformed
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.framing import Framing, LineBuffer
from recordd_protocol.rows import Page, Row
from tests.golden import FOLDER, read_transcript

DIALECT = Aimx(Framing.LINE, max_reply_bytes=1000)
ROWS = [Row("wien-süd", b'{"a":1}', 5, 7), Row("b", b"null", 6, None)]


def decode(message: bytes) -> Any:
    (found,) = DIALECT.decode(message)
    return found


def describe(message: bytes) -> list[Any]:
    """Return the calls in a message in a form that can be compared."""
    found: list[Any] = []
    for item in DIALECT.decode(message):
        if isinstance(item, bytes | Malformed):
            found.append(item)
        else:
            assert isinstance(item.params, msgspec.Struct | RequestError)
            found.append((item.method, item.params, item.wants_answer, item.subscription_id))
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.aimx")), ids=lambda path: path.stem)
def test_transcripts_mean_the_same_wherever_their_bytes_are_cut(path: Any) -> None:
    data = b"".join(m + b"\n" for e in read_transcript(path.name) for m in e.sent)
    whole = [describe(line) for line in LineBuffer(1 << 20).feed(data)]
    assert len(whole) == data.count(b"\n")
    for cut in range(1, len(data)):
        buffer = LineBuffer(1 << 20)
        lines = buffer.feed(data[:cut]) + buffer.feed(data[cut:])
        if cut % 10 == 0 or data[cut - 1 : cut + 1].count(b"\n"):
            assert [describe(line) for line in lines] == whole
        else:
            assert b"\n".join(lines) == data.rstrip(b"\n")


@pytest.mark.parametrize(
    ("message", "is_aimx"),
    [
        (b'{"t":"ping"}', True),
        (b' {"id":1, "t":"req"}', True),
        (b'{"t":5}', True),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"t":1}}', False),
        (b'{"id":1,"jsonrpc":"2.0","method":"m","t":"x"}', False),
        (b'{"t":1,"jsonrpc":"2.0","method":"m"}', False),
        (b'{"t":"req","id":1,"params":"\\ud800","jsonrpc":"2.0"}', False),
        (b'{"id":1,"params":"\\ud800","t":"req"}', True),
        (b'{"id":1,"params":%b,"t":"req"}' % (b"[" * 2000 + b"]" * 2000), True),
        (b'{"t":"req","params":{"jsonrpc":"2.0"}}', True),
        (b'{"t":"req","params":"\\"jsonrpc\\""}', True),
        (b'{"id":1,"method":"\\"t\\""}', False),
        (b'[{"t":"ping"}]', False),
        (b'"t"', False),
        (b"nonsense", False),
    ],
)
def test_a_message_tells_its_dialect_itself(message: bytes, is_aimx: bool) -> None:
    assert DIALECT.claims(message) is is_aimx


def test_a_write_is_unwrapped_over_lines_and_taken_whole_in_frames() -> None:
    message = b'{"t":"write","topic":"a","payload":{"value":[1]}}'
    frames = Aimx(Framing.FRAME, max_reply_bytes=1000)
    for dialect, value in ((DIALECT, b"[1]"), (frames, b'{"value":[1]}')):
        (call,) = dialect.decode(message)
        assert not isinstance(call, bytes | Malformed)
        assert isinstance(call.params, methods.Set)
        assert bytes(call.params.value) == value


DEEP = b"[" * 2000 + b"]" * 2000


@pytest.mark.parametrize("value", [rb'"\ud800"', rb'{"\udc00":1}', DEEP, b"[" * 900 + b"]" * 900])
@pytest.mark.parametrize(
    ("frame", "id"),
    [
        (b'{"t":"req","id":7,"method":"record.drain","params":{"name":"a","limit":%b}}', 7),
        (b'{"id":8,"params":%b,"method":"record.drain","t":"req"}', 8),
        (b'{"t":"sub","id":9,"topic":"a","payload":%b}', 9),
        (b'{"t":"req","id":7,"method":"record.nothing","params":[%b]}', 7),
    ],
)
def test_a_frame_whose_id_can_be_read_has_an_answer(frame: bytes, id: int, value: bytes) -> None:
    found = decode(frame % value)
    assert not isinstance(found, bytes)
    if isinstance(found, Malformed):
        reply = found.reply
    elif isinstance(found.params, RequestError):
        reply = found.refuse(found.params)
    else:
        return  # 900 levels, which the parameters of this method never look at
    assert reply is not None
    assert json.loads(reply)["id"] == id


def test_a_get_without_a_name_finds_nothing() -> None:
    for params in (b"{}", b"null", b'{"name":7}', b"[]"):
        refused = decode(b'{"t":"req","id":1,"method":"record.get","params":%b}' % params)
        assert json.loads(refused.reply)["err"] == "not_found"


def test_a_null_is_never_an_ok() -> None:
    reply = decode(b'{"t":"req","id":1,"method":"record.get","params":{"name":"b"}}').answer(
        ROWS[1]
    )
    assert reply.startswith(b'{"t":"reply","id":1,"err":"internal","msg":')


def test_an_answer_over_the_limit_becomes_a_refusal() -> None:
    call = decode(b'{"t":"req","id":1,"method":"graph.topo_order"}')
    assert json.loads(call.answer(["x" * 1000]))["err"] == "internal"
    assert len(call.answer(["x" * 1000])) < 500


def test_an_answer_says_that_rows_are_left_out() -> None:
    call = decode(b'{"t":"req","id":1,"method":"record.query"}')
    assert (
        call.answer(Page(ROWS, rev=9, epoch="e", total=7))
        == (
            '{"t":"reply","id":1,"ok":{"records":[{"topic":"wien-süd","payload":{"a":1},"ts":5},'
            '{"topic":"b","payload":null,"ts":6}],"total":7,"truncated":true}}'
        ).encode()
    )


@pytest.mark.parametrize("reason", Reason)
def test_a_refusal_has_one_of_aimdbs_words_and_says_more_beside_it(reason: Reason) -> None:
    reply = encode_refusal(3, RequestError(reason, 'wie"so\n?'))
    assert reply.startswith(b'{"t":"reply","id":3,"err":"%b","msg":"' % reason.aimx.encode())
    assert json.loads(reply)["msg"] == 'wie"so\n?'


@given(st.text(max_size=400))
def test_a_refusal_of_any_text_is_short_and_one_line(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    reply = encode_refusal(3, RequestError(Reason.INTERNAL, text))
    assert len(reply) < 1000
    assert b"\n" not in reply
    json.loads(reply)


@given(st.binary(max_size=60))
def test_no_message_raises(noise: bytes) -> None:
    for message in (noise, b'{"t":' + noise, b'{"t":"req","id":1,"params":' + noise + b"}"):
        for item in DIALECT.decode(message):
            assert isinstance(item, bytes | Malformed) or item.method
