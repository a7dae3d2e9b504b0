"""The methods that follow records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from recordd.following.opening import Opening
from recordd.methods.caller import Caller
from recordd.methods.dispatch import Handler
from recordd.methods.outcome import Answer
from recordd.methods.reading import find_record
from recordd.system.turns import Steps
from recordd_protocol.aimx_params import Follow
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import check_integer
from recordd_protocol.methods import Subscribe, Unsubscribe, Unsubscribed
from recordd_protocol.patterns import compile_pattern

__all__ = ["HANDLERS"]


def subscribe(caller: Caller, params: Subscribe) -> Steps[Opening]:
    """Say what is to be followed; the session opens it and answers."""
    caller.need_subscriptions()
    check_integer("after", params.after)
    pattern = compile_pattern(params.name)
    if isinstance(params, Follow) and params.must_exist and pattern.is_exact:
        find_record(caller.core.hub, params.name)
    caller.core.hub.catalogue.check_readable(pattern.matches)
    if params.snapshot or params.after is not None:
        yield from caller.core.hub.catalogue.prepare_snapshot(pattern)
    return Opening(
        pattern=pattern,
        snapshot=params.snapshot,
        after_rev=params.after,
        epoch=params.epoch,
        every=params.delivery == "every",
        late=not isinstance(params, Follow),
    )


def unsubscribe(caller: Caller, params: Unsubscribe) -> Answer:
    """End a subscription of this connection."""
    if not caller.need_subscriptions().close(params.subscription):
        text = f"there is no subscription {params.subscription[:100]!r} on this connection"
        raise RequestError(Reason.NOT_FOUND, text)
    return Answer(Unsubscribed())


HANDLERS: Final[Mapping[str, Handler]] = {
    "record.subscribe": subscribe,
    "record.unsubscribe": unsubscribe,
}
