"""Exceptions: one class for each reason, and the words about an unknown outcome."""

from __future__ import annotations

import pytest

import recordd_client
from recordd_client.errors import (
    ERROR_BY_REASON,
    CallTimeout,
    ConnectionLost,
    ProtocolError,
    Refused,
    refusal_of,
)
from recordd_protocol.errors import Reason


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_a_class_that_programs_can_import(reason: Reason) -> None:
    error = refusal_of(reason.code, "why")
    assert isinstance(error, Refused)
    assert (error.reason, str(error), error.retryable) == (reason, "why", reason.retryable)
    assert getattr(recordd_client, type(error).__name__) is type(error)
    assert ERROR_BY_REASON[reason] is type(error)


def test_a_code_that_nobody_knows_is_an_error_of_the_protocol() -> None:
    error = refusal_of(-32099, "why")
    assert isinstance(error, ProtocolError)
    assert str(error) == "unknown error code -32099: why"


@pytest.mark.parametrize("kind", [ConnectionLost, CallTimeout])
def test_the_text_says_that_an_outcome_is_unknown(
    kind: type[ConnectionLost] | type[CallTimeout],
) -> None:
    assert str(kind("gone", outcome_unknown=True)) == "gone; the outcome is unknown"
    assert str(kind("gone", outcome_unknown=False)) == "gone"
