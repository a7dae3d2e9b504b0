"""The methods that read records one by one, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from recordd.hub.hub import Hub
from recordd.hub.records import RecordState
from recordd.methods.caller import Caller
from recordd.methods.dispatch import FindRows, Handler, HasParams, RunHandler
from recordd.methods.listing import Listing
from recordd.methods.outcome import Answer
from recordd.system.turns import Steps
from recordd_protocol.dialect import ENVELOPE_BYTES
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import (
    Count,
    Counts,
    Drain,
    Drained,
    Get,
    List,
    RecordInfo,
)
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import Row

__all__ = ["HANDLERS", "RUN_HANDLERS", "find_record"]

_MIN_INFO_BYTES: Final = 250
"""A metadata row has no fewer, whatever the name."""


def get_record(caller: Caller, params: Get) -> Answer:
    """Return the latest row of one record."""
    catalogue = caller.core.hub.catalogue
    state = catalogue.find(params.name)
    if state is None:
        raise _not_found(params.name)
    if catalogue.damaged:
        catalogue.check_readable(params.name.__eq__)
    return Answer(state.row or state.latest)  # the property costs a call


def get_records(caller: Caller, gets: Sequence[HasParams]) -> list[Row] | None:
    """Return the latest row of each record, where all can be read."""
    catalogue = caller.core.hub.catalogue
    if catalogue.damaged:
        return None
    find = catalogue.find
    states = [state for get in gets if (state := find(get.params.name)) is not None]
    rows = [state.row or state.latest for state in states]
    return rows if len(rows) == len(gets) else None


def list_records(caller: Caller, params: List) -> Steps[Listing]:
    """Return metadata of the records that match, by `record_id`, with the latest of this turn."""
    if params.limit is not None and params.limit < 0:
        raise RequestError(Reason.INVALID_PARAMS, "limit: must not be negative")
    hub, patterns = caller.core.hub, compile_patterns(params.name)
    yield from hub.catalogue.prepare_match(patterns)
    wanted = hub.catalogue.match_after(patterns, params.after)[: params.limit]
    topics = hub.topics

    def render(item: tuple[RecordState, int, int | None]) -> RecordInfo:
        state, ts, rev = item
        return state.as_info(ts, rev, sum([t.subscriptions for t in topics.topics_of(state)]))

    items = [(state, state.ts, state.rev) for state in wanted]
    return Listing(items, render, min_row_bytes=_MIN_INFO_BYTES)


def count_records(caller: Caller, params: Count) -> Steps[Answer]:
    """Return how many records match, and how many rows they have."""
    hub, patterns = caller.core.hub, compile_patterns(params.name)
    if patterns.matches_all:
        return Answer(Counts(records=len(hub.catalogue), rows=hub.rows))
    yield from hub.catalogue.prepare_match(patterns)
    archived = yield from hub.archive.count_rows(patterns)
    states = hub.catalogue.match(patterns)
    rows = archived + sum([state.rows for state in states])
    return Answer(Counts(records=len(states), rows=rows))


def drain_record(caller: Caller, params: Drain) -> Answer:
    """Return the values since this connection's previous drain; at first, all that is buffered."""
    if params.limit is not None and params.limit < 0:
        raise RequestError(Reason.INVALID_PARAMS, "limit: must not be negative")
    state = find_record(caller.core.hub, params.name)
    caller.core.hub.catalogue.check_readable(params.name.__eq__)
    # By id, not by name: a record deleted and written again starts anew.
    rows, caller.drained[state.record_id] = state.drain(
        caller.drained.get(state.record_id, 0),
        params.limit,
        caller.core.settings.max_reply_bytes - ENVELOPE_BYTES,
    )
    state.consumed += len(rows)
    values = [msgspec.Raw(row.value) for row in rows]
    return Answer(Drained(record_name=state.name, values=values, count=len(values)))


def find_record(hub: Hub, name: str) -> RecordState:
    """Return a record's state; `not_found` where there is none."""
    state = hub.catalogue.find(name)
    if state is None:
        raise _not_found(name)
    return state


def _not_found(name: str) -> RequestError:
    return RequestError(Reason.NOT_FOUND, f"record {name[:255]!r} does not exist")


HANDLERS: Final[Mapping[str, Handler]] = {
    "record.list": list_records,
    "record.get": get_record,
    "record.count": count_records,
    "record.drain": drain_record,
}

RUN_HANDLERS: Final[Mapping[str, RunHandler]] = {"record.get": FindRows(get_records)}
