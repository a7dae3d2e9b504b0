"""What a handler comes to: one of a few classes, by which the front knows how to go on."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, Protocol, final, runtime_checkable

import msgspec

from recordd.following.opening import Opening
from recordd.methods.listing import Listing
from recordd.system.turns import Steps
from recordd.writing.requests import WriteRequest
from recordd_protocol.dialect import Result

__all__ = ["Answer", "Handled", "Later", "Outcome"]


@final
class Answer(msgspec.Struct, frozen=True, gc=False):
    """The result is there."""

    result: Result


@runtime_checkable
class _Closeable(Protocol):
    def close(self) -> None: ...


class Later:
    """The result has to be waited for; the connection's next requests go on meanwhile."""

    __slots__ = ("result",)

    def __init__(self, result: Awaitable[Result]) -> None:
        self.result: Final = result

    def close(self) -> None:
        """Give it up: a coroutine that nobody awaits wants to be told."""
        if isinstance(self.result, _Closeable):
            self.result.close()


Outcome = Answer | Listing | Later | WriteRequest | Opening
"""An answer that is there; one that is built in turns; one that comes later; a write for the
writer; a subscription to be opened."""

Handled = Outcome | Steps[Outcome]
"""An outcome, or long work in steps, which the connection's next requests wait for."""
