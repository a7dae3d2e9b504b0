"""Free memory goes back to the system, where the C library can."""

import ctypes

import pytest

from recordd.system.memory import give_back


class Glibc:
    """A C library that notes what it is asked to keep."""

    def __init__(self) -> None:
        self.kept: list[int] = []

    def malloc_trim(self, keep: int) -> int:
        self.kept.append(keep)
        return 1


def test_all_that_is_free_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Glibc()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    give_back()
    assert library.kept == [0]


def test_a_library_without_that_call_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    give_back()


def test_the_library_that_there_is_takes_the_call() -> None:
    give_back()
