"""The time that retention goes by: the system's, without its leaps.

A clock that is set wrong, three weeks ahead, would make rows of three weeks look outlived,
and a deleted row is gone. So retention keeps a time of its own, which survives restarts.
It follows the system's clock, also over small corrections. Where that clock is more than
`max_leap_ms` ahead of the time that is known to have passed, retention does not follow: its own
time goes on at twice the speed until it has caught up, or until the leap is confirmed.

A clock that jumped and a daemon that was off for weeks look the same from here. To believe the
leap at once would delete nearly everything in the first case; never to believe it would need a
person in the second. At twice the speed, a clock that is wrong for a day costs no more than a
day's rows, and three weeks off are caught up with in three weeks. Rejected: the times of new rows
as evidence. The same clock gives most of them.

A clock that is behind harms nothing: rows only look younger. Retention believes it once it has
stayed behind for `max_leap_ms`; a later leap back counts as a leap then.
"""

from __future__ import annotations

from typing import Final

from recordd.system.clock import Clock

__all__ = ["RetentionClock"]


class RetentionClock:
    """Retention's time. Read it now and then: the time between two readings is one step."""

    def __init__(self, clock: Clock, max_leap_ms: int) -> None:
        self._clock: Final = clock
        self._max_leap_ms: Final = max_leap_ms
        self._known_ms: int | None = None
        self._seen_ms = 0
        self._behind_ms = 0
        self.leap_ms = 0
        """The system clock's lead in a leap that is not believed; 0: there is none."""

    def resume(self, known_ms: int | None) -> None:
        """Go on from the time that was last remembered; None: no time was."""
        self._seen_ms = self._clock.elapsed_ms()
        self._known_ms = self._clock.wall_ms() if known_ms is None else known_ms
        self._follow(0)

    @property
    def known_ms(self) -> int:
        """The time to remember, and to resume from."""
        assert self._known_ms is not None, "resumed before it is read"
        return self._known_ms

    def read(self) -> int:
        """Return the time from which ages are counted; never ahead of the system's."""
        seen_ms = self._clock.elapsed_ms()
        passed_ms, self._seen_ms = seen_ms - self._seen_ms, seen_ms
        self._follow(passed_ms)
        return min(self.known_ms, self._clock.wall_ms())

    def confirm(self) -> int:
        """Believe the system's clock; return the length of its leap in ms."""
        leap_ms, self.leap_ms, self._behind_ms = self.leap_ms, 0, 0
        self._known_ms = self._clock.wall_ms()
        return leap_ms

    def _follow(self, passed_ms: int) -> None:
        wall_ms, expected_ms = self._clock.wall_ms(), self.known_ms + passed_ms
        self.leap_ms = 0
        if wall_ms > expected_ms + self._max_leap_ms:
            self._known_ms = min(expected_ms + passed_ms, wall_ms)
            self.leap_ms = wall_ms - self._known_ms
        else:
            self._known_ms = max(expected_ms, wall_ms)
        is_behind = wall_ms < self._known_ms - self._max_leap_ms
        self._behind_ms = self._behind_ms + passed_ms if is_behind else 0
        if self._behind_ms > self._max_leap_ms:
            self._known_ms, self._behind_ms = wall_ms, 0
