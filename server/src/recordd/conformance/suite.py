"""What the parts of the suite share: how a backend is made, and which tests it is spared."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import pytest

from recordd.extending.backend import PersistenceBackend

__all__ = ["Suite", "have", "needs", "needs_durability", "why_spared"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_NEEDED: Final = "needed_capability"
_DURABLE: Final = "needs_durability"


@pytest.mark.trio
class Suite:
    """A part of the suite; its tests are given an empty backend that is initialized."""

    is_durable: ClassVar[bool] = True
    """Whether a second backend in the same folder has what the first one stored."""

    def make_backend(self, folder: Path) -> PersistenceBackend:
        """Make a backend that keeps everything in a folder; nothing is opened yet."""
        raise NotImplementedError("a subclass says how to make its backend")

    @pytest.fixture(autouse=True)
    def _spare(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        """Skip what the backend need not do. Not in the test: pytest-trio would drop the reason."""
        reason = why_spared(self, request.function, self.make_backend(tmp_path))
        if reason is not None:
            pytest.skip(reason)

    @pytest.fixture
    async def backend(self, tmp_path: Path) -> AsyncIterator[PersistenceBackend]:
        """Return an empty backend, closed behind the test."""
        backend = self.make_backend(tmp_path)
        await backend.initialize()
        yield backend
        await backend.close()


def needs(kind: type) -> Callable[[F], F]:
    """Mark a test as one of a capability."""

    def mark(function: F) -> F:
        setattr(function, _NEEDED, kind)
        return function

    return mark


def needs_durability(function: F) -> F:
    """Mark a test as one of backends that keep their rows over a restart."""
    setattr(function, _DURABLE, True)
    return function


def why_spared(suite: Suite, test: Callable[..., Any], backend: PersistenceBackend) -> str | None:
    """Return why a backend need not pass a test, None where it has to."""
    kind = getattr(test, _NEEDED, None)
    if kind is not None and not isinstance(backend, kind):
        about = (kind.__doc__ or "").partition("\n")[0].partition(":")[0].rstrip(".")
        return f"{type(backend).__name__} has no {kind.__name__} ({about})"
    if getattr(test, _DURABLE, False) and not suite.is_durable:
        return "is_durable is False: nothing survives a restart"
    return None


def have(backend: PersistenceBackend, kind: type[T]) -> T:
    """Return the backend as what a test that needs it was promised."""
    assert isinstance(backend, kind)
    return backend
