"""The dialects that a connection may speak, each with the settings that bound it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from recordd.config.settings import Settings
from recordd_protocol.aimx import Aimx
from recordd_protocol.dialect import Dialect
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc import JsonRpc

__all__ = ["DIALECTS", "Dialects", "make_dialects"]

Dialects = Mapping[Framing, Sequence[Dialect]]
"""Of each framing, in the order in which a message is offered to them."""


def make_aimx(framing: Framing, settings: Settings) -> Dialect:
    """Make AimX, whose answers have a limit of their own on the Unix socket."""
    # AimDB's browser client drops what is longer than others may be; its socket client takes
    # any length, and has no pages.
    is_line = framing is Framing.LINE
    max_bytes = settings.max_aimx_reply_bytes if is_line else settings.max_reply_bytes
    return Aimx(framing, max_reply_bytes=max_bytes)


def make_jsonrpc(framing: Framing, settings: Settings) -> Dialect:
    """Make JSON-RPC, which claims every message."""
    return JsonRpc(
        framing,
        max_reply_bytes=settings.max_reply_bytes,
        max_batch_calls=settings.max_batch_calls,
    )


DIALECTS: Final[tuple[Callable[[Framing, Settings], Dialect], ...]] = (make_aimx, make_jsonrpc)
"""In the order in which a message is offered to them; the last one takes every message, and
answers those that cannot be read."""


def make_dialects(settings: Settings) -> Dialects:
    """Make all of `DIALECTS`, once for every connection of a framing."""
    return {framing: [make(framing, settings) for make in DIALECTS] for framing in Framing}
