"""JSON-RPC 2.0: the examples of the specification (§7), and the choices that it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from recordd_protocol import jsonrpc
from recordd_protocol.dialect import ENVELOPE_BYTES, Malformed
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.framing import Framing
from recordd_protocol.integers import MAX_INTEGER
from recordd_protocol.jsonrpc import JsonRpc
from recordd_protocol.rows import Page, Row, join_rows

METHODS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "subtract": lambda p: p["minuend"] - p["subtrahend"],
    "get_data": lambda p: ["hello", 5],
    "update": lambda p: None,
    "foobar_known": lambda p: None,
}


def converse(message: str | bytes, **limits: int) -> Any:
    """Answer a message as a server of METHODS would; None where there is no answer."""
    dialect = JsonRpc(Framing.LINE, max_reply_bytes=1 << 20, max_batch_calls=100, **limits)
    replies = []
    for call in dialect.decode(message.encode() if isinstance(message, str) else message):
        if isinstance(call, Malformed):
            reply = call.reply
        elif isinstance(call.params, RequestError):
            reply = call.refuse(call.params)
        elif call.method in METHODS:
            assert isinstance(call.params, bytes)
            reply = call.answer(METHODS[call.method](json.loads(call.params)))
        else:
            reply = call.refuse(RequestError(Reason.METHOD_NOT_FOUND, "no such method"))
        if reply is not None:
            replies.append(reply)
    assert len(replies) <= 1, "one message, at most one answer"
    return json.loads(replies[0]) if replies else None


def error(code: int, id: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "error": code}


def without_text(answer: Any) -> Any:
    """Leave an error's code and drop its text, which is ours to choose."""
    if isinstance(answer, list):
        return [without_text(item) for item in answer]
    if isinstance(answer, dict) and "error" in answer:
        assert isinstance(answer["error"]["message"], str)
        assert set(answer["error"]["data"]) == {"reason", "retryable"}
        return {**answer, "error": answer["error"]["code"]}
    return answer


# Positional parameters are part of the specification's examples, and optional for a
# server (§4.2): here they are invalid_params.
EXAMPLES = [
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        {"jsonrpc": "2.0", "result": 19, "id": 3},
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
        {"jsonrpc": "2.0", "result": 19, "id": 4},
    ),
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', error(-32602, 1)),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', error(-32601, "1")),
    ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', error(-32700)),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', error(-32600)),
    (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},'
        '{"jsonrpc": "2.0", "method"]',
        error(-32700),
    ),
    ("[]", error(-32600)),
    ("[1]", [error(-32600)]),
    ("[1,2,3]", [error(-32600), error(-32600), error(-32600)]),
    (
        '[{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": "2"},'
        '{"foo": "boo"},'
        '{"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},'
        '{"jsonrpc": "2.0", "method": "update"},'
        '{"jsonrpc": "2.0", "method": "get_data", "id": "9"}]',
        [
            error(-32600),
            {"jsonrpc": "2.0", "result": 19, "id": "2"},
            error(-32601, "5"),
            {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"},
        ],
    ),
    (
        '[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},'
        '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]',
        None,
    ),
]


