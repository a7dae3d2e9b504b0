"""Calls as values: what is sent, and what may not be."""

import json
from typing import Any

import msgspec
import pytest

from recordd_client import calls
from recordd_client.errors import InvalidValue, NotFound, ProtocolError, Refused
from recordd_client.rows import decode_page
from recordd_protocol.methods import Record, Records


def sent(call: calls.Call[Any]) -> Any:
    return json.loads(calls.encode_request(call, 7))


def test_what_is_left_at_its_default_is_not_sent_but_null_is() -> None:
    assert sent(calls.query("a", msgspec.UNSET, None, None, None))["params"] == {"name": "a"}
    assert sent(calls.query("#", None, 5, None, None))["params"] == {"limit": None, "start": 5}
    assert sent(calls.set_record("a", None, None, 0))["params"] == {
        "name": "a",
        "value": None,
        "if_rev": 0,
    }


@pytest.mark.parametrize("value", [float("nan"), {"a": [1, float("inf")]}, [(-float("inf"),)]])
def test_what_json_cannot_hold_is_refused_and_not_made_null(value: Any) -> None:
    with pytest.raises(InvalidValue, match="NaN or an infinity"):
        calls.encode_value(value)


def test_null_itself_passes_and_so_does_raw_json() -> None:
    assert bytes(calls.encode_value({"a": None})) == b'{"a":null}'
    assert bytes(calls.encode_value(msgspec.Raw(b" 1.50 "))) == b" 1.50 "
    assert bytes(calls.encode_value(msgspec.Raw(b"[1,\r\n2]"))) == b"[1,2]"


@pytest.mark.parametrize("value", [object(), {1, object()}, "\ud800"])
def test_what_cannot_be_encoded_says_so(value: Any) -> None:
    with pytest.raises(InvalidValue):
        calls.encode_value(value)


def test_an_error_answer_becomes_the_exception_of_its_reason() -> None:
    (answer,) = calls.read_answers(
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"gone"}}'
    )
    with pytest.raises(NotFound, match="gone") as caught:
        answer.result_or_raise()
    assert isinstance(caught.value, Refused)
    assert not caught.value.retryable


@pytest.mark.parametrize("message", [b"", b"[1]", b"nonsense", b'{"id":"x"}', b"\xff"])
def test_what_is_no_answer_is_a_protocol_error(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        calls.read_answers(message)


def test_rows_that_do_not_fit_are_skipped_and_counted() -> None:
    rows = [Record("a", msgspec.Raw(value), 1, n) for n, value in enumerate([b"1", b'"x"', b"2"])]
    page = decode_page([Records(rows, 2, "e")], int)
    assert ([row.value for row in page.rows], page.skipped) == ([1, 2], 1)
