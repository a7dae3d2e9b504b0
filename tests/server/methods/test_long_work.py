"""Work in steps, gone through in turns."""

from __future__ import annotations

import pytest
import trio

from recordd.methods.long_work import go_through
from recordd.methods.outcome import Answer, Outcome
from recordd.system.turns import Steps, Work
from recordd_protocol.errors import Reason, RequestError
from tests.core_in_memory import CoreInMemory


def count(steps: int, at_step: int = -1, also: CoreInMemory | None = None) -> Steps[Outcome]:
    """Count up to `steps`; at one of them the daemon begins to stop."""
    for step in range(steps):
        if step == at_step and also is not None:
            also.core.connections.stop_reading()
        yield
    return Answer([steps])


async def test_it_comes_to_its_outcome(core: CoreInMemory) -> None:
    assert await go_through(core.core, Work(count(100_000))) == Answer([100_000])


async def test_a_stop_ends_it_in_the_middle(core: CoreInMemory) -> None:
    with trio.fail_after(10), pytest.raises(RequestError) as refused:
        await go_through(core.core, Work(count(1 << 40, at_step=3, also=core)))
    assert refused.value.reason is Reason.UNAVAILABLE
