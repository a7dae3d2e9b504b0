"""Work that a handler does in steps: gone through in turns, whoever called."""

from __future__ import annotations

from recordd.core import Core
from recordd.methods.outcome import Outcome
from recordd.system.turns import Work
from recordd_protocol.errors import Reason, RequestError

__all__ = ["go_through"]


async def go_through(core: Core, work: Work[Outcome]) -> Outcome:
    """Go on with long work, a turn at a time, and return what it came to.

    Raises:
        RequestError: what the work refuses; `unavailable` when the daemon stops meanwhile.
    """
    await core.turns.next()
    while not work.advance():
        if core.connections.is_stopping:
            raise RequestError(Reason.UNAVAILABLE, "the daemon is shutting down")
        await core.turns.next()
    return work.result
