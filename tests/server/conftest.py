"""Fixtures for the daemon's parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.backends import FullBackend, make_full_backend, sqlite_options


@pytest.fixture(params=["sqlite", "memory"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FullBackend]:
    """An empty backend, found by its entry point as the daemon finds it."""
    options = sqlite_options(tmp_path / "test.db", tail_rows=8)
    backend = make_full_backend(request.param, options)
    await backend.initialize()
    yield backend
    await backend.close()
