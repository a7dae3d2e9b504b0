"""Negative controls: the suite catches backends that are wrong in one thing each."""

from __future__ import annotations

import contextlib
import gc
import inspect
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recordd.conformance import BackendSuite
from recordd.conformance.suite import why_spared
from recordd.conformance.support import AS_OF
from recordd.extending.backend import (
    CleanupTarget,
    Loaded,
    PersistenceBackend,
    QueryParams,
    ReplayParams,
)
from recordd.extending.commit import Commit, Deletion
from recordd.extending.moments import Moment, Moments
from recordd.persistence.cursor import Cursor, encode
from recordd.persistence.memory import MemoryBackend
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Page, Row
from tests.server.backends import sqlite_options


class Hasty(MemoryBackend):
    """Shows what is committed behind the moment."""

    def take_moment(self, as_of: int) -> Moment:
        return super().take_moment(max(as_of, AS_OF))


class NewestFirst(MemoryBackend):
    """Gives rows the wrong way round."""

    async def _query(self, *args: Any) -> Page:
        page = await super()._query(*args)
        return Page(page.rows[::-1], rev=page.rev, epoch=page.epoch, next=page.next)


class Leaky(MemoryBackend):
    """Loses the last row of a page that is not the last."""

    def query(self, patterns: PatternSet, params: QueryParams) -> Coroutine[Any, Any, Page]:
        async def lose(answer: Awaitable[Page]) -> Page:
            page = await answer
            rows = page.rows[:-1] if page.next and len(page.rows) > 1 else page.rows
            return Page(rows, rev=page.rev, epoch=page.epoch, next=page.next)

        return lose(super().query(patterns, params))


class ByTime(MemoryBackend):
    """Replays by time instead of commit order."""

    async def replay(self, patterns: PatternSet, params: ReplayParams) -> Page:
        page = await super().replay(patterns, params)
        rows = sorted(page.rows, key=lambda row: row.order)
        return Page(rows, rev=page.rev, epoch=page.epoch, next=page.next)


class Undying(MemoryBackend):
    """Goes on to show what is deleted."""

    def _drop(self, rows: list[Row]) -> None:
        pass


class DeafMoments(Moments):
    """Takes note of nothing."""

    def note_deletion(self, *_: Any) -> None:
        pass

    def note_purge(self, *_: Any) -> None:
        pass


class Silent(MemoryBackend):
    """Leaves rows out that have gone, and says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._moments = DeafMoments()  # type: ignore[misc]


class Backwards(MemoryBackend):
    """Cleans up the newest first."""

    def _find_outlived(self, target: CleanupTarget) -> list[Row]:
        return super()._find_outlived(target)[::-1]


class Worldly(MemoryBackend):
    """Takes the `next` of any epoch for its own."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch = "one for all"  # type: ignore[misc]


class Undead(MemoryBackend):
    """Goes on when it is closed."""

    def _check_open(self) -> None:
        pass


class Impatient(MemoryBackend):
    """Applies the first of several commits."""

    async def apply(self, commits: Sequence[Commit], position: int) -> None:
        await super().apply(commits[:1], position)


class Punctual(MemoryBackend):
    """Takes every row for one that was the latest."""

    def _keep(self, rows: Sequence[Row]) -> None:
        super()._keep([Row(r.name, r.value, r.ts, r.rev) for r in rows])


class Forgetful(MemoryBackend):
    """Knows nothing of a query's limit on its later pages."""

    def query(self, patterns: PatternSet, params: QueryParams) -> Coroutine[Any, Any, Page]:
        if params.page_cursor is not None:
            params = msgspec.structs.replace(params, limit_per_record=None)
        return super().query(patterns, params)


class Circling(MemoryBackend):
    """Leads from each page to itself."""

    async def _query(self, patterns: PatternSet, params: QueryParams, after: Any) -> Page:
        page = await super()._query(patterns, params, after)
        following = page.next and (params.page_cursor or page.next)
        return Page(page.rows, rev=page.rev, epoch=page.epoch, next=following)


class Wordy(MemoryBackend):
    """Leads from the last page to an empty one."""

    async def _query(self, patterns: PatternSet, params: QueryParams, after: Any) -> Page:
        page = await super()._query(patterns, params, after)
        if not page.rows or page.next is not None:
            return page
        last = page.rows[-1]
        cursor = Cursor(last.ts, last.rev or 0, page.rev, params.moment.tick)
        following = encode(cursor, page.epoch)
        return Page(page.rows, rev=page.rev, epoch=page.epoch, next=following)


class Modern(MemoryBackend):
    """Says of each page that it shows the present."""

    async def _query(self, patterns: PatternSet, params: QueryParams, after: Any) -> Page:
        page = await super()._query(patterns, params, after)
        rev = params.moment.as_of
        return Page(page.rows, rev=rev, epoch=page.epoch, next=page.next)


class Belated(MemoryBackend):
    """Takes for a page's moment the time at which it is read."""

    async def _query(self, patterns: PatternSet, params: QueryParams, after: Any) -> Page:
        moment = Moment(params.moment.as_of, self._moments.tick)
        params = msgspec.structs.replace(params, moment=moment)
        return await super()._query(patterns, params, after)