@pytest.mark.parametrize(("message", "answer"), EXAMPLES)
def test_the_examples_of_the_specification(message: str, answer: Any) -> None:
    assert without_text(converse(message)) == answer


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("", error(-32700)),
        ("nonsense", error(-32700)),
        ("17", error(-32600)),
        ('"text"', error(-32600)),
        ("null", error(-32600)),
        ("{}", error(-32600)),
        ('{"jsonrpc":"1.0","method":"get_data","id":1}', error(-32600, 1)),
        ('{"method":"get_data","id":1}', error(-32600, 1)),
        ('{"jsonrpc":"2.0","method":"get_data","id":{}}', error(-32600)),
        ('{"jsonrpc":"2.0","method":"get_data","id":[1]}', error(-32600)),
        ('{"jsonrpc":"2.0","method":"get_data","id":true}', error(-32600)),
        ('{"jsonrpc":"2.0","method":"get_data","id":"%s"}' % ("x" * 1100), error(-32600)),
        ('{"jsonrpc":"2.0","method":"update","params":"bar","id":1}', error(-32600, 1)),
        ('{"jsonrpc":"2.0","method":"update","params":null,"id":1}',
         {"jsonrpc": "2.0", "id": 1, "result": None}),
        ('{"jsonrpc":"2.0","method":"update","id":null}',
         {"jsonrpc": "2.0", "id": None, "result": None}),
        ("[" * 100_000 + "]" * 100_000, error(-32700)),
        ('{"jsonrpc":"2.0","method":"update","params":{"a":' + "[" * 100_000 + "]" * 100_000 + '},"id":1}',
         error(-32700)),
        (b'{"jsonrpc":"2.0","method":"update","id":"\xff"}', error(-32700)),
        (b'{"jsonrpc":"2.0","method":"update","params":{"a":"\xc3\x28"},"id":1}', error(-32700)),
    ],
)  # fmt: skip
def test_a_broken_message_is_refused_with_its_reason(message: str | bytes, answer: Any) -> None:
    assert without_text(converse(message)) == answer


DEEP = "[" * 2000 + "]" * 2000


@pytest.mark.parametrize("value", [r'"\ud800"', r'"x\udfffy"', r'{"\ud800":1}', DEEP])
def test_text_that_cannot_be_read_refuses_its_call_alone(value: str) -> None:
    bad = '{"jsonrpc":"2.0","id":%s,"method":"get_data","params":{"a":' + value + "}}"
    good = '{"jsonrpc":"2.0","id":2,"method":"get_data"}'
    fine = {"jsonrpc": "2.0", "id": 2, "result": ["hello", 5]}
    assert without_text(converse(bad % '"one"')) == error(-32602, "one")
    batch = f"[{bad % 1} , {good},{bad % 3}]"
    assert without_text(converse(batch)) == [error(-32602, 1), fine, error(-32602, 3)]
    assert without_text(converse(f"[{good},{value}]")) == [error(-32600), fine]
    notification = bad.replace('"id":%s,', "")
    assert converse(notification) is None
    assert converse(f"[{notification}]") is None
    broken = bad.replace("}}", "}") % 1
    assert without_text(converse(broken)) == error(-32700)
    assert without_text(converse(f"[{good},{broken}]")) == error(-32700)


def test_a_member_like_its_neighbours_but_for_the_text_is_told_from_them() -> None:
    """Mended, all three are the same."""
    text = '{"jsonrpc":"2.0","id":1,"method":"get_data","params":{"a":"%s"}}'
    members = [text % r"\uFdD0", text % r"\ud800", text % r"\uFdD0"]
    answers = converse(f"[{','.join(members)}]")
    assert ["result" in answer for answer in answers] == [True, False, True]


def test_an_id_with_half_a_surrogate_pair_is_none() -> None:
    message = r'{"jsonrpc":"2.0","id":"\ud800","method":"get_data"}'
    assert without_text(converse(message)) == error(-32600)


@pytest.mark.parametrize(
    "member",
    ['"result":1', '"result":null', '"error":{"code":1,"message":"x"}', '"error":1,"result":2'],
)
def test_a_response_has_no_answer(member: str) -> None:
    response = '{"jsonrpc":"2.0","id":1,%s}' % member
    assert converse(response) is None
    assert converse(f"[{response},{response}]") is None
    call = '{"jsonrpc":"2.0","id":2,"method":"get_data"}'
    assert converse(f"[{response},{call}]") == [{"jsonrpc": "2.0", "id": 2, "result": ["hello", 5]}]


