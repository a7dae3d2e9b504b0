"""What becomes of an outcome that nobody waits for any more."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import trio

from recordd.methods.outcome import Later
from recordd_protocol.rows import Row


class Found:
    """An awaitable that is no coroutine: it has nothing to give up."""

    def __await__(self) -> Generator[Any, Any, Row]:
        yield from trio.lowlevel.checkpoint().__await__()
        return Row("a", b"1", 5, 1)


async def test_what_comes_later_may_be_any_awaitable_and_is_given_up_without_a_warning() -> None:
    async def find() -> Row:
        return Row("a", b"1", 5, 1)

    for awaitable in (Found(), find()):
        later = Later(awaitable)
        later.close()
    assert isinstance(await Later(Found()).result, Row)
