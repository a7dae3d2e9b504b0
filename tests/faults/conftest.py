"""Where the storage suites keep their files, and which of their tests are for `make faults`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

IS_WHOLE = "RECORDD_FAULTS" in os.environ
"""Whether all tests of these suites are to run, which takes minutes; `make test` runs a few."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not IS_WHOLE and item.get_closest_marker("faults"):
        pytest.skip("RECORDD_FAULTS is not set")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, where there is such: what is tested is not this machine's disk."""
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="recordd-", dir=shared) as path:
        yield Path(path)
