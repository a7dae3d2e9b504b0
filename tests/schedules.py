"""Trio's schedules, chosen by a seed: a race that some order of tasks loses is found again."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import trio
from trio._core import _run

__all__ = ["run_with_seed"]

T = TypeVar("T")


def run_with_seed(seed: int, function: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run `function` under Trio, tasks that are ready together in an order that the seed decides.

    Trio itself only ever reverses a batch of them; for Hypothesis it shuffles, and so here.
    """
    with _shuffling(seed):
        return trio.run(function, *args)


@contextlib.contextmanager
def _shuffling(seed: int) -> Iterator[None]:
    was, _run._ALLOW_DETERMINISTIC_SCHEDULING = _run._ALLOW_DETERMINISTIC_SCHEDULING, True  # type: ignore[misc]
    state = _run._r.getstate()
    _run._r.seed(seed)
    try:
        yield
    finally:
        _run._r.setstate(state)
        _run._ALLOW_DETERMINISTIC_SCHEDULING = was  # type: ignore[misc]
