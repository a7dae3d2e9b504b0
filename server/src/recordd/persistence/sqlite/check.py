"""`recordd check`: a verdict on a database file, with its faults.

It never writes, and a running daemon is not disturbed. Exit codes: 0 sound, 1 damaged,
3 only the checksums are stale, which `recordd repair` mends; 78 no database of ours; 75 it
could not be read just now.
"""

from __future__ import annotations

import enum
import os
from typing import Final

import apsw
import msgspec

from recordd.extending.backend import BackendError
from recordd.persistence.sqlite import structure
from recordd.persistence.sqlite.copying import Progress, watch_progress
from recordd.persistence.sqlite.diagnosis import Diagnosis, diagnose_pages
from recordd.persistence.sqlite.files import (
    EX_TRY_AGAIN,
    FileError,
    open_database,
    raise_passing,
    telling,
)
from recordd.persistence.sqlite.mark import Mark, read_mark, refuse_odd_mark
from recordd.persistence.sqlite.salvage import Gap, read_around

__all__ = ["Report", "Verdict", "check_file", "describe_missing", "require_sound"]

_PAGES_NAMED: Final = 20


class Verdict(enum.IntEnum):
    """The verdict of a check; the values are exit codes."""

    SOUND = 0
    DAMAGED = 1
    STALE = 3


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of a check. `summary` is None where the tables cannot be read.

    `marked_rev` is how far acknowledged commits went, None where there is no mark. `problems`
    are lines for people; the lists hold page numbers.
    """

    path: str
    verdict: Verdict
    is_full: bool
    pages: int
    page_bytes: int
    stale_pages: list[int]
    flipped_pages: list[int]
    damaged_pages: list[int]
    problems: list[str]
    summary: structure.Summary | None
    marked_rev: int | None

    @property
    def has_only_flips(self) -> bool:
        """Whether known flipped bits are the only faults."""
        return bool(self.flipped_pages) and not self.stale_pages and not self.damaged_pages


def check_file(path: str, progress: Progress, *, is_full: bool) -> Report:
    """Check a database that may be in use: every page's checksum, and that it can be read.

    With `is_full` also SQLite's `integrity_check`, the log against the index both ways,
    the count of each record, and every value.

    Raises:
        FileError: there is no database of ours at the path.
    """
    with telling(path):
        if not os.path.exists(path):
            raise FileError(f"{path}: no such file")
        if not os.path.isfile(path) or not os.stat(path).st_size:
            raise FileError(f"{path}: not an SQLite database")
        _refuse_odd_mark(path)
        mark = read_mark(path)  # first: a daemon that runs goes on, the mark behind its commits
        diagnosis = diagnose_pages(path, progress)
        summary, problems = _check_content(path, diagnosis, progress, is_full=is_full)
    if summary is not None and mark is not None and (lack := describe_missing(mark, summary)):
        problems.append(lack)
    return Report(
        path=path,
        verdict=_judge(diagnosis, problems),
        is_full=is_full,
        pages=diagnosis.page_count,
        page_bytes=diagnosis.page_bytes,
        stale_pages=[fault.page for fault in diagnosis.stale],
        flipped_pages=[fault.page for fault in diagnosis.flipped],
        damaged_pages=[fault.page for fault in diagnosis.uncertain],
        problems=[*_describe_pages(diagnosis), *problems],
        marked_rev=None if mark is None else mark.rev,
        summary=summary,
    )


def _refuse_odd_mark(path: str) -> None:
    try:
        refuse_odd_mark(path)
    except BackendError as error:
        raise FileError(str(error)) from None


def require_sound(path: str, progress: Progress, *, may_be_stale: bool) -> structure.Summary:
    """Check a file in full, and return what it holds.

    Raises:
        FileError: it is not sound; stale checksums count only without `may_be_stale`.
    """
    report = check_file(path, progress, is_full=True)
    is_stale = report.verdict is Verdict.STALE
    if report.summary is None or not (
        report.verdict is Verdict.SOUND or (is_stale and may_be_stale)
    ):
        first = report.problems[0] if report.problems else "it cannot be read"
        raise FileError(f"{path}: {first}; run recordd repair --database {path}")
    return report.summary


def describe_missing(mark: Mark, summary: structure.Summary) -> str | None:
    """Return which commits a file lacks, as the mark beside it knows; another's knows nothing."""
    if mark.epoch != summary.epoch or mark.rev <= summary.rev:
        return None
    return f"the commits {summary.rev + 1} to {mark.rev} are missing, which were answered"


