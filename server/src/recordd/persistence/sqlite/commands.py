"""The sub-commands over a database file: backup, restore, check, repair, compact.

Synchronous programs beside the daemon. Exit codes: 0 done, nothing lost; 1 damage or loss
(`check` found some, `repair` lost something, what `backup` copied lacks commits, and each says
what); 3 `check` found only stale checksums, which `repair` mends; 75 it may go better another
time (a full disk, a running daemon); 78 another try ends the same; 130 and 143 ended by SIGINT
and SIGTERM, with nothing half done.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import msgspec

from recordd.persistence.sqlite.backup import back_up
from recordd.persistence.sqlite.check import Report, Verdict, check_file
from recordd.persistence.sqlite.files import EX_REFUSED, EX_TRY_AGAIN, FileError, telling
from recordd.persistence.sqlite.mark import mark_path
from recordd.persistence.sqlite.repair import compact, repair
from recordd.persistence.sqlite.restore import restore
from recordd.system.file_lock import is_file_locked
from recordd.system.passing import PassingError
from recordd_protocol.errors import RecorddError

__all__ = ["COMMANDS", "add_arguments", "run_file_command"]

_QUIET_S: Final = 1.0
"""A faster step needs no words on the way."""

_LINE_EVERY_S: Final = 5.0
_REDRAW_EVERY_S: Final = 0.1


def add_arguments(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command beside `--config` and `--database`."""
    if command == "backup":
        parser.add_argument(
            "destination", metavar="DEST", help="a file, or a folder for a dated one"
        )
        parser.add_argument("--force", action="store_true", help="replace a file that is there")
    elif command == "restore":
        parser.add_argument("source", metavar="SRC", help="a backup, or any copy of a database")
    elif command == "check":
        parser.add_argument("--full", action="store_true", help="also structure, index and values")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")
    elif command == "repair":
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def run_file_command(options: argparse.Namespace, database: str) -> int:
    """Run one of `COMMANDS`; return its exit code."""
    _, function = COMMANDS[options.command]
    database = os.path.realpath(database)  # a link is not another database
    with _ending_on_signals(), _Progress(options.command) as progress:
        try:
            return function(options, database, progress)
        except RecorddError as error:
            progress.clear()
            print(f"recordd: {error}", file=sys.stderr)
            return _exit_code_of(error)
        except _Ended as ended:
            progress.clear()
            print(f"recordd: {options.command} given up", file=sys.stderr)
            return 128 + ended.number


def _exit_code_of(error: RecorddError) -> int:
    if isinstance(error, FileError):
        return error.exit_code
    return EX_TRY_AGAIN if isinstance(error, PassingError) else EX_REFUSED


