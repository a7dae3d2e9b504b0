"""The table of refusals."""

from recordd_protocol.errors import REASON_BY_CODE, Reason


def test_no_two_reasons_share_a_code_or_a_word() -> None:
    assert len(REASON_BY_CODE) == len({reason.word for reason in Reason}) == len(Reason) == 16


def test_codes_lie_where_json_rpc_leaves_room() -> None:
    reserved = {-32700, -32600, -32601, -32602, -32603}
    assert all(reason.code in reserved or -32099 <= reason.code <= -32000 for reason in Reason)


def test_passing_refusals_alone_are_retryable() -> None:
    passing = {"overloaded", "unavailable", "timeout", "expired"}
    assert {r.word for r in Reason if r.retryable} == passing
