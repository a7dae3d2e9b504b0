"""Output of the commands: tables for people; JSON, NDJSON and CSV for pipes."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from recordd_client.cli.times import format_time
from recordd_client.following import Update
from recordd_client.rows import Row

__all__ = ["FORMATS", "STREAM_FORMATS", "print_objects", "print_rows", "print_updates"]

FORMATS: Final = ("table", "json", "ndjson", "csv")
STREAM_FORMATS: Final = ("text", "ndjson", "csv")


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


def print_updates(updates: Iterable[Update[msgspec.Raw]], format: str) -> None:
    """Print updates as they come, each at once."""
    if format == "text":
        for update in updates:
            sys.stdout.write(_show_update(update) + "\n")
            sys.stdout.flush()
    else:
        for lines in _encode_stream(map(_to_object, updates), format):
            sys.stdout.write(lines)
            sys.stdout.flush()


def print_objects(objects: Iterable[dict[str, Any]], format: str) -> None:
    """Print objects with the same keys; in CSV and tables, arrays and objects are JSON."""
    write = sys.stdout.write
    if format == "json":
        write(msgspec.json.format(msgspec.json.encode(list(objects)).decode(), indent=2) + "\n")
    elif format in STREAM_FORMATS:
        for lines in _encode_stream(objects, format):
            write(lines)
    else:
        listed = list(objects)
        columns = list(listed[0]) if listed else []
        print_table(columns, [[_show(item[column]) for column in columns] for item in listed])


def print_table(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    """Print a table; no value can style it or move the cursor."""
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


def _encode_stream(objects: Iterable[dict[str, Any]], format: str) -> Iterator[str]:
    """Yield each object as NDJSON or CSV, a header before the first where there is one."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for number, item in enumerate(objects):
        if format == "ndjson":
            yield msgspec.json.encode(item).decode() + "\n"
            continue
        if number == 0:
            writer.writerow(item)
        writer.writerow([_show(value) for value in item.values()])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _to_object(update: Update[msgspec.Raw]) -> dict[str, Any]:
    return {
        "name": update.name,
        "value": update.value,
        "ts": update.ts,
        "rev": update.rev,
        "flags": _flags_of(update),
    }


def _show_update(update: Update[msgspec.Raw]) -> str:
    value = "-" if update.value is None else _printable(_show_json(update.value))
    notes = f"  ({', '.join(flags)})" if (flags := _flags_of(update)) else ""
    return f"{format_time(update.ts)}  {update.name}  {value}{notes}"


def _flags_of(update: Update[msgspec.Raw]) -> list[str]:
    flags = [flag for flag in ("snapshot", "late", "deleted") if getattr(update, flag)]
    return flags + [f"{update.skipped} skipped"] * (update.skipped > 0)


def _show(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return _show_json(msgspec.Raw(msgspec.json.encode(value)))


def _show_json(value: msgspec.Raw) -> str:
    return bytes(value).decode()


def _printable(text: str) -> str:
    """Escape invisible characters: a value may hold U+009B, a terminal's escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
