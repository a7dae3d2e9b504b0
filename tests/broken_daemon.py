"""Daemons that break a promise on purpose: suites must flag them. `VARIANT serve …`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import msgspec

from recordd.cli import main
from recordd.extending.backend import Loaded
from recordd.hub.hub import Hub
from recordd.methods import writing
from recordd.persistence.sqlite import commands, standing, statements
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.database_lock import DatabaseLock
from recordd.persistence.sqlite.files import Partial
from recordd_protocol import aimx, jsonrpc, values
from tests.daemon_process import DaemonProcess


class BrokenDaemon(DaemonProcess):
    """A daemon of one of the variants."""

    def __init__(self, variant: str, folder: Path, *flags: str, **environment: str) -> None:
        super().__init__(folder, *flags, **environment)
        self.command = (sys.executable, "-m", "tests.broken_daemon", variant)


def round_numbers() -> None:
    """Keep values as Python prints them, every number a double."""
    check_value = values.check_value

    def check_and_print(value: bytes, **limits: Any) -> bytes:
        checked = check_value(value, **limits)
        parsed = json.loads(checked, parse_int=float)
        return json.dumps(parsed, ensure_ascii=False).encode()

    writing.check_value = check_and_print  # type: ignore[attr-defined]


def take_anything() -> None:
    """Store what is JSON by its grammar alone, on one line."""
    writing.check_value = lambda value, **_: value.replace(b"\n", b" ")  # type: ignore[attr-defined]


def mend_nothing() -> None:
    """Leave messages unread that hold what msgspec cannot read."""
    for module in (aimx, jsonrpc):
        module.mend = lambda message: message  # type: ignore[attr-defined]


def answer_before_commit() -> None:
    """Commit only now and then; what is answered meanwhile is in memory."""
    waiting: list[tuple[Any, Any]] = []
    insert_rows = statements.insert_rows

    def insert_later(db: apsw.Connection, records: Any, rows: Any) -> None:
        waiting.append((records, rows))
        if len(waiting) == 20:
            for batch in waiting:
                insert_rows(db, *batch)
            waiting.clear()

    statements.insert_rows = insert_later


def leave_at_once() -> None:
    """Stop without closing the database."""

    async def leave(_: SqliteBackend) -> None:
        os._exit(0)

    SqliteBackend.close = leave  # type: ignore[method-assign,assignment]


def lock_names() -> None:
    """Lock the name of a database alone, and know of no other names."""
    standing.describe_other_names = lambda database: None  # type: ignore[attr-defined]
    DatabaseLock.hold_file = lambda self: None  # type: ignore[method-assign]
    commands.is_file_locked = lambda path: False  # type: ignore[attr-defined]


def leave_partials() -> None:
    """Leave behind what a command that failed has made."""
    Partial.__exit__ = lambda self, *_: None  # type: ignore[method-assign]


def forget_names() -> None:
    """Know after a restart that records were deleted, and not which."""
    restore = Hub.restore

    def restore_less(self: Hub, loaded: Loaded) -> None:
        rev = max([rev for _, rev in loaded.deletions], default=loaded.deleted_rev)
        restore(self, msgspec.structs.replace(loaded, deletions=[], deleted_rev=rev))

    Hub.restore = restore_less  # type: ignore[method-assign]


def forget_deletions() -> None:
    """Know after a restart of no deletion."""
    restore = Hub.restore

    def restore_less(self: Hub, loaded: Loaded) -> None:
        restore(self, msgspec.structs.replace(loaded, deletions=[]))

    Hub.restore = restore_less  # type: ignore[method-assign]


VARIANTS: dict[str, Callable[[], None]] = {
    "round-numbers": round_numbers,
    "take-anything": take_anything,
    "mend-nothing": mend_nothing,
    "answer-before-commit": answer_before_commit,
    "leave-at-once": leave_at_once,
    "lock-names": lock_names,
    "leave-partials": leave_partials,
    "forget-names": forget_names,
    "forget-deletions": forget_deletions,
}


if __name__ == "__main__":
    VARIANTS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
