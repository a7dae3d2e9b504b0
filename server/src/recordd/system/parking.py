"""Where tasks wait for something that mostly nobody waits for."""

from __future__ import annotations

import trio

__all__ = ["SpareLot"]


class SpareLot:
    """A `trio.lowlevel.ParkingLot` that is made when the first task parks.

    A lot takes 230 bytes, and an idle connection would have six of them.
    """

    __slots__ = ("_lot",)

    def __init__(self) -> None:
        self._lot: trio.lowlevel.ParkingLot | None = None

    async def park(self) -> None:
        """Wait until somebody unparks all. Cancelled, it waits no more."""
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        await self._lot.park()

    def unpark_all(self) -> None:
        """Let all go on who wait."""
        if self._lot is not None:
            self._lot.unpark_all()
