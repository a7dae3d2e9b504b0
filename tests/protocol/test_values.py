"""Values at the door."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.values import check_value, find_plain


def check(value: bytes) -> bytes:
    return check_value(value, max_bytes=10_000, max_depth=20)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
def test_every_json_value_passes_byte_for_byte(value: object) -> None:
    encoded = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        encoded.decode()
    except UnicodeDecodeError:
        return  # half a surrogate pair is no UTF-8; the dialects refuse it
    assert check(encoded) == encoded


@pytest.mark.parametrize(
    "value",
    [b"1e400", b"-1e999", b"9" * 310, b"[" + b"9" * 400 + b"]", b'"\\ud800"',
     b"[" * 21 + b"]" * 21, b'{"a":' * 21 + b"1" + b"}" * 21, b"[" * 5000 + b"]" * 5000],
)  # fmt: skip
def test_a_value_that_some_client_could_not_read_is_refused(value: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        check(value)
    assert caught.value.reason is Reason.INVALID_PARAMS


def test_the_largest_double_passes() -> None:
    assert check(str(2**1023).encode()) == str(2**1023).encode()


def test_depth_is_counted_not_guessed_from_brackets() -> None:
    flat = b"[" + b",".join([b"[]"] * 100) + b"]"
    assert check(flat) == flat
    assert check(b"[" * 20 + b"]" * 20) == b"[" * 20 + b"]" * 20


def test_a_value_over_the_limit_is_too_large() -> None:
    with pytest.raises(RequestError) as caught:
        check(b'"' + b"x" * 10_000 + b'"')
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("value", "compact"),
    [(b'{\n "a": [1,\r\n 2]}', b'{"a":[1,2]}'), (b'{ "a":1 }', b'{ "a":1 }')],
)
def test_raw_line_breaks_go_and_other_white_space_stays(value: bytes, compact: bytes) -> None:
    assert check(value) == compact


odd_values = st.sampled_from(
    [b"1e400", b"9" * 299, b"9" * 301, b'"\\ud800"', b"[1,\n2]", b"[1,\r2]", b"1, 2", b"[1", b"2]", b"", b"{",
     b"[" * 5 + b"]" * 5, b"[" * 6 + b"]" * 6, b"[" * 5 + b" " + b"]" * 5, b'"' + b"x" * 60 + b'"', b'"\xff"']
)  # fmt: skip


@given(
    st.lists(json_values.map(lambda v: json.dumps(v).encode()) | odd_values, max_size=5),
    st.sampled_from([8, 40, 10_000]),
    st.sampled_from([1, 5, 100]),
)
def test_what_is_plain_is_let_in_unchanged_one_by_one_too(
    values: list[bytes], max_bytes: int, max_depth: int
) -> None:
    limits = {"max_bytes": max_bytes, "max_depth": max_depth}
    found = find_plain(values, **limits)
    if found is not None and not {b"[1", b"2]", b"1, 2"} & set(values):
        assert [check_value(value, **limits) for value in values] == values == found


def test_short_values_are_plain_up_to_the_depth_that_their_length_allows() -> None:
    limits = {"max_bytes": 200, "max_depth": 9}
    plain = [b'{"a":[1.5e3,null]}', b"[" * 9 + b"1" + b"]" * 9, b'"\\u00e9"']
    assert (
        find_plain(plain, **limits) == find_plain(list(map(msgspec.Raw, plain)), **limits) == plain
    )
    assert find_plain([b"[" * 10 + b"]" * 10], **limits) is None
    assert find_plain([b"[1", b"2]"], **limits) is None, "of JSON that is none alone"
    for value in (b"[1,\n2]", b"[1,\r2]"):
        assert find_plain([value, b"1"], **limits) is None
    assert find_plain([], **limits) == []
