"""When a peer counts as idle: it neither asks nor follows, and waits for no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import trio

from recordd.system.reminders import Reminders

__all__ = ["IdleWatch", "Watched"]


class Watched(Protocol):
    """What is looked at."""

    active_at: float
    """When it last did something, by Trio's clock."""

    @property
    def is_busy(self) -> bool:
        """Whether something of it is under way, for however long."""


class IdleWatch:
    """Looks whether something was asked, or is under way, when that may be `timeout_s` ago."""

    __slots__ = ("_on_idle", "_reminder", "_reminders", "_timeout_s", "_watched")

    def __init__(
        self,
        watched: Watched,
        timeout_s: float,
        reminders: Reminders,
        on_idle: Callable[[], None],
    ) -> None:
        """Call `on_idle` once, when neither was the case for so long."""
        self._watched: Final = watched
        self._timeout_s: Final = timeout_s
        self._reminders: Final = reminders
        self._on_idle: Final = on_idle
        self._reminder = reminders.add(watched.active_at + timeout_s, self._look)

    def stop(self) -> None:
        """Look no more."""
        self._reminders.drop(self._reminder)

    def _look(self) -> None:
        now, watched = trio.current_time(), self._watched
        if watched.is_busy:
            watched.active_at = now
        if (due := watched.active_at + self._timeout_s) > now:
            self._reminder = self._reminders.add(due, self._look)
        else:
            self._on_idle()
