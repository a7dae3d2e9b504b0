"""The dispatch table: from a method's name to what decodes its parameters and handles it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from recordd.methods.caller import Caller
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import METHODS, Method

__all__ = ["Binding", "Handler", "bind"]

Handler = Callable[[Caller, Any], object]
"""Takes the caller and the typed parameters. Returns the result; or `Steps` to it, where it is
long work, which the connection's next requests wait for; an awaitable of it, where there is
something to wait for, beside which they go on; a `WriteRequest` for the writer, or the `Opening`
of a subscription.
Refuses with a `RequestError`."""


class Binding:
    """A method and its handler."""

    __slots__ = ("_decode", "handle", "is_query", "is_write", "method")

    def __init__(self, method: Method, handle: Handler) -> None:
        self.method: Final = method
        self.handle: Final = handle
        self.is_write: Final = method.is_write
        self.is_query: Final = method.is_query
        self._decode: Final = msgspec.json.Decoder(method.params).decode

    def decode_params(self, params: bytes | msgspec.Struct | RequestError) -> Any:
        """Return the typed parameters; those that are typed already as they are.

        Raises:
            RequestError: `invalid_params`, naming the parameter.
        """
        if not isinstance(params, bytes):
            if isinstance(params, RequestError):
                raise params
            return params
        try:
            return self._decode(params)
        except RecursionError:
            raise RequestError(Reason.INVALID_PARAMS, "params: nested too deep") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            text = str(error).replace("`$.", "`").replace("`$[...]", "params: `")
            raise RequestError(Reason.INVALID_PARAMS, text) from None


def bind(handlers: Mapping[str, Handler]) -> dict[str, Binding]:
    """Return the table; a method without a handler, or the other way round, is a mistake."""
    if unbound := METHODS.keys() ^ handlers.keys():
        raise AssertionError(f"methods and handlers differ: {sorted(unbound)}")
    return {name: Binding(METHODS[name], handler) for name, handler in handlers.items()}
