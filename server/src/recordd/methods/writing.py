"""The methods that change records: they check what can be checked, the writer does the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from recordd.core import Core
from recordd.hub.records import RecordState
from recordd.methods.caller import Caller
from recordd.methods.dispatch import Handler
from recordd.system.clock import SYSTEM_CLOCK
from recordd.system.turns import Steps
from recordd.writing.requests import Condition, DeleteRecord, NewRow, TrimRecord, WriteRows
from recordd.writing.time_window import check_ts
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import MAX_INTEGER, check_integer
from recordd_protocol.methods import (
    Delete,
    Deleted,
    Set,
    SetMany,
    Trim,
    WriteItem,
    Written,
    WrittenMany,
)
from recordd_protocol.names import check_name
from recordd_protocol.rows import Row, RowKind
from recordd_protocol.values import check_value

__all__ = ["HANDLERS"]

_ROWS_A_STEP: Final = 32
"""Checked between two steps: some 3 µs each."""


def set_record(caller: Caller, params: Set) -> WriteRows:
    """Write one value."""
    item = _check_item(caller.core, params.name, params.value, params.ts)
    if params.if_rev is None:
        return WriteRows([item], _to_written)
    return WriteRows([item], _to_written, conditions=[_check_condition(params, item)])


def set_many(caller: Caller, params: SetMany) -> Steps[WriteRows]:
    """Write many rows, all or nothing; they are checked in steps."""
    if not params.records:
        raise RequestError(Reason.INVALID_PARAMS, "records: must not be empty")
    limit = caller.core.settings.max_rows_per_write
    if len(params.records) > limit:
        raise RequestError(Reason.TOO_LARGE, f"records: {len(params.records)} rows, limit {limit}")
    items = []
    conditions = []
    for index, item in enumerate(params.records):
        try:
            row = _check_item(caller.core, item.name, item.value, item.ts)
            items.append(row)
            if item.if_rev is not None:
                conditions.append(_check_condition(item, row, f"records[{index}]."))
        except RequestError as error:
            raise RequestError(error.reason, f"records[{index}].{error.message}") from None
        if index % _ROWS_A_STEP == _ROWS_A_STEP - 1:
            yield
    to_result = _to_written_rows if params.rows else _to_written_many
    return WriteRows(items, to_result, conditions=conditions)


def delete_record(caller: Caller, params: Delete) -> DeleteRecord:
    """Delete a record and its history."""
    name = check_name(params.name)
    _check_writable(caller.core, name, caller.core.hub.catalogue.find(name))
    return DeleteRecord(name, lambda rows: Deleted(deleted=rows))


def trim_record(caller: Caller, params: Trim) -> TrimRecord:
    """Delete rows of a record that are newer than a time."""
    name = check_name(params.name)
    _check_writable(caller.core, name, caller.core.hub.catalogue.find(name))
    check_integer("newer_than", params.newer_than)
    return TrimRecord(name, params.newer_than)


def _check_item(core: Core, name: str, value: msgspec.Raw, ts: int | None) -> NewRow:
    """Return a row fit to be committed; each refusal starts with the parameter's name."""
    settings = core.settings
    state = core.hub.catalogue.find(name)
    if state is None:  # a record that exists has a name that was checked
        check_name(name)
    _check_writable(core, name, state)
    checked = check_value(
        bytes(value), max_bytes=settings.max_value_bytes, max_depth=settings.max_value_depth
    )
    if ts is not None:
        check_ts(
            ts,
            now_ms=SYSTEM_CLOCK.wall_ms(),
            min_ts=settings.min_ts,
            max_future_ms=settings.max_future_ms,
        )
    return name, checked, ts, state


def _check_condition(item: Set | WriteItem, row: NewRow, where: str = "") -> Condition:
    assert item.if_rev is not None, "asked for what has one"
    if not 0 <= item.if_rev <= MAX_INTEGER:
        text = f"if_rev: {item.if_rev} is not between 0 and 2^63 - 1"
        raise RequestError(Reason.INVALID_PARAMS, text)
    return Condition(item.name, item.if_rev, where, row[3])


def _check_writable(core: Core, name: str, state: RecordState | None) -> None:
    rule = core.hub.rules.rule_for(name) if state is None else state.rule
    if not rule.writable:
        raise RequestError(Reason.DENIED, f"name: record {name!r} is not writable")


def _to_written(rows: list[Row]) -> Written:
    row = rows[0]
    return Written(rev=row.rev, ts=row.ts, late=row.kind is RowKind.LATE)


def _to_written_many(rows: list[Row]) -> WrittenMany:
    revs = [row.rev for row in rows if row.rev is not None]
    return WrittenMany(first_rev=revs[0] if revs else None, last_rev=revs[-1] if revs else None)


def _to_written_rows(rows: list[Row]) -> WrittenMany:
    return msgspec.structs.replace(
        _to_written_many(rows), rows=[_to_written([row]) for row in rows]
    )


HANDLERS: Final[Mapping[str, Handler]] = {
    "record.set": set_record,
    "record.set_many": set_many,
    "record.delete": delete_record,
    "record.trim": trim_record,
}
