"""The dispatch table: from a method's name to what decodes its parameters and handles it.

The table itself is in `recordd.methods.table`; a core gets it when it is built, so that a
front finds it there and knows no handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from recordd.extending.extensions import Extensions
from recordd.methods.caller import Caller
from recordd.methods.gate import Grants, check_grants, is_granted
from recordd.methods.outcome import Handled
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import METHODS, Method

__all__ = ["Binding", "Handler", "MethodTable", "bind", "methods_of"]

Handler = Callable[[Caller, Any], Handled]
"""Takes the caller and the typed parameters; refuses with a `RequestError`."""


class Binding:
    """A method and its handler.

    `is_short`: it is about one record by its name, which takes some µs, and its handler returns
    an `Answer` or a write, never long work.
    """

    __slots__ = ("_decode", "handle", "is_query", "is_short", "is_write", "method")

    def __init__(self, method: Method, handle: Handler) -> None:
        self.method: Final = method
        self.handle: Final = handle
        self.is_write: Final = method.is_write
        self.is_query: Final = method.is_query
        self.is_short: Final = method.records is not None and method.records.form == "name"
        self._decode: Final = msgspec.json.Decoder(method.params).decode

    def admit(self, caller: Caller, params: bytes | msgspec.Struct | RequestError) -> Any:
        """Return the typed parameters of a call that the caller may make; then `handle` it.

        Raises:
            RequestError: `denied`; `invalid_params`, naming the parameter.
        """
        typed: Any = params
        try:
            if isinstance(params, bytes):
                typed = self._decode(params)
            elif isinstance(params, RequestError):
                raise params
        except RecursionError:
            raise RequestError(Reason.INVALID_PARAMS, "params: nested too deep") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            text = str(error).replace("`$.", "`").replace("`$[...]", "params: `")
            raise RequestError(Reason.INVALID_PARAMS, text) from None
        check_grants(caller.grants, self.method)
        return typed


class MethodTable(dict[str, Binding]):
    """The bindings of all methods, by name: the type under which a core has them."""

    def __init__(self, bindings: Iterable[tuple[str, Binding]]) -> None:
        super().__init__(bindings)
        self._by_grants: Final[dict[Grants, Mapping[str, Binding]]] = {}

    def granted_to(self, grants: Grants) -> Mapping[str, Binding]:
        """Return the bindings that a caller with these grants may use.

        All callers with the same share one: as many as there are sets of three accesses.
        """
        if (granted := self._by_grants.get(grants)) is None:
            granted = {n: b for n, b in self.items() if is_granted(grants, b.method)}
            self._by_grants[grants] = granted
        return granted

    def __missing__(self, name: str) -> Binding:
        raise RequestError(Reason.METHOD_NOT_FOUND, f"there is no method {name[:100]!r}")


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
