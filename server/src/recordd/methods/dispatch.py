"""The dispatch table: from a method's name to what decodes its parameters and handles it.

The table itself is in `recordd.methods.table`; a core gets it when it is built, so that a
front finds it there and knows no handler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from recordd.extending.extensions import Extensions
from recordd.methods.caller import Caller
from recordd.methods.outcome import Handled
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import METHODS, Method

__all__ = ["Binding", "Handler", "MethodTable", "bind", "methods_of"]

Handler = Callable[[Caller, Any], Handled]
"""Takes the caller and the typed parameters; refuses with a `RequestError`."""


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


class MethodTable(dict[str, Binding]):
    """The bindings of all methods, by name: the type under which a core has them."""


def bind(handlers: Mapping[str, Handler]) -> MethodTable:
    """Return the table; a method without a handler, or the other way round, is a mistake."""
    if unbound := METHODS.keys() ^ handlers.keys():
        raise AssertionError(f"methods and handlers differ: {sorted(unbound)}")
    return MethodTable(
        (name, Binding(METHODS[name], handler)) for name, handler in handlers.items()
    )


def methods_of(extensions: Extensions) -> MethodTable:
    """Return the table that a core was given."""
    table = extensions.get(MethodTable)
    assert table is not None, "whoever builds a core gives it the methods"
    return table
