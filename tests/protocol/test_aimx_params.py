"""AimX's parameters, read as leniently as AimDB reads them."""

from __future__ import annotations

import msgspec
import pytest

from recordd_protocol import methods
from recordd_protocol.aimx_params import READERS, unwrap
from recordd_protocol.errors import Reason, RequestError
from tests.protocol.test_aimx import decode


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (b"{}", methods.Query("#", 1, paged=False)),
        (b'{"limit":null,"name":null}', methods.Query("#", 1, paged=False)),
        (b'{"limit":-1}', methods.Query("#", 1, paged=False)),
        (b'{"limit":1.5,"start":"x"}', methods.Query("#", 1, paged=False)),
        (b'{"limit":true}', methods.Query("#", 1, paged=False)),
        (b'{"limit":18446744073709551615}', methods.Query("#", 2**63 - 1, paged=False)),
        (b'{"name":"a","limit":3,"start":1,"end":2}', methods.Query("a", 3, 1, 2, paged=False)),
        (b"[]", methods.Query("#", 1, paged=False)),
    ],
)
def test_a_query_reads_its_parameters_as_aimdb_does(params: bytes, expected: object) -> None:
    message = b'{"t":"req","id":1,"method":"record.query","params":%b}' % params
    assert decode(message).params == expected


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (b"{}", methods.Hello("", "", None)),
        (b'{"client":7,"version":3}', methods.Hello("", "", None)),
        (b'{"client":"c","version":"3.0","more":1}', methods.Hello("c", "3.0", None)),
        (b'{"client":"c","auth_token":"t"}', methods.Hello("c", "", "t")),
    ],
)
def test_a_hello_without_a_version_asks_for_an_empty_one(params: bytes, expected: object) -> None:
    assert READERS["hello"](params) == expected


@pytest.mark.parametrize(
    ("method", "reason"),
    [("record.get", Reason.NOT_FOUND), ("record.drain", Reason.INVALID_PARAMS)],
)
@pytest.mark.parametrize("params", [b"{}", b'{"name":7}', b'{"name":null}'])
def test_a_name_that_is_no_text_is_refused_as_aimdb_refuses_it(
    method: str, reason: Reason, params: bytes
) -> None:
    with pytest.raises(RequestError, match="name") as caught:
        READERS[method](params)
    assert caught.value.reason is reason


def test_a_set_ignores_members_that_aimdb_does_not_know() -> None:
    found = READERS["record.set"](b'{"name":"a","value":1,"more":2}')
    assert isinstance(found, methods.Set)
    assert (found.name, bytes(found.value)) == ("a", b"1")


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b'{"value":[1]}', b"[1]"),
        (b'{"value":null}', b"null"),
        (b'{"more":1,"value":2}', b"2"),
        (b'{"other":1}', b'{"other":1}'),
        (b"[1]", b"[1]"),
        (b"7", b"7"),
    ],
)
def test_a_payload_is_unwrapped_where_it_has_a_value(payload: bytes, value: bytes) -> None:
    assert bytes(unwrap(msgspec.Raw(payload))) == value
