"""What the commands print: tables for people; JSON, NDJSON and CSV for pipes."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from recordd_client.cli.times import format_time
from recordd_client.rows import Row

__all__ = ["FORMATS", "print_objects", "print_rows"]

FORMATS: Final = ("table", "json", "ndjson", "csv")


def print_rows(rows: Iterable[Row[msgspec.Raw]], format: str) -> None:
    """Print rows; NDJSON and CSV leave as they come, so a large export needs no memory."""
    if format == "table":
        cells = [
            (row.name, _show_json(row.value), format_time(row.ts), str(row.rev or ""))
            for row in rows
        ]
        print_table(("record", "value", "time", "rev"), cells)
    else:
        print_objects(
            ({"name": r.name, "value": r.value, "ts": r.ts, "rev": r.rev} for r in rows), format
        )


def print_objects(objects: Iterable[dict[str, Any]], format: str) -> None:
    """Print objects with the same keys; in CSV and tables, what is not a scalar is JSON."""
    write = sys.stdout.write
    if format == "json":
        write(msgspec.json.format(msgspec.json.encode(list(objects)).decode(), indent=2) + "\n")
    elif format == "ndjson":
        for item in objects:
            write(msgspec.json.encode(item).decode() + "\n")
    elif format == "csv":
        _write_csv(objects)
    else:
        listed = list(objects)
        columns = list(listed[0]) if listed else []
        print_table(columns, [[_show(item[column]) for column in columns] for item in listed])


def print_table(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    """Print a table; what a value holds cannot style it or move the cursor."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numeric = column in ("rev", "rows", "age")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a file has no width: do not fold for one
    console.print(table)


def _write_csv(objects: Iterable[dict[str, Any]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for number, item in enumerate(objects):
        if number == 0:
            writer.writerow(item)
        writer.writerow([_show(value) for value in item.values()])
        sys.stdout.write(buffer.getvalue())
        buffer.seek(0)
        buffer.truncate()


def _show(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return _show_json(msgspec.Raw(msgspec.json.encode(value)))


def _show_json(value: msgspec.Raw) -> str:
    return bytes(value).decode()


def _printable(text: str) -> str:
    """Escape what is no visible character: a value may hold U+009B, a terminal's escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
