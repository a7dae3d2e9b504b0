"""Requests as values: their parameters on the way out, and the answers to them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from recordd_client import requests
from recordd_client.errors import InvalidValue, NotFound, ProtocolError, Refused, TooLarge
from recordd_client.requests import Incoming
from recordd_client.rows import Row
from recordd_protocol import methods

EVENT = methods.Event("s1")


def sent(request: requests.Request[Any]) -> Any:
    return json.loads(requests.encode_request(request, 7))


def test_parameters_at_their_default_are_not_sent_but_null_is() -> None:
    assert sent(requests.query("a", msgspec.UNSET, None, None, None))["params"] == {"name": "a"}
    assert sent(requests.query("#", None, 5, None, None))["params"] == {"limit": None, "start": 5}
    assert sent(requests.set_record("a", None, None, 0))["params"] == {
        "name": "a",
        "value": None,
        "if_rev": 0,
    }


NOT_ROWS: list[Any] = [
    {"ab": 1},
    ["cd"],
    "cd",
    ["ab", 1],
    [("a",)],
    [("a", 1, 2, 3, 4)],
    [("a", 1, 2, "3")],
    [(b"a", 1)],
    [{"name": "a", "value": 1}],
    [("a", 1, "2013-01-01")],
    [("a", 1, True)],
    [("a", 1, 1.5)],
    7,
]


@pytest.mark.parametrize("records", NOT_ROWS)
def test_set_many_refuses_anything_but_rows(records: Any) -> None:
    with pytest.raises(
        InvalidValue, match=r"rows are \(name, value\)|ts: Unix milliseconds|if_rev: a rev"
    ):
        requests.set_many(records)


def test_set_many_takes_tuples_lists_items_and_rows() -> None:
    rows: Any = [("a", 1), ["b", 2, 3], *{"c": [4]}.items(), Row("d", 5, 6, 7), ("e", 8, None, 9)]
    assert sent(requests.set_many(rows))["params"]["records"] == [
        {"name": "a", "value": 1},
        {"name": "b", "value": 2, "ts": 3},
        {"name": "c", "value": [4]},
        {"name": "d", "value": 5, "ts": 6},
        {"name": "e", "value": 8, "if_rev": 9},
    ]


def test_a_row_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(InvalidValue, match=r"records\[1\]\.value: .*NaN"):
        requests.set_many([("a", 1), ("b", float("nan"))])


UNFIT_NAMES: list[Any] = ["a\udcff", b"bytes", bytearray(b"bytes")]


@pytest.mark.parametrize("name", UNFIT_NAMES)
def test_a_name_that_is_no_text_is_no_request(name: Any) -> None:
    for request in (
        requests.get(name, Any),
        requests.set_record(name, 1, None, None),
        requests.count(name),
    ):
        with pytest.raises(InvalidValue, match=request.method):
            requests.encode_request(request, 1)


def test_a_request_over_the_limit_is_refused_and_not_sent() -> None:
    request = requests.set_record("a", "x" * 100, None, None)
    message = requests.encode_request(request, 1)
    requests.check_size(request, message, len(message))
    with pytest.raises(TooLarge, match="max_message_bytes"):
        requests.check_size(request, message, len(message) - 1)


def test_an_error_answer_becomes_the_exception_of_its_reason() -> None:
    (answer,) = requests.read_incoming(
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"gone"}}'
    )
    with pytest.raises(NotFound, match="gone") as caught:
        answer.result_or_raise()
    assert isinstance(caught.value, Refused)
    assert not caught.value.retryable


@pytest.mark.parametrize("message", [b"", b"[1]", b"nonsense", b'{"id":"x"}', b"\xff"])
def test_a_message_that_is_no_answer_is_a_protocol_error(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        requests.read_incoming(message)


def test_the_answer_is_found_among_messages_with_the_rest_behind_it() -> None:
    found = [Incoming(params=EVENT), Incoming(id=3), Incoming(id=7), Incoming(params=EVENT)]
    assert requests.split_at_answer(found, 7) == (found[2], found[3:])
    assert requests.split_at_answer(found[:2], 7) == (None, [])


def test_a_refusal_without_an_id_is_the_answer() -> None:
    (refusal,) = requests.read_incoming(b'{"id":null,"error":{"code":-32006,"message":"full"}}')
    assert refusal.refuses_connection
    assert requests.split_at_answer([refusal], 7) == (refusal, [])


def test_a_page_leads_to_the_one_behind_it_and_the_last_to_none() -> None:
    first = requests.query("a", 5, None, None, None)
    following = requests.next_page(first, methods.Records([], 1, "e", next="n"))
    assert following is not None
    assert sent(following)["params"] == {"name": "a", "limit": 5, "after": "n"}
    assert requests.next_page(first, methods.Records([], 1, "e")) is None


def test_a_result_of_another_shape_is_a_protocol_error_that_names_the_method() -> None:
    with pytest.raises(ProtocolError, match=r"^record\.count: "):
        requests.count("#").decode(msgspec.Raw(b"[]"))