@pytest.mark.parametrize(
    "id", ['"abc"', "12345678901234567890123", "1.50", "-0", '"\\u00fc"', "null"]
)
def test_an_id_comes_back_byte_for_byte(id: str) -> None:
    dialect = JsonRpc(Framing.LINE, max_reply_bytes=1 << 20, max_batch_calls=100)
    (call,) = dialect.decode(b'{"jsonrpc":"2.0","method":"m","id":%b}' % id.encode())
    assert not isinstance(call, Malformed)
    assert call.answer(1) == b'{"jsonrpc":"2.0","id":%b,"result":1}' % id.encode()


def test_a_batch_over_the_limit_is_refused_whole() -> None:
    answer = converse("[" + ",".join(["1"] * 101) + "]")
    assert answer["error"]["data"]["reason"] == "too_large"
    assert len(converse("[" + ",".join(["1"] * 100) + "]")) == 100


def test_far_too_many_members_are_refused_before_there_is_an_object_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jsonrpc, "_decode_batch", None)
    for member in ("1", "{}", '"a,b"', '"\\ud800"'):
        answer = converse("[" + ",".join([member] * 101) + "]")
        assert answer["error"]["data"]["reason"] == "too_large", member


def test_an_answer_over_the_limit_becomes_too_large() -> None:
    dialect = JsonRpc(Framing.LINE, max_reply_bytes=1000, max_batch_calls=10)
    (call,) = dialect.decode(b'{"jsonrpc":"2.0","method":"m","id":1}')
    assert not isinstance(call, Malformed)
    reply = call.answer("x" * 2000)
    assert reply is not None
    assert json.loads(reply)["error"]["data"]["reason"] == "too_large"


def test_the_answers_of_a_batch_keep_together_within_the_limit() -> None:
    dialect = JsonRpc(Framing.LINE, max_reply_bytes=10_000, max_batch_calls=10)
    message = "[" + ",".join('{"jsonrpc":"2.0","method":"m","id":%d}' % i for i in range(10)) + "]"
    replies = [
        call.answer("x" * 2000)
        for call in dialect.decode(message.encode())
        if not isinstance(call, Malformed)
    ]
    *early, last = replies
    assert early == [None] * 9
    assert last is not None
    assert len(last) <= 10_000
    assert {"result", "error"} == {key for item in json.loads(last) for key in item} - {
        "jsonrpc",
        "id",
    }


def test_rows_are_spliced_as_they_are() -> None:
    dialect = JsonRpc(Framing.LINE, max_reply_bytes=1000, max_batch_calls=10)
    (call,) = dialect.decode(b'{"jsonrpc":"2.0","method":"m","id":1}')
    assert not isinstance(call, Malformed)
    rows = [Row("ü", b'{ "a" :1.50}', 5, 7), Row("b", b"null", 6, None)]
    assert (
        call.answer(Page(rows, rev=9, epoch="e", next="5.7.9"))
        == (
            '{"jsonrpc":"2.0","id":1,"result":{"records":['
            '{"name":"ü","value":{ "a" :1.50},"ts":5,"rev":7},'
            '{"name":"b","value":null,"ts":6,"rev":null}],'
            '"rev":9,"epoch":"e","next":"5.7.9"}}'
        ).encode()
    )


def test_the_envelope_of_an_answer_keeps_to_the_bytes_set_aside() -> None:
    """With the longest id that is taken, and what a page may have beside its rows."""
    dialect = JsonRpc(Framing.LINE, max_reply_bytes=1 << 20, max_batch_calls=10)
    message = b'{"jsonrpc":"2.0","method":"record.query","id":"%b"}' % (b"i" * 1022)
    (call,) = dialect.decode(message)
    assert not isinstance(call, Malformed)
    rows = [Row("a", b"1", MAX_INTEGER, MAX_INTEGER)] * 10
    page = Page(
        rows, rev=MAX_INTEGER, epoch="e" * 64, next="n" * 200, total=11, oldest_rev=MAX_INTEGER
    )
    answer = call.answer(page)
    assert answer is not None
    assert b"i" * 1022 in answer
    assert len(answer) - len(join_rows(rows)) < ENVELOPE_BYTES
