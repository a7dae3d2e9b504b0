"""When a follower connects again, and when it gives up: the one rule of both clients.

Pure: the clients report events with their times, and do the waiting.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from recordd_client.errors import ClientError, Refused

__all__ = ["Reconnecting"]

_SHORTEST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 5.0

_STEADY_S: Final = 1.0
"""A subscription that held this long was a success: the next wait is the shortest again.

An attempt alone is none, nor is an answer: a daemon that takes each subscription and then
ends the connection would be asked fourteen times a second. The first event cannot be the sign
either: a record may be quiet for days.
"""


class Reconnecting:
    """Waits between the attempts of one follower: exponential, with jitter, bounded."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        """Why there are no more attempts; each later wait for an update raises it again."""
        self._waits = _make_waits()
        self._was_ever_open = False
        self._opened_at_s: float | None = None

    def note_subscribed(self, now_s: float) -> None:
        """Note that the daemon has taken the subscription."""
        self._was_ever_open = True
        self._opened_at_s = now_s

    def give_up(self, failure: Exception) -> None:
        """Make no other attempt."""
        self.failure = failure

    def note_lost(self, failure: Exception, now_s: float) -> float | None:
        """Note that a connection, or an attempt, has ended; return the seconds to wait.

        None: there is no other attempt, and `failure` says why. It would come to the same, or
        the daemon never took the subscription.
        """
        if self.failure is None and (_is_lasting(failure) or not self._was_ever_open):
            self.give_up(failure)
        if self.failure is not None:
            return None
        if self._opened_at_s is not None and now_s - self._opened_at_s >= _STEADY_S:
            self._waits = _make_waits()
        self._opened_at_s = None
        return next(self._waits)


def _is_lasting(failure: Exception) -> bool:
    """Tell whether another attempt would come to the same."""
    if isinstance(failure, Refused):
        return not failure.retryable
    return not isinstance(failure, ClientError)


def _make_waits() -> Iterator[float]:
    wait_s = _SHORTEST_WAIT_S
    while True:
        yield wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - it keeps clients apart
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
