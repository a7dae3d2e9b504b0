"""When a peer counts as idle: it neither asks nor follows, and waits for no answer."""

from __future__ import annotations

from typing import Protocol

import trio

__all__ = ["Watched", "wait_idle"]


class Watched(Protocol):
    """What is looked at."""

    active_at: float
    """When it last did something, by Trio's clock."""

    @property
    def is_busy(self) -> bool:
        """Whether something of it is under way, for however long."""


async def wait_idle(watched: Watched, timeout_s: float) -> None:
    """Return once nothing was asked, and nothing was under way, for `timeout_s`."""
    while (rest_s := watched.active_at + timeout_s - trio.current_time()) > 0:
        await trio.sleep(rest_s)
        if watched.is_busy:
            watched.active_at = trio.current_time()
