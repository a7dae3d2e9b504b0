"""The table of methods says of each what it touches."""

from __future__ import annotations

import typing

import msgspec
import pytest

from recordd_protocol.methods import METHODS, Access, Method

NAMING = {"name", "names", "pattern", "patterns", "record", "records"}
"""Parameters that say which records a call is about."""

FORMS = {
    "name": str,
    "pattern": str,
    "patterns": str | list[str],
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_parameter_that_names_records_is_stated_and_is_one_of_that_form(
    method: Method,
) -> None:
    types = {field.encode_name: field.type for field in msgspec.structs.fields(method.params)}
    stated = set() if method.records is None else {method.records.name}
    assert stated == types.keys() & NAMING
    if method.records is None:
        return
    if method.records.form == "rows":
        (item,) = typing.get_args(types[method.records.name])
        assert {field.encode_name: field.type for field in msgspec.structs.fields(item)}[
            "name"
        ] is str
    else:
        assert types[method.records.name] == FORMS[method.records.form]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_has_one_of_three_accesses_and_what_writes_says_which_records(
    method: Method,
) -> None:
    assert method.access in typing.get_args(Access)
    assert not (method.access == "write" and method.records is None)


def test_what_changes_the_daemon_itself_is_for_administrators() -> None:
    admin = {name for name, method in METHODS.items() if method.access == "admin"}
    assert admin == {"profiling.reset", "buffer_metrics.reset", "retention.confirm"}
    writes = {name for name, method in METHODS.items() if method.is_write}
    assert writes == {"record.set", "record.set_many", "record.delete", "record.trim"}
