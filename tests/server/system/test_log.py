"""The log as collectors read it."""

from __future__ import annotations

import json
import logging
import sys

from recordd.system.log import JsonFormatter


def format_record(message: str, *args: object, failed: bool = False) -> dict[str, str]:
    error = None
    if failed:
        try:
            raise ValueError("why")
        except ValueError:
            error = sys.exc_info()
    record = logging.LogRecord("recordd.x", logging.WARNING, "x.py", 1, message, args, error)
    record.created, record.msecs = 1_700_000_000.007, 7.0
    line = JsonFormatter().format(record)
    assert "\n" not in line
    entry: dict[str, str] = json.loads(line)
    return entry


def test_an_entry_is_one_object_on_one_line() -> None:
    assert format_record("%s of\n%d", "one", 2) == {
        "time": "2023-11-14T22:13:20.007Z",
        "level": "warning",
        "logger": "recordd.x",
        "message": "one of\n2",
    }


def test_the_traceback_of_an_error_is_a_member() -> None:
    assert format_record("failed", failed=True)["error"].endswith("ValueError: why")
