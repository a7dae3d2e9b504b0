"""Storage that refuses: what was asked of it took no effect, and can be asked again."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from recordd.conformance.suite import Suite
from recordd.conformance.support import (
    EVERYTHING,
    ask,
    ask_log,
    continue_from,
    ends,
    new_rows,
    revs,
    row,
    store,
)
from recordd.extending.backend import BackendError, PersistenceBackend
from recordd.extending.commit import Commit

__all__ = ["Refusals"]

_ROOM_BYTES: Final = (0, 100, 50_000)
"""Beyond the end of a file: none, less than a commit, and one commit but not two."""


class Refusals(Suite):
    """Files that cannot grow; a backend without files is not refused anything."""

    async def test_commits_that_are_refused_left_nothing_behind_and_can_be_applied_again(
        self, backend: PersistenceBackend, tmp_path: Path
    ) -> None:
        await store(backend, [row(1), row(2, "b")])
        large = row(5, "c", value=b'"%b"' % (b"x" * 200_000))
        commits: list[Commit] = [
            new_rows(backend, row(3)),
            ends(backend, b=4),
            new_rows(backend, large),
        ]
        for size in _sizes_in(tmp_path):
            try:
                with _no_file_longer_than(size):
                    await backend.apply(commits, 5)
            except BackendError:
                await _check(backend, [1, 2])
            else:
                break
        else:
            await backend.apply(commits, 5)
        await _check(backend, [1, 3, 5])
        if not self.is_durable:
            return
        await backend.close()
        again = self.make_backend(tmp_path)
        continue_from(again, await again.initialize())
        await _check(again, [1, 3, 5])
        await again.close()


async def _check(backend: PersistenceBackend, expected: list[int]) -> None:
    assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == expected
    assert revs((await backend.replay(EVERYTHING, ask_log(backend))).rows) == expected


def _sizes_in(folder: Path) -> list[int]:
    """Return where to stop the files of a folder: at their ends, and a little behind."""
    sizes = {file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    return sorted({size + room for size in {0, *sizes} for room in _ROOM_BYTES})


@contextlib.contextmanager
def _no_file_longer_than(size: int) -> Iterator[None]:
    """Refuse this process every write behind `size`: a real refusal, whatever makes it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