class Shouting(MemoryBackend):
    """Knows no small letters."""

    def _delete(self, deletion: Deletion) -> None:
        for name in {row.name for row in self._log.values()}:
            if name.upper() == deletion.name.upper():
                super()._delete(msgspec.structs.replace(deletion, name=name))


def failures_of(
    make: Callable[[], PersistenceBackend], folder: Path, names: str = "test_"
) -> set[str]:
    """Return the tests of the suite, of those so called, that a backend does not pass."""

    class Suite(BackendSuite):
        is_durable = False

        def make_backend(self, folder: Path) -> PersistenceBackend:
            return make()

    failed = set()
    with warnings.catch_warnings(), _collecting_at_the_end():
        # A test that fails leaves the answers behind that it did not come to await.
        warnings.simplefilter("ignore", RuntimeWarning)
        for name, test in inspect.getmembers(Suite, inspect.isfunction):
            if name.startswith(names) and why_spared(Suite(), test, make()) is None:
                (folder / name).mkdir()
                if not _passes(Suite(), test, folder / name):
                    failed.add(name)
    return failed


@contextlib.contextmanager
def _collecting_at_the_end() -> Iterator[None]:
    """Let what is left behind go here: not in the test behind, nor where Python cannot warn."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def _passes(suite: BackendSuite, test: Callable[..., Any], folder: Path) -> bool:
    import trio

    async def run() -> None:
        backend = suite.make_backend(folder)
        await backend.initialize()
        given = {"backend": backend, "tmp_path": folder}
        wanted = list(inspect.signature(test).parameters)[1:]
        await test(suite, **{name: given[name] for name in wanted})

    try:
        trio.run(run)
    except (Exception, pytest.fail.Exception):
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "caught_by"),
    [
        (Hasty, "test_no_answer_shows_a_row_after_its_moment"),
        (NewestFirst, "test_rows_of_several_records_come_in_time_order"),
        (Leaky, "test_pages_join_without_gap_or_repeat"),
        (ByTime, "test_replay_is_the_log_in_commit_order"),
        (Undying, "test_a_deleted_record_is_gone_and_its_name_starts_anew"),
        (Silent, "test_readers_from_before_a_deletion_see_every_row_or_are_refused"),
        (Silent, "test_a_page_is_refused_when_rows_that_were_to_come_are_cleaned_up"),
        (Backwards, "test_cleanup_takes_what_is_ahead_of_a_time_oldest_first"),
        (Worldly, "test_what_is_no_next_of_ours_is_refused"),
        (Undead, "test_a_closed_backend_says_so"),
        (Impatient, "test_commits_that_are_applied_together_take_effect_in_their_order"),
        (Punctual, "test_a_late_row_is_history_as_any_other"),
        (Forgetful, "test_the_limit_and_the_range_hold_on_all_pages"),
        (Circling, "test_pages_join_without_gap_or_repeat"),
        (Wordy, "test_a_page_that_is_the_last_has_no_next"),
        (Modern, "test_every_page_says_which_moment_it_shows"),
        (Belated, "test_a_page_that_is_read_late_is_whole_from_its_moment_on"),
        (Shouting, "test_names_differ_by_every_character"),
    ],
)
def test_a_backend_that_is_wrong_is_caught(
    tmp_path: Path, kind: Callable[[], PersistenceBackend], caught_by: str
) -> None:
    assert failures_of(kind, tmp_path, caught_by) == {caught_by}


class Amnesiac(SqliteBackend):
    """Says something else of what it finds at a start."""

    change: Callable[[Loaded], dict[str, Any]]

    async def initialize(self) -> Loaded:
        loaded = await super().initialize()
        return msgspec.structs.replace(loaded, **type(self).change(loaded))


@pytest.mark.parametrize(
    ("change", "caught_by"),
    [
        (lambda found: {"position": 0}, "test_what_was_stored_is_there_after_a_restart"),
        (
            lambda found: {"next_record_id": len(found.records)},
            "test_ids_and_the_position_go_on_where_they_were",
        ),
        (
            lambda found: {"records": sorted(found.records, key=lambda r: r.latest.name)},
            "test_ids_and_the_position_go_on_where_they_were",
        ),
        (
            lambda found: {"deletions": found.deletions[::-1]},
            "test_deletions_come_oldest_first_and_of_each_name_the_newest",
        ),
    ],
)
async def test_a_backend_that_starts_wrong_is_caught(
    tmp_path: Path, change: Callable[[Loaded], dict[str, Any]], caught_by: str
) -> None:
    kind = type("Wrong", (Amnesiac,), {"change": staticmethod(change)})

    class Suite(BackendSuite):
        def make_backend(self, folder: Path) -> PersistenceBackend:
            backend: PersistenceBackend = kind(sqlite_options(folder / "test.db"))
            return backend

    with pytest.raises(AssertionError):
        await getattr(Suite(), caught_by)(tmp_path)


def test_the_backend_that_they_are_made_of_passes(tmp_path: Path) -> None:
    assert failures_of(MemoryBackend, tmp_path) == set()


def test_every_test_of_the_suite_is_a_sentence_of_one_backend() -> None:
    names = [name for name in dir(BackendSuite) if name.startswith("test_")]
    assert len(names) > 30
    for name in names:
        given = list(inspect.signature(getattr(BackendSuite, name)).parameters)
        assert set(given) <= {"self", "backend", "tmp_path"}, name