class _Ended(BaseException):
    """A signal ends the command; not an error, so that nobody handles it as one."""

    def __init__(self, number: int) -> None:
        self.number: Final = number


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise _Ended(number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """Tells on stderr how far a long command is: one rewritten line, or a line now and then."""

    def __init__(self, command: str) -> None:
        self._command: Final = command
        self._is_terminal: Final = sys.stderr.isatty()
        self._next_at = time.monotonic() + _QUIET_S
        self._is_drawn = False

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show a step, if it is time; a `Progress`."""
        now = time.monotonic()
        if now < self._next_at:
            return
        share = f" of {total} ({100 * done // total} %)" if total else ""
        text = f"{self._command}: {done}{share} {what}"
        self._next_at = now + (_REDRAW_EVERY_S if self._is_terminal else _LINE_EVERY_S)
        self._is_drawn = self._is_terminal
        end = "" if self._is_terminal else "\n"
        print(
            f"\r\x1b[K{text}" if self._is_terminal else text, end=end, file=sys.stderr, flush=True
        )

    def clear(self) -> None:
        """Take the line away before another is printed."""
        if self._is_drawn:
            self._is_drawn = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _run_backup(options: argparse.Namespace, database: str, progress: _Progress) -> int:
    _refuse_alias(database)
    made = back_up(database, options.destination, progress, replaces=options.force)
    progress.clear()
    print(f"{made.path}: {made.rows} rows, rev {made.rev}, {made.bytes} bytes")
    if made.missing is not None:
        print(f"recordd: {database}: {made.missing}, here and in the copy", file=sys.stderr)
    return 0 if made.missing is None else 1


def _refuse_alias(database: str) -> None:
    """Refuse to read a file that is in use by another of its names, beside which its WAL is.

    Without that, pages of different moments would be read. A daemon that runs has its mark
    beside the name that it goes by.

    Raises:
        FileError: it is.
    """
    with telling(database):
        if (
            os.path.isfile(database)
            and not os.path.lexists(mark_path(database))
            and is_file_locked(database)
        ):
            text = "another process has this database open, it seems under another name: use that"
            raise FileError(f"{database}: {text}", EX_TRY_AGAIN)


def _run_restore(options: argparse.Namespace, database: str, progress: _Progress) -> int:
    made = restore(database, options.source, progress)
    if made.set_aside is not None:
        print(f"the database from before is {made.set_aside}")
    print(f"{made.path}: {made.rows} rows, rev {made.rev}, new epoch {made.epoch}")
    return 0


def _run_check(options: argparse.Namespace, database: str, progress: _Progress) -> int:
    _refuse_alias(database)
    report = check_file(database, progress, is_full=options.full)
    progress.clear()
    if options.json:
        print(msgspec.json.encode(_as_json(report)).decode())
    else:
        _print_report(report)
    return report.verdict


def _run_repair(options: argparse.Namespace, database: str, progress: _Progress) -> int:
    made = repair(database, progress, is_dry_run=options.dry_run)
    progress.clear()
    would = "would be done: " if options.dry_run else ""
    for line in made.done:
        print(f"{would}{line}")
    for line in made.losses:
        print(f"lost: {line}")
    if made.set_aside is not None:
        print(f"the damaged database is {made.set_aside}")
    if not made.done and not made.losses:
        print(f"{database}: sound, nothing to repair")
    return 1 if made.losses else 0


def _run_compact(options: argparse.Namespace, database: str, progress: _Progress) -> int:
    before, after = compact(database, progress)
    print(f"{database}: {before} bytes before, {after} bytes now")
    return 0


def _print_report(report: Report) -> None:
    for line in report.problems:
        print(line)
    if (held := report.summary) is not None:
        print(f"{held.rows} rows of {held.records} records up to rev {held.rev}")
    depth = "in full" if report.is_full else "pages and tables; --full looks at all"
    verdict = _VERDICTS[report.verdict]
    if report.verdict is Verdict.DAMAGED and report.has_only_flips:
        verdict = "damaged by flipped bits; 'recordd repair' puts them right without loss"
    print(f"{report.path}: {verdict} ({report.pages} pages, checked {depth})")


def _as_json(report: Report) -> dict[str, object]:
    return {**msgspec.to_builtins(report), "verdict": report.verdict.name.lower()}


_VERDICTS: Final = {
    Verdict.SOUND: "sound",
    Verdict.DAMAGED: "damaged; 'recordd repair' saves what can be read",
    Verdict.STALE: (
        "sound but for stale checksums, as another SQLite leaves them; 'recordd repair' makes"
        " them anew. If none wrote the file, a value on those pages may be changed"
    ),
}

_Command = Callable[[argparse.Namespace, str, _Progress], int]

COMMANDS: Final[dict[str, tuple[str, _Command]]] = {
    "backup": ("copy the database, of a running daemon or a stopped one", _run_backup),
    "restore": ("put a copy in the database's place; the present one is set aside", _run_restore),
    "check": ("tell whether the database is sound", _run_check),
    "repair": ("mend the database of a stopped daemon, or save what can be read", _run_repair),
    "compact": ("give the database's free space back; the daemon is stopped", _run_compact),
}
