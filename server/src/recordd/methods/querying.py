"""The methods that read many rows: latest values from the hub, history from who keeps it."""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Mapping
from typing import Final

import msgspec
from msgspec import UNSET

from recordd.extending.points import HistoryQuery, QueryHandler
from recordd.methods.caller import Caller
from recordd.methods.dispatch import Handler
from recordd.methods.outcome import Answer, Handled, Later, Outcome
from recordd.system.turns import Steps
from recordd_protocol.dialect import ENVELOPE_BYTES
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import check_integer
from recordd_protocol.methods import At, Query, Replay
from recordd_protocol.patterns import PatternSet, compile_one, compile_pattern, compile_patterns
from recordd_protocol.rows import Page, Row

__all__ = ["HANDLERS"]

_MAX_NAMES: Final = 1000
"""Exact names in one query: a dashboard may name its records one by one."""

_MAX_WILDCARDS: Final = 8
"""Patterns in one query that have to be matched against every name there is."""


def query_records(caller: Caller, params: Query) -> Handled:
    """Return latest values or history of the records that match.

    One latest row a record is what the hub holds: it costs no look at the history, and
    needs none to be kept.
    """
    if isinstance(params.name, str) and _wants_latest(params):
        # Mostly so, and mostly with the same answer as before: this way it takes 3 µs less.
        page = caller.core.latest.maybe_page(compile_one(params.name))
        if page is not None:
            return Answer(page)
    query = _read(params, caller.max_reply_bytes - ENVELOPE_BYTES)
    hub = caller.core.hub
    if query.limit_per_record == 0:
        return Answer(Page([], rev=hub.rev, epoch=hub.epoch))
    if query.limit_per_record != 1 or query.start_ms is not None or query.end_ms is not None:
        return _query_history(caller, query)
    latest = caller.core.latest
    if not query.paged:
        return _answer(latest.newest(query.patterns, query.max_bytes))
    if query.page_cursor is not None:
        return Answer(latest.page_after(query.page_cursor, query.patterns))
    if (page := latest.maybe_page(query.patterns)) is not None:
        return Answer(page)
    return _answer(latest.first_page(query.patterns, caller))


def _query_history(caller: Caller, query: HistoryQuery) -> Handled:
    """Ask for history: of records by their names at once, else when the patterns are matched."""
    handler = _query_handler(caller)
    if query.patterns.wildcards:
        return _match_first(caller, handler, query)
    found = handler.query(query)
    if type(found) is Page:
        return Answer(found)
    return _finish(found) if isinstance(found, Generator) else _expect(found)


def _match_first(caller: Caller, handler: QueryHandler, query: HistoryQuery) -> Steps[Outcome]:
    """Match in steps, before the moment is taken that the answer shows; then ask."""
    patterns = yield from caller.core.hub.catalogue.prematch(query.patterns)
    found = handler.query(msgspec.structs.replace(query, patterns=patterns))
    if isinstance(found, Generator):
        found = yield from found
    return _expect(found)


def _finish(steps: Steps[Page | Awaitable[Page]]) -> Steps[Outcome]:
    return _expect((yield from steps))


def replay_log(caller: Caller, params: Replay) -> Steps[Outcome]:
    """Return rows in commit order."""
    handler, pattern = _query_handler(caller), compile_pattern(params.name)
    after_rev = params.after if isinstance(params.after, int) else -1
    yield from caller.core.hub.gaps.prepare_gap(pattern, after_rev)
    return _expect(handler.replay(params))


def read_at(caller: Caller, params: At) -> Outcome:
    """Return the row of one commit number."""
    return _expect(_query_handler(caller).at(params.rev))


def _wants_latest(params: Query) -> bool:
    """Tell whether the first page of latest values is asked for."""
    return (
        (params.limit is UNSET or params.limit == 1)
        and params.start is None
        and params.end is None
        and params.after is None
        and params.paged
    )


def _answer(steps: Steps[Page]) -> Steps[Outcome]:
    return Answer((yield from steps))


def _expect(found: Row | Page | Awaitable[Row | Page]) -> Outcome:
    """Return what an extension found, or is still to find."""
    return Later(found) if isinstance(found, Awaitable) else Answer(found)


def _read(params: Query, max_bytes: int) -> HistoryQuery:
    """Return what is asked for, checked; each refusal starts with the parameter's name."""
    patterns = _compile_all(params.name)
    ranged = params.start is not None or params.end is not None
    if ranged and params.limit is UNSET:
        raise _invalid("limit: must be stated with start or end (null for all)")
    limit = 1 if params.limit is UNSET else params.limit
    check_integer("limit", limit)
    check_integer("start", params.start)
    check_integer("end", params.end)
    if not params.paged and params.after is not None:
        raise _invalid("after: there is no page to go on behind where paged is false")
    return HistoryQuery(
        patterns=patterns,
        limit_per_record=limit,
        start_ms=params.start,
        end_ms=params.end,
        page_cursor=params.after,
        paged=params.paged,
        max_bytes=max_bytes,
    )


def _compile_all(names: str | list[str]) -> PatternSet:
    if isinstance(names, str):
        return compile_one(names)
    if not names:
        raise _invalid("name: needs a name or a pattern")
    wildcards = sum("*" in n or "#" in n for n in names)
    if wildcards > _MAX_WILDCARDS:
        raise _invalid(f"name: more than {_MAX_WILDCARDS} patterns with wildcards")
    if len(names) - wildcards > _MAX_NAMES:
        raise _invalid(f"name: more than {_MAX_NAMES} names beside the patterns")
    return compile_patterns(names)


def _query_handler(caller: Caller) -> QueryHandler:
    handler = caller.core.extensions.get(QueryHandler)
    if handler is None:
        raise RequestError(
            Reason.NOT_CONFIGURED, "this daemon keeps no history: it runs without persistence"
        )
    return handler


def _invalid(text: str) -> RequestError:
    return RequestError(Reason.INVALID_PARAMS, text)


HANDLERS: Final[Mapping[str, Handler]] = {
    "record.query": query_records,
    "record.replay": replay_log,
    "record.at": read_at,
}
