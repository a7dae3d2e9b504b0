"""Values on their way out: each is one JSON value, the one that was meant."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from recordd_client.errors import InvalidValue
from recordd_client.values import encode_value


@dataclasses.dataclass
class Reading:
    celsius: Any


class Station(msgspec.Struct):
    reading: Any


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        {"a": [1, float("inf")]},
        {"a": None, "b": float("nan")},
        [(-float("inf"),)],
        Reading(float("nan")),
    ],
)
def test_a_value_that_json_cannot_hold_is_refused_and_not_made_null(value: Any) -> None:
    with pytest.raises(InvalidValue, match="NaN or an infinity"):
        encode_value(value)


def test_null_itself_passes_and_so_does_raw_json() -> None:
    assert bytes(encode_value({"a": None})) == b'{"a":null}'
    assert bytes(encode_value(Raw(b" 1.50 "))) == b"1.50"
    assert bytes(encode_value(Raw(b"[1,\r\n2]"))) == b"[1,2]"
    assert bytes(encode_value(Raw(b"[1,\r2]"))) == b"[1,2]"
    assert bytes(encode_value({"a": Raw(b"[1,\n2]")})) == b'{"a":[1,2]}'


@pytest.mark.parametrize(
    "value", [object(), {1, object()}, "\ud800", {"\udcff": 1}, {(1, 2): 3}, b"{}", bytearray(b"1")]
)
def test_an_object_that_cannot_be_encoded_is_refused_with_its_type(value: Any) -> None:
    with pytest.raises(InvalidValue):
        encode_value(value)


SPLICES = [b'1,"if_rev":0', b'1},"x":{"y":1', b"", b" ", b"1 2", b"[1", b"nul", b'"\xff"', b"NaN"]


@pytest.mark.parametrize("text", SPLICES)
@pytest.mark.parametrize("wrap", [lambda raw: raw, lambda raw: {"a": [raw]}, Reading, Station])
def test_raw_json_that_is_not_one_value_is_refused(text: bytes, wrap: Any) -> None:
    with pytest.raises(InvalidValue):
        encode_value(wrap(Raw(text)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner),
)  # fmt: skip


@given(json_values)
def test_a_value_reads_back_as_it_was(value: Any) -> None:
    encoded = encode_value(value)
    assert json.loads(bytes(encoded)) == value
    assert json.loads(bytes(encode_value({"a": encoded}))) == {"a": value}
