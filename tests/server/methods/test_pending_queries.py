"""How many queries are taken: of one caller, and of all."""

from __future__ import annotations

import pytest

from recordd.connections.request_counts import RequestCounts
from recordd.methods.pending_queries import PendingQueries
from recordd_protocol.errors import RequestError
from tests.core_in_memory import configure

SETTINGS = configure(max_pending_queries=2, max_pending_queries_total=3).settings


def refused(queries: PendingQueries) -> str | None:
    """Return the limit that is reached, if one is."""
    try:
        queries.check_room()
    except RequestError as error:
        return f"{error.reason.word}: {error.message.partition(':')[0]}"
    return None


def test_one_caller_has_a_limit_and_all_together_have_one() -> None:
    counts = RequestCounts()
    one, other = PendingQueries(SETTINGS, counts), PendingQueries(SETTINGS, counts)
    one.begin()
    one.begin()
    assert (refused(one), refused(other)) == ("overloaded: max_pending_queries", None)
    other.begin()
    assert refused(other) == "overloaded: max_pending_queries_total"
    one.end()
    assert (refused(one), refused(other)) == (None, None)
    assert (len(one), len(other), counts.pending_queries) == (1, 1, 2)


@pytest.mark.parametrize("count", [0, 1])
def test_below_both_limits_there_is_room(count: int) -> None:
    queries = PendingQueries(SETTINGS, RequestCounts())
    for _ in range(count):
        queries.begin()
    assert refused(queries) is None