def _check_content(
    path: str, diagnosis: Diagnosis, progress: Progress, *, is_full: bool
) -> tuple[structure.Summary | None, list[str]]:
    """Read the tables, ignoring checksums: the pages have been judged already."""
    try:
        db = open_database(path, is_verified=False)
    except apsw.Error as error:
        raise FileError(f"{path}: {error}", EX_TRY_AGAIN) from error
    try:
        watch_progress(db, progress, "seconds of reading")
        db.execute("BEGIN")  # the close ends it; a COMMIT would repeat the error of a damaged page
        return _read_content(db, path, diagnosis, is_full=is_full)
    finally:
        db.close()


def _read_content(
    db: apsw.Connection, path: str, diagnosis: Diagnosis, *, is_full: bool
) -> tuple[structure.Summary | None, list[str]]:
    try:
        if (refusal := structure.check_ours(db)) is not None and not diagnosis.faults:
            raise FileError(f"{path}: {refusal}")
        if not diagnosis.has_checksums:
            return None, ["no page has a checksum: it was made by another SQLite"]
        summary = structure.summarize(db)
    except (apsw.Error, KeyError) as error:
        raise_passing(error)
        if isinstance(error, apsw.NotADBError) and not diagnosis.faults:
            raise
        return None, [f"the tables cannot be read: {error}", *_name_lost_rows(path)]
    # Only the whole file can show that stale checksums are its only fault.
    needs_all = is_full or any(diagnosis.stale)
    problems = structure.find_contradictions(db) if needs_all else []
    if (problems and diagnosis.stale) or diagnosis.uncertain:
        problems += _name_lost_rows(path)
    return summary, problems


def _name_lost_rows(path: str) -> list[str]:
    """Return which rows are on pages that cannot be trusted, up to a number of lines."""
    db = open_database(path)
    try:
        found = read_around(db, "SELECT rev, value FROM log WHERE rev >= ? ORDER BY rev")
        gaps = [row for row in found if isinstance(row, Gap)]
    except apsw.Error as error:
        raise_passing(error)
        return [f"the log cannot be read: {error}"]
    finally:
        db.close()
    lines = [f"log: rows with the revs {gap} cannot be read" for gap in gaps[:_PAGES_NAMED]]
    return (
        lines if len(gaps) <= _PAGES_NAMED else [*lines, f"log: and {len(gaps)} stretches in all"]
    )


def _judge(diagnosis: Diagnosis, problems: list[str]) -> Verdict:
    if problems or diagnosis.flipped or diagnosis.uncertain:
        return Verdict.DAMAGED
    return Verdict.STALE if diagnosis.stale else Verdict.SOUND


def _describe_pages(diagnosis: Diagnosis) -> list[str]:
    lines = []
    for faults, text in (
        (diagnosis.flipped, "with one flipped bit, which recordd repair puts right"),
        (diagnosis.uncertain, "with one flipped bit of several possible ones"),
        (diagnosis.stale, "whose checksum is stale: written by another SQLite, or damaged"),
    ):
        if faults:
            numbers = ", ".join(str(fault.page) for fault in faults[:_PAGES_NAMED])
            more = ", …" if len(faults) > _PAGES_NAMED else ""
            lines.append(f"{len(faults)} of {diagnosis.page_count} pages {text}: {numbers}{more}")
    return lines
