"""The integers that fit."""

from __future__ import annotations

import pytest

from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import check_integer


@pytest.mark.parametrize("value", [0, 1, 2**63 - 1, None])
def test_integers_of_63_bits_and_none_are_taken(value: int | None) -> None:
    check_integer("after", value)


@pytest.mark.parametrize("value", [-1, 2**63, -(2**63), 2**70])
def test_other_integers_are_refused_by_their_name(value: int) -> None:
    with pytest.raises(RequestError, match=r"^after: must be between 0 and 2\^63 - 1$") as refused:
        check_integer("after", value)
    assert refused.value.reason is Reason.INVALID_PARAMS
